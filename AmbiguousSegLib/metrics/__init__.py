"""Figures that compare masks: pure functions on masks that know neither volumes nor models, and need no torch.

`figures` is the registry of all figures; a new one is one decorated function in a module of this room.
"""
