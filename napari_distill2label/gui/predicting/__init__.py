"""Steps 3 and 4, prediction and review: what a model says of patches, and what a person says to that."""
