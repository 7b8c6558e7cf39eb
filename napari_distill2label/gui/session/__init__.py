"""What the window knows and can do: slides, labels, models, predictions, corrections. No Qt."""
