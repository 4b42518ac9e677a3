"""Image messages as arrays, without copying pixels where that can be."""

import numpy as np
from sensor_msgs.msg import Image

from kd3d_core.messages.pixels import PixelsError, decode_rgb
from kd3d_core.runtime.rejection import BadImageError


def image_view(message: Image) -> np.ndarray:
    """The pixels of an image message as red, green, blue, as `decode_rgb` gives them.

    Returns:
        `(height, width, 3)` uint8.

    Raises:
        BadImageError: with the kind of the `PixelsError`.
    """
    try:
        return decode_rgb(
            message.height,
            message.width,
            message.step,
            message.encoding,
            message.data,
            bool(message.is_bigendian),
        )
    except PixelsError as error:
        raise BadImageError(error.kind, str(error)) from None
