"""The camera: rays through its pixels, and the picture, depth and objects that they find."""

from dataclasses import dataclass

import cv2
import numpy as np

from kd3d_core.data.synthetic.drive import Moment
from kd3d_core.data.synthetic.raycast import Hits, RayCaster
from kd3d_core.data.synthetic.sensor import expose
from kd3d_core.data.synthetic.shading import radiance
from kd3d_core.geometry.camera import PinholeCamera

_SUBPIXELS = np.array([(-0.31, -0.12), (0.12, 0.31), (0.31, -0.31)])
"""Further rays through pixels on an edge, in pixels from their middle."""
_JUMP = 0.04  # change of depth between neighbouring pixels, as a share of it, that is an edge


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera sees.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        depth: `(H, W)` float32 metres along the optical axis, at the pixels' middles; inf for sky.
        owner: `(H, W)` int16 index of the object, -1 for the street and the sky.
    """

    image: np.ndarray
    depth: np.ndarray
    owner: np.ndarray


def take_picture(
    moment: Moment,
    caster: RayCaster,
    camera: PinholeCamera,
    look: np.random.Generator,
    noise: np.random.Generator,
    any_tone: bool = False,
) -> Picture:
    """Render what the camera sees; a camera with distortion takes a raw picture.

    Args:
        moment: the world.
        caster: of its mesh.
        camera: in the LiDAR's frame.
        look: draws the camera's settings.
        noise: draws the noise of this picture.
        any_tone: see `expose`.
    """
    shape = camera.height, camera.width
    rows, columns = np.indices(shape).reshape(2, -1)
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    origin, directions = pixel_rays(camera, pixels)
    hits = caster.cast(origin, directions)
    step = 1 / camera.focal_px
    color, lit = radiance(moment, caster, origin, directions, hits, step)
    owner = np.where(hits.face < 0, -1, moment.owner[hits.face]).astype(np.int16)
    edge = np.flatnonzero(_edges(moment, hits, owner, lit, shape))
    total = color[edge]
    for offset in _SUBPIXELS:
        _, more = pixel_rays(camera, pixels[edge] + offset)
        found = caster.cast(origin, more)
        total = total + radiance(moment, caster, origin, more, found, step)[0]
    color[edge] = total / (1 + len(_SUBPIXELS))
    return Picture(
        expose(color.reshape(*shape, 3), look, noise, any_tone),
        hits.distance.reshape(shape),
        owner.reshape(shape),
    )


def pixel_rays(camera: PinholeCamera, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin `(3,)` and directions `(N, 3)` of the rays through `(N, 2)` pixels, LiDAR frame.

    A direction reaches 1 m along the optical axis, so that a distance in its lengths is a depth.
    Pixels of a camera with distortion are those of the raw image.
    """
    if camera.distortion is not None:
        pixels = _rectified(camera, pixels)
    ray, origin = camera.rays
    u, v = pixels[:, 0, None], pixels[:, 1, None]
    return origin, u * ray[:, 0] + v * ray[:, 1] + ray[:, 2]


def _rectified(camera: PinholeCamera, pixels: np.ndarray) -> np.ndarray:
    """Pixels of the rectified image that raw ones belong to."""
    raw = camera.distortion
    assert raw is not None
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-9)
    found = cv2.undistortPointsIter(
        pixels[:, None],
        raw.intrinsics,
        raw.coefficients,
        raw.rectified_from_raw,
        camera.projection[:, :3],
        criteria,
    )
    return found[:, 0]


def _edges(
    moment: Moment, hits: Hits, owner: np.ndarray, lit: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Mask `(H * W,)` of pixels next to another object, material, depth or shadow."""
    material = np.where(hits.face < 0, -1, moment.mesh.material[hits.face].astype(np.int64))
    kind = ((material + 1) * 2 + lit) * 4096 + owner
    kind = kind.reshape(shape)
    near = (1 / hits.distance).reshape(shape)  # 0 for the sky
    edge = np.zeros(shape, bool)
    for ahead, behind in (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
    ):
        limit = _JUMP * np.maximum(near[ahead], near[behind])
        differ = (kind[ahead] != kind[behind]) | (np.abs(near[ahead] - near[behind]) > limit)
        edge[ahead] |= differ
        edge[behind] |= differ
    return edge.reshape(-1)
