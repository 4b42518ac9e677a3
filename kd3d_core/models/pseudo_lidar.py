"""Pseudo-LiDAR: a depth map as a point cloud, computed where the depth map is.

Shapes depend on the size of the depth map only, never on its values, so nothing here waits for a
GPU: points that must not be used are marked, not removed.
"""

from functools import lru_cache

import torch
from torch.nn import functional

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.depth_maps import unprojected
from kd3d_core.models.config import PseudoLidarConfig

Bounds = tuple[int, int, int, int]
"""First row, row after the last, first column and column after the last; `ImageWindow.inside`."""


def pseudo_lidar(
    depth: torch.Tensor,
    camera: PinholeCamera,
    config: PseudoLidarConfig,
    inside: Bounds | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Back-project the kept pixels of one depth map.

    Args:
        depth: `(H, W)` metres along the optical axis; 0, negative or not finite means unknown.
        camera: of the image that `depth` belongs to, of the same size.
        config: the filters and the sampling.
        inside: rows and columns that the camera saw, see `ImageWindow.inside`; pixels beyond them
            become no points.

    Returns:
        points `(K, 4)` float32 in the detector frame, K = keep_fraction * H * W, and a mask `(K,)`
        of those that pass the filters. The others lie at the origin.
    """
    height, width = depth.shape
    pixels = _kept_pixels(height, width, config.keep_fraction, config.seed, depth.device)
    seen = None if inside is None else _within(pixels, width, inside)
    uv, kept, valid = _kept_depth(depth, pixels, config, seen)
    return _cloud(camera.unproject(uv, kept), valid, config), valid


def pseudo_lidar_at(
    depth: torch.Tensor,
    pixels: torch.Tensor,
    image_from_lidar: torch.Tensor,
    config: PseudoLidarConfig,
    seen: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `pseudo_lidar`, of pixels that the caller chooses: for training.

    Args:
        depth: `(H, W)` metres; points have gradients to it, wherever they are valid.
        pixels: `(K,)` int64, flat indices.
        image_from_lidar: `(3, 4)` projection, of an augmented world too.
        config: the filters; its sampling plays no part.
        seen: `(H, W)` bool, pixels that show what the camera saw; others become no points.

    >>> projection = torch.tensor([[100.0, 0, 1, 0], [0, 100, 0, 0], [0, 0, 1, 0]])
    >>> depth = torch.tensor([[10.0, 10.0, 99.0]])
    >>> points, valid = pseudo_lidar_at(
    ...     depth, torch.tensor([0, 2]), projection, PseudoLidarConfig(intensity=0.5))
    >>> points[0].round(decimals=3), valid.tolist()
    (tensor([-0.1000,  0.0000, 10.0000,  0.5000]), [True, False])
    """
    seen = None if seen is None else seen.flatten()[pixels]
    uv, kept, valid = _kept_depth(depth, pixels, config, seen)
    return _cloud(unprojected(uv, kept, image_from_lidar), valid, config), valid


def _within(pixels: torch.Tensor, width: int, inside: Bounds) -> torch.Tensor:
    """Mask `(K,)` of flat pixels of an image so wide."""
    row, column = pixels // width, pixels % width
    top, bottom, left, right = inside
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def _kept_depth(
    depth: torch.Tensor, pixels: torch.Tensor, config: PseudoLidarConfig, seen: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Column and row `(K, 2)`, depth `(K,)` and mask `(K,)` of flat pixels; 0 m where not valid.

    `seen` is `(K,)` bool.
    """
    width = depth.shape[1]
    depth = depth.float()
    row, column = pixels // width, pixels % width
    valid = usable(depth, config).flatten()[pixels]
    if seen is not None:
        valid = valid & seen
    kept = torch.where(valid, depth.flatten()[pixels], 0.0)
    return torch.stack([column, row], -1).to(kept.dtype), kept, valid


def _cloud(xyz: torch.Tensor, valid: torch.Tensor, config: PseudoLidarConfig) -> torch.Tensor:
    intensity = torch.full_like(xyz[:, :1], config.intensity)
    return torch.cat([xyz * valid[:, None], intensity], 1)


def usable(depth: torch.Tensor, config: PseudoLidarConfig) -> torch.Tensor:
    """Mask `(H, W)` of pixels within the depth range and without a jump to a neighbour.

    A neighbour of unknown depth makes no jump, so that sparse maps pass too.
    """
    known = (depth >= config.min_depth) & (depth < config.max_depth)  # False for NaN
    if config.max_jump == 0:
        return known
    depth = torch.where(known, depth, torch.nan)
    limit = config.max_jump * depth
    smooth = known
    for axis in (0, 1):
        jump = depth.diff(dim=axis).abs()
        before, after = ((1, 0), (0, 1)) if axis else ((0, 0, 1, 0), (0, 0, 0, 1))
        for border in (before, after):
            # Comparisons with NaN are False: an unknown neighbour never counts as a jump.
            smooth = smooth & ~(functional.pad(jump, border) > limit)
    return smooth


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is kept must serve training as well
def _kept_pixels(
    height: int, width: int, keep_fraction: float, seed: int, device: torch.device
) -> torch.Tensor:
    """Flat indices `(K,)` of the pixels that become points, in image order."""
    count = max(1, round(keep_fraction * height * width))
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(height * width, generator=generator)[:count]
    return drawn.sort().values.to(device)
