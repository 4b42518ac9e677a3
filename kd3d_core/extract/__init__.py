"""From recordings to training data: matched, calibrated frames in KITTI's layout, and a report."""
