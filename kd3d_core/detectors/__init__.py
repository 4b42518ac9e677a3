"""3D detectors on mmdet3d's modules and configs: the only room, with `ops`, that knows mmdet3d."""

from kd3d_core.ops.mmcv_ext import install

# Before any module of this package imports mmdet3d.
install()
