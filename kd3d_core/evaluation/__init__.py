"""Metrics of detections and depth maps, as papers report them."""
