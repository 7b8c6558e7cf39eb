"""One module per way of reading slide files, each with one function `open_source(path) -> Source`."""
