"""What is saved on disk: cohorts, runs, bundles, checkpoints and patch maps. Never a pickle."""
