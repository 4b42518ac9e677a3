"""How good a depth map is: the measures of Eigen et al. (2014), SILog and log10.

Everything is a sum over pixels and images, so a validation adds up one small tensor on the device
and reads it once at the end; tensors of several processes add up the same way:

    crop = crop_mask((height, width), "garg", device)
    totals = sum(depth_totals(model(images), depth, crop) for images, depth in batches)
    scores = finish(totals)

With prediction p and truth t in metres, over n pixels, d = ln p - ln t:

    abs_rel   mean |p - t| / t                  rmse       sqrt(mean (p - t)^2)
    sq_rel    mean (p - t)^2 / t                rmse_log   sqrt(mean d^2)
    log10     mean |log10 p - log10 t|          silog      100 sqrt(mean d^2 - (mean d)^2)
    delta_k   share of max(p / t, t / p) < 1.25^k

The literature computes these per image and then averages images; that is `per_image`. `per_pixel`
takes all pixels together, so that a frame with more truth weighs more. They differ, above all in
the measures with a square root.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Crop = Literal["none", "garg", "eigen"]

MEASURES = (
    "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog", "delta_1", "delta_2", "delta_3",
)  # fmt: skip

# Top, bottom, left and right as shares of the image, as published code has them.
_CROPS = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "eigen": (0.3324324, 0.91351351, 0.0359477, 0.96405229),
}
_SUMS = 10
"""Sums over pixels: n, |e|/t, e^2/t, e^2, d^2, |log10|, d, and three shares."""


@dataclass(frozen=True)
class DepthScores:
    """The measures over one range of distance.

    Attributes:
        pixels: how many were compared.
        images: how many had any.
        per_image: measure to mean over images of the image's value; NaN without pixels.
        per_pixel: measure to value over all pixels at once; NaN without pixels.
    """

    pixels: int
    images: int
    per_image: dict[str, float]
    per_pixel: dict[str, float]


def crop_mask(size: tuple[int, int], crop: Crop, device: torch.device | None = None) -> Tensor:
    """`(H, W)` bool: the part of the image that is judged.

    `garg` (Garg et al., 2016) and `eigen` (Eigen et al., 2014) leave out sky, bonnet and the sides;
    their shares are rounded down to pixels.
    """
    mask = torch.ones(size, dtype=torch.bool, device=device)
    if crop == "none":
        return mask
    height, width = size
    top, bottom, left, right = _CROPS[crop]
    inside = torch.zeros_like(mask)
    inside[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return inside


def judged(
    target: Tensor, mask: Tensor | None = None, cap: float = 80.0, min_depth: float = 1e-3
) -> Tensor:
    """Bool like `target`: in the mask, and with truth in (min_depth, cap); 0 means no truth."""
    valid = (target > min_depth) & (target < cap)
    return valid if mask is None else valid & mask


@torch.no_grad()
def depth_totals(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    cap: float = 80.0,
    min_depth: float = 1e-3,
    bands: tuple[float, ...] = (),
) -> Tensor:
    """Sums from which `finish` makes the scores; add them up over batches and processes.

    Nothing is copied to the host and no shape depends on the data.

    Args:
        prediction: `(B, H, W)` metres; brought into [min_depth, cap], not finite counts as
            min_depth (NaN, -inf) or cap (inf).
        target: `(B, H, W)` metres.
        mask, cap, min_depth: which pixels count, see `judged`; the mask is `(H, W)` or
            `(B, H, W)`.
        bands: K + 1 rising borders in metres of K bands [a, b) of the true distance.

    Returns:
        `(1 + K, 20)` float64: all distances, then each band.
    """
    valid = judged(target, mask, cap, min_depth)
    # Where there is no truth a 1 stands in, as NaN times 0 is NaN.
    truth = torch.where(valid, target, 1).double()
    answer = torch.nan_to_num(prediction.double(), min_depth, cap, min_depth)
    answer = torch.where(valid, answer.clamp(min_depth, cap), 1)
    error = answer - truth
    log_error = answer.log() - truth.log()
    ratio = torch.maximum(answer / truth, truth / answer)
    terms = torch.stack(
        [
            torch.ones_like(truth),
            error.abs() / truth,
            error.square() / truth,
            error.square(),
            log_error.square(),
            log_error.abs() / math.log(10),
            log_error,
            *((ratio < 1.25**power).double() for power in (1, 2, 3)),
        ],
        dim=-1,
    )
    where = [valid] + [valid & (truth >= near) & (truth < far) for near, far in pairwise(bands)]
    # (1 + K, B, 10): sums over each image's pixels.
    inside = torch.stack(where, 1).flatten(2).double()
    sums = (inside @ terms.flatten(1, 2)).transpose(0, 1)
    seen = (sums[..., :1] > 0).double()
    per_image = torch.where(seen > 0, _measures(sums), 0)
    return torch.cat([sums, seen, per_image], -1).sum(1)


def finish(totals: Tensor) -> list[DepthScores]:
    """Scores of `depth_totals`: over all distances, then in each band. Copies to the host."""
    totals = totals.cpu()
    sums, seen, per_image = totals.split([_SUMS, 1, len(MEASURES)], -1)
    return [
        DepthScores(
            int(pixels),
            int(images),
            dict(zip(MEASURES, image_values, strict=True)),
            dict(zip(MEASURES, pixel_values, strict=True)),
        )
        for pixels, images, image_values, pixel_values in zip(
            sums[:, 0].tolist(),
            seen[:, 0].tolist(),
            (per_image / seen).tolist(),
            _measures(sums).tolist(),
            strict=True,
        )
    ]


def _measures(sums: Tensor) -> Tensor:
    """`(..., 9)` measures of `(..., 10)` sums; NaN where there is no pixel."""
    mean = sums[..., 1:] / sums[..., :1]
    abs_rel, sq_rel, square, log_square, log10, log_mean, *delta = mean.unbind(-1)
    # Rounding can bring a variance of 0 just below it; NaN stays NaN.
    variance = (log_square - log_mean.square()).clamp(min=0)
    return torch.stack(
        [
            abs_rel,
            sq_rel,
            square.sqrt(),
            log_square.sqrt(),
            log10,
            100 * variance.sqrt(),
            *delta,
        ],
        -1,
    )
