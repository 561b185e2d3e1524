"""Training of a method from a configuration: items, loop, validation, checkpoints."""
