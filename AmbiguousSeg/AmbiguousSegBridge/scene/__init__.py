"""The MRML scene: runs, and all that is put into it or read from it."""
