"""Light and camera as augmentation: other shadows, exposure, colours, noise, blur and compression.

Nothing here moves a pixel, so that depth and boxes stay as they are. Shadows, exposure and white
balance act on linear light, as they do in the world, and the rest on the image that comes of it.
"""

import math

import cv2
import numpy as np
import torch
from torch.nn import functional

from kd3d_core.data.photometric_config import PhotometricConfig

_GAMMA = 2.2
_EDGE_PX = 1.5  # how soft the edge of a shadow is
_SKYLIGHT = (0.92, 1.0, 1.12)  # what is left in a shadow is bluer
_LARGEST_SHADOWS = 3


def change_light(image: torch.Tensor, config: PhotometricConfig, seed: int) -> torch.Tensor:
    """A `(3, H, W)` image, RGB 0 to 255, as another camera might take it in other light.

    The same seed makes the same change.

    >>> import torch
    >>> image = torch.full((3, 2, 2), 100.0)
    >>> brighter = change_light(image, PhotometricConfig(exposure=1.0), seed=1)
    >>> bool((change_light(image, PhotometricConfig(), seed=1) == image).all())
    True
    >>> brighter.unique().numel()
    1
    """
    if config == PhotometricConfig():
        return image
    draw = torch.Generator().manual_seed(seed)
    light = (image.clamp(0, 255) / 255) ** _GAMMA
    height, width = image.shape[-2:]
    if _uniform(draw) < config.shadow:
        light = light * _shade(_bands(height, width, draw), _between(0.15, 0.6, draw))
    if _uniform(draw) < config.dapple:
        light = light * _shade(_spots(height, width, draw), _between(0.2, 0.6, draw))
    gain = 2 ** _between(-config.exposure, config.exposure, draw)
    tint = (torch.randn(3, 1, 1, generator=draw) * config.white_balance).exp()
    light = light * gain * tint
    if _uniform(draw) < config.glare:
        light = light + _veil(height, draw)
    low = math.log1p(config.gamma)
    tone = math.exp(_between(-low, low, draw))
    shown = light.clamp(0, 1) ** (tone / _GAMMA) * 255
    shown = _blurred(shown, _between(0, config.blur, draw))
    deviation = _between(0, config.noise, draw)
    if deviation:
        # Of photons: it grows with the root of the light, about half of it in the dark.
        spread = deviation * (0.25 + 0.75 * shown / 128).clamp(min=0.25).sqrt()
        shown = shown + spread * torch.randn(shown.shape, generator=draw)
    return _compressed(shown.clamp(0, 255), round(_between(config.jpeg, 100, draw)))


def _uniform(draw: torch.Generator) -> float:
    return float(torch.rand((), generator=draw, dtype=torch.float64))


def _between(low: float, high: float, draw: torch.Generator) -> float:
    return low + (high - low) * _uniform(draw)


def _shade(lit: torch.Tensor, kept: float) -> torch.Tensor:
    """`(3, H, W)` factors on the light, where `lit` `(H, W)` is 1 in the sun and 0 in the shade."""
    shaded = kept * lit.new_tensor(_SKYLIGHT)[:, None, None]
    return lit + (1 - lit) * shaded


def _bands(height: int, width: int, draw: torch.Generator) -> torch.Tensor:
    """Shadows of poles, walls and houses: bands of any direction and width."""
    rows = torch.arange(height)[:, None] / height
    columns = torch.arange(width)[None] / width
    lit = torch.ones(height, width)
    for _ in range(1 + int(_between(0, _LARGEST_SHADOWS, draw))):
        angle = _between(0, math.pi, draw)
        across = (columns - _uniform(draw)) * math.cos(angle) + (rows - _uniform(draw)) * math.sin(
            angle
        )
        inside = (_between(0.02, 0.35, draw) - across.abs()) * min(height, width) / _EDGE_PX
        lit = torch.minimum(lit, 1 - inside.clamp(-6, 6).sigmoid())
    return lit


def _spots(height: int, width: int, draw: torch.Generator) -> torch.Tensor:
    """Sun through leaves: noise of one size, cut at a level; spots on a road look flat."""
    size = _between(3, 24, draw)
    cells = (max(2, round(height / size)), max(2, round(width / (size * _between(1, 3, draw)))))
    noise = torch.randn(1, 1, *cells, generator=draw)
    smooth = functional.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
    return ((smooth[0, 0] - _between(-0.5, 0.8, draw)) * 6).sigmoid()


def _veil(height: int, draw: torch.Generator) -> torch.Tensor:
    """`(H, 1)` light that a low sun and a dirty lens add, less of it further down."""
    rows = torch.arange(height)[:, None] / height
    return _between(0.03, 0.35, draw) * (-rows * _between(0.5, 4, draw)).exp()


def _blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    if sigma < 0.2:
        return image  # as good as sharp
    rows_last = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(cv2.GaussianBlur(rows_last, (0, 0), sigma)).permute(2, 0, 1)


def _compressed(image: torch.Tensor, quality: int) -> torch.Tensor:
    if quality >= 100:
        return image
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).round().to(torch.uint8).numpy())
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR)).permute(2, 0, 1).float()
