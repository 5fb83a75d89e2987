"""One training step: losses, optimizers, precision, execution."""
