"""Supervised training on pairs: slices of synthetic patients that are drawn on the fly, or pairs of a slice store."""
