"""Names of KITTI's three benchmark classes, in the two orders in which they are used."""

KITTI_CLASSES = ("Pedestrian", "Cyclist", "Car")
"""In the order of a detector's labels: mmdet3d's, hence that of its checkpoints."""

BENCHMARK_CLASSES = ("Car", "Pedestrian", "Cyclist")
"""In the order in which KITTI's development kit evaluates them."""

NEIGHBOURS = {"Car": "Van", "Pedestrian": "Person_sitting"}
"""Classes so alike that finding one for the other is neither right nor wrong."""
