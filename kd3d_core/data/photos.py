"""The lens of a photo: its focal length from what the camera noted, from a person, or guessed.

Nothing else of a lens is known then: the principal point is taken to be in the middle, pixels to be
square, and lines to be straight.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL.ExifTags import Base as ExifTag

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera

GUESSED_DEG = 60.0
"""Field of view over an image's longer side, where nothing is known: between phones and webcams."""

_DIAGONAL_MM = math.hypot(36.0, 24.0)  # of 35 mm film, which EXIF's equivalent refers to (CIPA)
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF's units of the focal plane
_NARROWEST_DEG, _WIDEST_DEG = 5.0, 130.0
_SAME_SHAPE = 0.02


@dataclass(frozen=True)
class FocalLength:
    """A focal length in pixels, and how it is known.

    Attributes:
        px: pixels.
        source: a few words for people, `focal length 719 px from EXIF (24 mm in 35 mm terms)`.
        doubt: what to do about it, in a sentence, where it is no more than a guess; else empty.
    """

    px: float
    source: str
    doubt: str = ""


def photo_focal_length(
    exif: Mapping[int, Any], width: int, height: int, hfov_deg: float | None = None
) -> FocalLength:
    """The focal length of an image: what a person says, else what EXIF says, else a guess.

    >>> photo_focal_length({ExifTag.FocalLengthIn35mmFilm: 26}, 4000, 3000).source
    'focal length 3005 px from EXIF (26 mm in 35 mm terms)'
    >>> photo_focal_length({}, 1280, 720, hfov_deg=90).source
    'focal length 640 px from --hfov 90'
    >>> photo_focal_length({}, 1280, 720).source
    'focal length 1109 px GUESSED (60 degrees over the longer side)'

    Args:
        exif: of the image, by number; see `kd3d_core.messages.pictures.picture_exif`.
        width: of the upright image, pixels.
        height: of the upright image, pixels.
        hfov_deg: field of view over the width, degrees.
    """
    if hfov_deg is not None:
        return FocalLength(focal_of_view(hfov_deg, width), _source(hfov_deg, width))
    try:
        px, words, reason = _from_exif(exif, width, height)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        px, words, reason = None, "", "its EXIF is damaged"
    if px is not None:
        return FocalLength(px, f"focal length {px:.0f} px from EXIF ({words})")
    px = focal_of_view(GUESSED_DEG, max(width, height))
    source = f"focal length {px:.0f} px GUESSED ({GUESSED_DEG:g} degrees over the longer side)"
    doubt = (
        f"{reason}: a field of view of {GUESSED_DEG:g} degrees over the longer side is a guess, "
        "and distances are wrong as far as it is; give --hfov DEGREES, --intrinsics or --calib"
    )
    return FocalLength(px, source, doubt)


def focal_of_view(view_deg: float, pixels: int) -> float:
    """Focal length in pixels at which so many pixels show an angle; `CalibrationError` if none.

    >>> round(focal_of_view(90.0, 1280), 3)
    640.0
    """
    if not _NARROWEST_DEG <= view_deg <= _WIDEST_DEG:
        raise CalibrationError(
            f"--hfov {view_deg:g}: give degrees from {_NARROWEST_DEG:g} to {_WIDEST_DEG:g}"
        )
    return pixels / 2 / math.tan(math.radians(view_deg) / 2)


def photo_camera(
    focal_px: float, width: int, height: int, lidar_from_camera: np.ndarray
) -> PinholeCamera:
    """A camera of which no more than the focal length is known.

    >>> photo_camera(640.0, 1280, 720, np.eye(4)).projection[:2, 2].tolist()
    [639.5, 359.5]
    """
    projection = np.array(
        [[focal_px, 0, (width - 1) / 2, 0], [0, focal_px, (height - 1) / 2, 0], [0, 0, 1, 0]]
    )
    camera = PinholeCamera(projection, width, height, lidar_from_camera)
    camera.check_view()
    return camera


def _source(hfov_deg: float, width: int) -> str:
    return f"focal length {focal_of_view(hfov_deg, width):.0f} px from --hfov {hfov_deg:g}"


def _from_exif(exif: Mapping[int, Any], width: int, height: int) -> tuple[float | None, str, str]:
    """Focal length in pixels and how it is written, or None and why there is none."""
    longer, shorter = max(width, height), min(width, height)
    taken = [int(exif.get(tag) or 0) for tag in (ExifTag.ExifImageWidth, ExifTag.ExifImageHeight)]
    if all(taken) and abs(shorter / longer * max(taken) / min(taken) - 1) > _SAME_SHAPE:
        sizes = f"{taken[0]} x {taken[1]} pixels and the picture has {width} x {height}"
        return None, "", f"EXIF says {sizes}, so it was cropped"
    in_35mm = float(exif.get(ExifTag.FocalLengthIn35mmFilm) or 0)
    millimetres = float(exif.get(ExifTag.FocalLength) or 0)
    density = float(exif.get(ExifTag.FocalPlaneXResolution) or 0)
    unit = _MM_PER_UNIT.get(int(exif.get(ExifTag.FocalPlaneResolutionUnit) or 2), 0.0)
    if in_35mm > 0:
        px = in_35mm / _DIAGONAL_MM * math.hypot(width, height)
        words = f"{in_35mm:g} mm in 35 mm terms"
    elif millimetres > 0 and density > 0 and unit > 0:
        px = millimetres / unit * density * (longer / max(taken) if all(taken) else 1.0)
        words = f"{millimetres:g} mm and the size of the sensor"
    elif millimetres > 0:
        return None, "", f"EXIF says {millimetres:g} mm but not how large the sensor is"
    else:
        return None, "", "nothing says its focal length"
    view = math.degrees(2 * math.atan(longer / 2 / px))
    if not _NARROWEST_DEG <= view <= _WIDEST_DEG:
        return None, "", f"EXIF's {words} would be a field of view of {view:.0f} degrees"
    return px, words, ""
