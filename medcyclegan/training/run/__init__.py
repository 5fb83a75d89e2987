"""One run: its folder, its state, its checkpoints, its loop, its signals."""
