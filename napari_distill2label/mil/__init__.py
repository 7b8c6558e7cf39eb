"""The method: tensors in, tensors out. No files, no slides."""
