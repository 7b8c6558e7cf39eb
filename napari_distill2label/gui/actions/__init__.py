"""What a user can do, as the panels and the console call it, and what is missing for it. No Qt."""
