"""Figures that compare masks: pure functions on binary masks that know neither volumes nor models."""
