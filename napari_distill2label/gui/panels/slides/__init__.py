"""Step 1, the slides: table, classes, tissue masks."""
