"""Long work and short reading in the background: jobs one by one, threads, and how results come back."""
