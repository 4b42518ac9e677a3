"""Another range for a design: everything in its config that depends on the range follows."""

from math import prod
from typing import Any

from mmengine.config import ConfigDict

from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.errors import ConfigError

Range = tuple[float, float, float, float, float, float]
"""x_min, y_min, z_min, x_max, y_max, z_max in metres, detector frame."""

_SPARSE_STRIDE = 8
"""Voxels per cell and direction behind mmdet3d's `SparseEncoder`."""


def with_range(model: ConfigDict, wanted: Range) -> ConfigDict:
    """A config of mmdet3d's with another `point_cloud_range`; changes `model` and returns it.

    Voxels, encoders and the anchors' places follow; voxels keep their size and anchors their
    height. As many voxels lie above each other as before, because layers depend on their number.

    Args:
        model: of one of our designs.
        wanted: the range.

    Raises:
        ConfigError: the range isn't made of whole voxels, or of cells that the strides divide.
    """
    layer = model.data_preprocessor.voxel_layer
    before = VoxelGrid(tuple(layer.voxel_size), tuple(layer.point_cloud_range))
    grid = VoxelGrid(before.voxel_size, wanted)
    _check(grid, before.shape[0], _stride(model))
    layer.point_cloud_range = list(wanted)
    _, ny, nx = grid.shape
    for part in _parts(model):
        if "point_cloud_range" in part:
            part.point_cloud_range = list(wanted)
        if "sparse_shape" in part:
            part.sparse_shape = [part.sparse_shape[0], ny, nx]
        if "output_shape" in part:
            part.output_shape = [ny, nx]
        if "anchor_generator" in part:
            generator = part.anchor_generator
            generator.ranges = [
                [*wanted[:2], low_z, *wanted[3:5], high_z]
                for _, _, low_z, _, _, high_z in generator.ranges
            ]
    return model


def _parts(model: ConfigDict) -> list[ConfigDict]:
    return [part for part in model.values() if isinstance(part, dict)]


def _stride(model: ConfigDict) -> int:
    """Voxels per cell of the coarsest map of the backbone."""
    parts: dict[str, Any] = {name.removeprefix("pts_"): part for name, part in model.items()}
    encoder = parts["middle_encoder"]
    sparse = encoder is not None and "sparse_shape" in encoder
    return (_SPARSE_STRIDE if sparse else 1) * prod(parts["backbone"].layer_strides)


def _check(grid: VoxelGrid, layers: int, stride: int) -> None:
    wanted = list(grid.point_cloud_range)
    for axis, count in zip("zyx", grid.shape, strict=True):
        index = "xyz".index(axis)
        low, high, size = wanted[index], wanted[index + 3], grid.voxel_size[index]
        multiple = layers if axis == "z" else stride
        step = multiple * size
        exact = abs((high - low) / size - count) < 1e-3
        if not low < high or not exact or count % multiple or (axis == "z" and count != layers):
            must = f"{step:g} m" if axis == "z" else f"a multiple of {step:g} m"
            raise ConfigError(
                f"point_cloud_range is {wanted}: along {axis} it spans {high - low:g} m, and the "
                f"design needs {must} ({size:g} m voxels)"
            )
