"""Sample sets as files: result folders, and formats for other programs."""
