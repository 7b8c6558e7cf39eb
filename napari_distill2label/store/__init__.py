"""What a run keeps on disk: cohort, run folder, bundles, checkpoints, feature cache, `PatchMap`. Never a pickle."""
