"""What is known of each patch of a slide: predictions, features, masks, and the files they are kept in."""
