"""From radiance to the bytes of an image: lens, exposure, white balance, noise and tone."""

import cv2
import numpy as np

_GAMMA = 2.2
_MID_GREY = 0.16


def expose(
    radiance: np.ndarray,
    look: np.random.Generator,
    noise: np.random.Generator,
    any_tone: bool = False,
) -> np.ndarray:
    """Image of a scene, as a camera with automatic exposure takes it.

    Args:
        radiance: `(H, W, 3)` float32 linear RGB.
        look: draws the camera's settings.
        noise: draws the noise of its pixels.
        any_tone: draw a tone curve too: hard ones lose the shade of trees and the bright sky.

    Returns:
        `(H, W, 3)` uint8 RGB.
    """
    height, width = radiance.shape[:2]
    blur, vignette = look.uniform(0.35, 0.6), look.uniform(0.05, 0.3)
    image = cv2.GaussianBlur(radiance, (0, 0), blur)
    rows = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    columns = (np.arange(width, dtype=np.float32) / width - 0.5)[None]
    image *= (1 - vignette * (rows**2 + columns**2) * 2)[..., None].astype(np.float32)
    image *= (np.exp(look.normal(0, 0.05, 3))).astype(np.float32)
    metered = np.exp(np.log(image[height // 3 :].mean(-1) + 1e-3).mean())
    image = image * (_MID_GREY / metered * 2 ** look.uniform(-0.6, 0.6))
    well, floor = look.uniform(3000, 9000), look.uniform(0.0008, 0.0025)
    deviation = np.sqrt(np.maximum(image, 0) / well + floor**2)
    noisy = image + deviation * noise.standard_normal(image.shape, np.float32)
    if any_tone:
        contrast = look.uniform(0.9, 1.8)
        noisy = _MID_GREY * (np.maximum(noisy, 0) / _MID_GREY) ** contrast
    return np.rint(255 * np.clip(noisy, 0, 1) ** (1 / _GAMMA)).astype(np.uint8)
