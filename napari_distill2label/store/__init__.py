"""What is kept on disk: cohorts, runs, bundles, checkpoints and maps of patches. Never a pickle."""
