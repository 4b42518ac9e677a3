"""3D detectors on mmdet3d's modules and configs: the only room, with `ops`, that knows mmdet3d."""
