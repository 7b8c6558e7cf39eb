"""The command line: `distill2label …`."""
