"""Models that a user installs, lists, verifies and removes; without torch, as Slicer's own process does it."""
