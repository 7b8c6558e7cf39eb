"""What the window knows: slides, labels, model, predictions, corrections, runs. No Qt, no napari."""
