"""Slides, predictions, corrections and masks as napari layers. No Qt."""
