"""What comes from mmdet3d itself: nothing else in kd3d imports it, for it takes seconds.

Import this package's modules where they are needed, inside of functions.
"""

from kd3d_core.ops.mmcv_ext import install

# Before any module of this package imports mmdet3d.
install()
