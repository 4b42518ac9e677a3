"""How a camera differs from those that a model was trained with, and what to expect of it."""

from dataclasses import dataclass

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import camera_height, camera_pitch_deg
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.card import CameraRange

# How far a camera may be from those of the training before anything is said.
_HEIGHT_TOLERANCE = 0.1
_FOCAL_TOLERANCE = 0.1
_PITCH_TOLERANCE_DEG = 1.0
_LARGEST_ENLARGEMENT = 1.5
_LEAST_FILLED = 0.85

_TRAIN = "train on frames of this camera"


def camera_notices(
    trained: CameraRange | None, camera: PinholeCamera, window: WindowConfig | None = None
) -> dict[str, str]:
    """How a camera differs from those that a model was trained with.

    >>> import numpy as np
    >>> from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
    >>> projection = np.array([[720.0, 0, 620, 0], [0, 720, 187, 0], [0, 0, 1, 0]])
    >>> car, robot = (
    ...     PinholeCamera(projection, 1242, 375, virtual_lidar_from_camera(height))
    ...     for height in (1.65, 0.8)
    ... )
    >>> camera_notices(CameraRange.of([car]), car)
    {}
    >>> list(camera_notices(CameraRange.of([car]), robot))
    ['camera_height']

    Args:
        trained: the cameras of the training; None if not known, and then there is nothing to say.
        camera: of the images that are to be used.
        window: of the depth network. With it, focal lengths are compared in its input.

    Returns:
        By kind, one line that says what differs, what to expect of it and what to do.
    """
    if trained is None:
        return {}
    lines = {
        "camera_height": _height_notice(trained, camera),
        "camera_pitch": _pitch_notice(trained, camera),
        **_image_notices(trained, camera, window),
    }
    return {kind: line for kind, line in lines.items() if line}


def _height_notice(trained: CameraRange, camera: PinholeCamera) -> str:
    height = camera_height(camera.lidar_from_camera)
    nearest = _nearest(height, trained.height_m)
    if height > 0 and abs(nearest / height - 1) <= _HEIGHT_TOLERANCE:
        return ""
    return (
        f"the camera is {height:.2f} m over the ground, and the model was trained with "
        f"{_range(trained.height_m, 2)} m: {_distances(nearest / height if height > 0 else 0)}; "
        f"check camera_height or the extrinsics, mount it as in the training, or {_TRAIN}"
    )


def _pitch_notice(trained: CameraRange, camera: PinholeCamera) -> str:
    pitch = camera_pitch_deg(camera.lidar_from_camera)
    off = pitch - _nearest(pitch, trained.pitch_deg)
    if abs(off) <= _PITCH_TOLERANCE_DEG:
        return ""
    return (
        f"the camera looks {abs(pitch):.1f} degrees {'down' if pitch > 0 else 'up'}, and the model "
        f"was trained with {_range(trained.pitch_deg, 1)} degrees (down is positive): expect "
        f"distances that are too {'long' if off > 0 else 'short'}; check the extrinsics, mount it "
        f"as in the training, or {_TRAIN}"
    )


def _image_notices(
    trained: CameraRange, camera: PinholeCamera, window: WindowConfig | None
) -> dict[str, str]:
    """Windows scale and cut images: what counts is what the network sees of them."""
    usual = trained.typical()
    seen, usually = (_Seen.of(each, window) for each in (camera, usual))
    within = all(
        low * (1 - _FOCAL_TOLERANCE) <= value <= high * (1 + _FOCAL_TOLERANCE)
        for value, (low, high) in (
            (camera.focal_px, trained.focal_px),
            (camera.width, trained.image_width),
            (camera.height, trained.image_height),
        )
    )
    if within:
        return {}
    lines = {}
    text = (
        f"the focal length is {camera.focal_px:.0f} px in images of {camera.width} x "
        f"{camera.height}, and the model was trained with {_range(trained.focal_px, 0)} px in "
        f"{_range(trained.image_width, 0)} x {_range(trained.image_height, 0)}"
    )
    factor = usually.focal_px / seen.focal_px
    if abs(factor - 1) > _FOCAL_TOLERANCE:
        lines["camera_focal"] = f"{text}: {_distances(factor)}; {_TRAIN}"
    elif seen.scale / usually.scale > _LARGEST_ENLARGEMENT:
        lines["camera_resolution"] = (
            f"{text}: images are enlarged {seen.scale / usually.scale:.1f} times as much, so "
            f"expect to find less that is far away; use larger images, or {_TRAIN}"
        )
    if seen.filled < _LEAST_FILLED * usually.filled:
        lines["camera_view"] = (
            f"{text}: images fill {seen.filled:.0%} of the height of the network's input, those of "
            f"the training {usually.filled:.0%}, so expect distances that are too short, and to "
            f"find little; use a wider lens or uncropped images, or {_TRAIN}"
        )
    return lines


@dataclass(frozen=True)
class _Seen:
    """What a network sees of a camera's images.

    Attributes:
        scale: of the image.
        focal_px: in the network's input, pixels.
        filled: share of the input's height that shows the image. What is missing at the sides is
            not seen, but changes nothing in the rest (weights/demo/README.md).
    """

    scale: float
    focal_px: float
    filled: float

    @classmethod
    def of(cls, camera: PinholeCamera, window: WindowConfig | None) -> "_Seen":
        if window is None:
            return cls(1.0, camera.focal_px, 1.0)
        part = window.window(camera)
        top, bottom, _, _ = part.inside(camera)
        return cls(part.scale, camera.focal_px * part.scale, (bottom - top) / part.height)


def _distances(factor: float) -> str:
    if not factor:
        return "expect nothing that is right"
    return f"expect distances up to {max(factor, 1 / factor):.1f} times too " + (
        "long" if factor > 1 else "short"
    )


def _nearest(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _range(bounds: tuple[float, float], digits: int) -> str:
    low, high = (f"{bound:.{digits}f}" for bound in bounds)
    return low if low == high else f"{low} to {high}"
