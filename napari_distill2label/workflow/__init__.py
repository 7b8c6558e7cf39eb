"""The verbs. Each is a generator of `core.events` that returns its result; faces drain it."""
