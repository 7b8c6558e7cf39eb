"""Tables and outlines that people write: slides with their labels, and marks on slides."""
