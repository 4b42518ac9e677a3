"""Files of LiDAR points: KITTI's velodyne layout, others that `meta.json` names, and no guesswork.

KITTI writes four float32 per point: x, y, z in metres and intensity, 0 to 1. Others use the same
ending for other layouts, and nothing in a file says which. A data set says it in its `meta.json`:

    {"points": {"columns": {"x": "float32", "y": "float32", "z": "float32",
                            "intensity": "float32", "ring": "uint16"},
                "intensity_max": 255}}

`columns` has the name and type of each number of a point in the file's order (default: KITTI's),
without gaps, little endian; names other than x, y, z and intensity are skipped. `intensity_max` is
what becomes 1 (default: 1). Without it, a file whose numbers can't be KITTI's is refused, with the
layout that it looks like.
"""

import json
import math
import string
from pathlib import Path

import numpy as np

from kd3d_core.data.point_layout import KITTI_POINTS, KNOWN_LAYOUTS, PointLayout
from kd3d_core.errors import DataError

# First bytes of other files; as numbers, no coordinates.
_OTHERS = {
    b"# .PCD": "a PCD file",
    b"VERSION": "a PCD file",
    b"ply\n": "a PLY file",
    b"ply\r": "a PLY file",
    b"\x93NUMPY": "a NumPy file",
    b"PK\x03\x04": "a zip or NumPy archive",
    b"\x1f\x8b\x08\x00": "compressed with gzip",
    b"\x1f\x8b\x08\x08": "compressed with gzip",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the points with git lfs pull",
}
_TEXT = frozenset(string.printable.encode())
_TEXT_START = 64  # bytes that are looked at

FARTHEST_M = 1000.0
"""No LiDAR measures as far, along any axis."""

_NEAREST_M = 0.1
_SAMPLE = 2048  # points that are looked at closely
_FEW = 32  # points of which nothing can be told
_ODD_SHARE = 0.35


def read_points(path: Path | str, layout: PointLayout | None = None) -> np.ndarray:
    """Points of a file as `(N, 4)` float32: x, y, z in metres and intensity, 0 to 1.

    Args:
        layout: columns of the file; default: KITTI's, if that is plausible.

    Raises:
        DataError: the file can't be read, is cut off, has another layout, or points that are not
            finite or out of every LiDAR's reach.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: points cannot be read: {error}") from None
    if (what := _other_kind(data)) is not None:
        raise DataError(f"{path}: it holds no bare numbers of points but is {what}")
    assumed = layout or KITTI_POINTS
    size = assumed.dtype.itemsize
    if len(data) % size:
        hint = _hint(data) if layout is None else "the file is cut off, or has another layout"
        raise DataError(
            f"{path}: {len(data)} bytes are no whole number of points of {size} bytes ({assumed}): "
            f"{hint}"
        )
    points = assumed.decode(data)
    if (fault := _fault(points, assumed, closely=layout is None)) is not None:
        hint = _hint(data) if layout is None else "leave those out, or mend `points` in meta.json"
        raise DataError(f"{path}: {fault}: {hint}")
    if assumed.intensity_max != 1:
        points[:, 3] /= assumed.intensity_max
    return points


def _other_kind(data: bytes) -> str | None:
    """What a file is by its first bytes, if not bare numbers."""
    if (what := next((_OTHERS[key] for key in _OTHERS if data.startswith(key)), None)) is not None:
        return what
    return "text" if data and _TEXT.issuperset(data[:_TEXT_START]) else None


def _fault(points: np.ndarray, layout: PointLayout, closely: bool) -> str | None:
    """Why these can't be points of a LiDAR in the layout; None if they can."""
    if not np.abs(points[:, :3]).max(initial=0) < FARTHEST_M:
        broken = int((~np.isfinite(points[:, :3])).any(1).sum())
        if broken:
            return f"{broken} of {len(points)} points are not finite"
        far = int((np.abs(points[:, :3]) >= FARTHEST_M).any(1).sum())
        return f"{far} of {len(points)} points are {FARTHEST_M:g} m away or more"
    intensity = points[:, 3]
    lowest, highest = intensity.min(initial=0), intensity.max(initial=0)
    if not (lowest >= 0 and highest <= layout.intensity_max * 1.001):
        return f"intensity is {lowest:g} to {highest:g} and not 0 to {layout.intensity_max:g}"
    # An odd step, so that every point of a layout with twice as many numbers isn't left out.
    if closely and _are_odd(points[:: len(points) // _SAMPLE | 1, :3]):
        return "coordinates repeat, are whole numbers or next to nothing"
    return None


def _are_odd(coordinates: np.ndarray) -> bool:
    """Whether too many of `(N, 3)` coordinates look like counters, padding or halves of others.

    No LiDAR measures that near, its coordinates are no whole numbers, and few lie on its axes. All
    zeros stand for beams that met nothing.
    """
    if len(coordinates) < _FEW:
        return False
    if (np.ptp(coordinates[:, :2], axis=0) == 0).any():
        return True
    size = np.abs(coordinates)
    odd = ((size > 0) & ((size < 1e-6) | (size == np.rint(size)))).any(1)
    odd |= (size.max(1) < _NEAREST_M) | ((size == 0).sum(1) == 2)
    return bool((odd & size.any(1)).mean() > _ODD_SHARE)


def _hint(data: bytes) -> str:
    """What to do about a file that isn't as KITTI's are."""
    guess = _guess(data)
    if guess == KITTI_POINTS:
        return "leave those points out of the file"
    if guess is None:
        return (
            "the file is damaged or has an unknown layout: say in meta.json in the folder of the "
            'data set how its points are laid out ("points": {} if as KITTI\'s)'
        )
    return (
        f"it looks like {guess}; if so, put "
        f'"points": {json.dumps(guess.to_meta())} into meta.json in the folder of the data set'
    )


def _guess(data: bytes) -> PointLayout | None:
    """The known layout in which the file's first points are most like a scan; None if in none.

    Scanners write neighbours one after the other, so that the right layout has the smallest steps.
    Of those that fit equally well, the first is taken.
    """
    best, best_step = None, math.inf
    for layout in KNOWN_LAYOUTS:
        size = layout.dtype.itemsize
        if len(data) % size or len(data) < _FEW * size:
            continue
        points = layout.decode(data[: _SAMPLE * size])
        sane = np.isfinite(points).all(1) & (np.abs(points[:, :3]) < FARTHEST_M).all(1)
        if sane.mean() < 0.99 or _are_odd(points[sane, :3]):
            continue
        intensity = points[sane, 3]
        if intensity.min() < 0 or intensity.max() > 65535:
            continue
        xyz = points[sane, :3]
        step = np.median(np.linalg.norm(np.diff(xyz, axis=0), axis=1))
        with np.errstate(invalid="ignore"):  # nearly all points are 0, which is no scan
            step /= np.median(np.linalg.norm(xyz, axis=1))
        if step < 0.8 * best_step:
            highest = float(layout.decode(data[: len(data) // size * size])[:, 3].max())
            most = next((most for most in (1, 255, 65535) if highest <= most * 1.001), 1)
            best, best_step = PointLayout(layout.columns, most), step
    return best
