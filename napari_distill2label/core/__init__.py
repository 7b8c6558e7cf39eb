"""What passes between packages: bags, patch geometry, settings, events, errors, metrics. No torch, no files, no Qt."""
