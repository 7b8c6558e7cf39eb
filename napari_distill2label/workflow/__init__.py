"""The commands, and what they share: plans, readers of slides, stores of features, measuring."""
