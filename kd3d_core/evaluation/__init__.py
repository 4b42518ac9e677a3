"""How good detections are, in the numbers that papers report."""
