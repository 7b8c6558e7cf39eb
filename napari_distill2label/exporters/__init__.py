"""A `PatchMap` as files that other programs read. One module per format; here alone (y, x) becomes (x, y)."""
