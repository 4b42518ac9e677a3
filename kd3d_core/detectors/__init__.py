"""3D detectors: images and points in, boxes in the detector frame out."""
