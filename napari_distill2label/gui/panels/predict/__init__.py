"""Steps 3 to 5: predict, review, export."""
