"""What one training step does: networks, losses, optimizers, precision."""
