"""Stand-ins for what the Slicer application offers, so that tests run without it."""
