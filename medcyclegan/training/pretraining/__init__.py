"""Supervised training on pairs: slices of synthetic patients, generated during the training, or of a slice store."""
