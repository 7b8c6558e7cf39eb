"""What passes between the rooms: bags, patch geometry, settings, events, errors, metrics. No torch, no files, no Qt."""
