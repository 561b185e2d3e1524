"""Training of a method from a configuration: data set, trainer, validation, checkpoints."""
