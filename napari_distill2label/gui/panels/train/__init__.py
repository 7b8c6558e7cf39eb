"""Step 2, training: settings, device, curves, runs."""
