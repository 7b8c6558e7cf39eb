"""Step 2, training: settings, device, advice, curves, runs."""
