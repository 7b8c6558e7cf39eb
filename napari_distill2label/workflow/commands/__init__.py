"""One module per command. Each command is a generator of `core.events` that returns its result."""
