"""Monitoring of a training run: metrics, validation, health checks, panels, trackers."""
