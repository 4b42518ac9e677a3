"""Cameras, boxes and points: pure functions that take numpy arrays or torch tensors alike."""
