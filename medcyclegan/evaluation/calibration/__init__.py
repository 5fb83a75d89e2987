"""Calibration of a model's prediction intervals on patients with ground truth."""
