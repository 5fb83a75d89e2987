"""What is watched while a run trains: metrics, validation, health, pictures, trackers."""
