"""Values per patch of a slide: predictions, features and masks, with the files that hold them."""
