"""Work beside the window: long jobs one by one, short reading, and how they come back."""
