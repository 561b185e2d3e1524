"""What follows from a set of masks: maps, consensus, modes, where they disagree."""
