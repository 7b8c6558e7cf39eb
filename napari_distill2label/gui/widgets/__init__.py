"""What all panels are made of: steps, status, theme, shortcuts."""
