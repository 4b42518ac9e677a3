"""Image messages as arrays, without copying pixels."""

from functools import cache
from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from kd3d_core.messages.pixels import ENCODINGS, PixelsError, decode_rgb
from kd3d_core.runtime.rejection import BadImageError


def image_view(message: Image) -> np.ndarray:
    """The pixels of an image message as red, green, blue.

    rgb8, bgr8, rgba8, bgra8, mono8, 8UC1 and 8UC3 are views of the message's memory (so strides
    may be negative, or zero for mono8); everything else that cv_bridge can read is converted by
    it, where it is installed.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        BadImageError: with kind `zero_size`, `wrong_step`, `short_data` or `unknown_encoding`.
    """
    height, width = message.height, message.width
    if height and width and message.encoding not in ENCODINGS:
        return _converted(message)
    try:
        return decode_rgb(height, width, message.step, message.encoding, message.data)
    except PixelsError as error:
        raise BadImageError(error.kind, str(error)) from None


def _converted(message: Image) -> np.ndarray:
    bridge = _cv_bridge()
    if isinstance(bridge, Exception):
        raise BadImageError(
            "unknown_encoding",
            f"image encoding {message.encoding!r} is none of {', '.join(ENCODINGS)}, and "
            f"cv_bridge, which knows more, can't be loaded ({bridge}): install "
            "ros-$ROS_DISTRO-cv-bridge or let the camera publish rgb8",
        )
    try:
        return np.asarray(bridge.imgmsg_to_cv2(message, "rgb8"))
    except Exception as error:  # CvBridgeError, cv2.error, ValueError, KeyError, ...
        raise BadImageError(
            "unknown_encoding",
            f"cv_bridge cannot turn encoding {message.encoding!r} into rgb8 ({error}): "
            "let the camera publish rgb8",
        ) from None


@cache
def _cv_bridge() -> Any:
    """A CvBridge, or the exception that says why there is none. Tried once, not for each frame."""
    # Not ImportError alone: apt's cv_bridge is built against numpy 1 and fails under numpy 2 in
    # several ways, and with a page of warnings.
    try:
        from cv_bridge import CvBridge

        return CvBridge()
    except Exception as error:
        return error
