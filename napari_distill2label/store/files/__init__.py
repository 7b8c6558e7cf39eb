"""Safe files: written whole or not at all, never over what somebody else wrote, checked when they are read."""
