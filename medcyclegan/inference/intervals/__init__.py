"""Calibrated prediction intervals of translations, the expected error of a case, and unfamiliar inputs."""
