"""Readers of what lies on disks: one file for each layout, registered in ``data.readers``."""
