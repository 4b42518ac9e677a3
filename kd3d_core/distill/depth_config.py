"""LearnDepthConfig: how a student's depth network learns, as `config/train/*.yaml` say it."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from kd3d_core.config import check_each
from kd3d_core.errors import ConfigError

DepthLayers = Literal["none", "decoder", "all"]


@dataclass(frozen=True)
class LearnDepthConfig:
    """Depth in the loop: points are made of the images in each step, and their gradient goes on.

    Its losses are the parts `depth_pixels`, `depth_objects` and `depth_image`, with weights in the
    phases; besides, what detection and teacher say of the points reaches the depth network.

    Attributes:
        layers: what learns: nothing (points are only drawn anew in each step), all but the image
            encoder, or all. Batch norms keep their statistics.
        truth: of objects: what LiDAR measured in their boxes, or where the boxes themselves begin,
            for frames without LiDAR. `depth_image` always needs LiDAR.
        beta: error of a pixel's log-depth below which `depth_pixels` is a square.
        variance_focus: of `depth_image`; see `silog_loss`.
        gradient: factor on what detection and teacher say of the points, at first and at last.
        gradient_rise: share of the run's steps in which it rises from one to the other.
        anneal: share of the run's steps in which the points move from true to predicted depth;
            0 begins with predicted depth.
        within_px: how far from its pixel a LiDAR return may stand for true depth, for `anneal` and
            a teacher that reads `true_depth`.
        lr_factor: of the learning rate, for the depth network.
        clip: largest norm of the depth network's gradients; 0 doesn't clip.
    """

    layers: DepthLayers = "decoder"
    truth: Literal["lidar", "boxes"] = "lidar"
    beta: float = 0.02
    variance_focus: float = 0.15
    gradient: tuple[float, float] = (0.1, 1.0)
    gradient_rise: float = 0.25
    anneal: float = 0.0
    within_px: float = 4.0
    lr_factor: float = 0.2
    clip: float = 1.0

    def __post_init__(self) -> None:
        group, advice = "learn_depth", "it can't be negative"
        shares = ("variance_focus", "gradient_rise", "anneal")
        check_each(self, shares, lambda value: 0 <= value <= 1, "give 0 to 1", group)
        above_0 = ("beta", "within_px", "lr_factor")
        check_each(self, above_0, lambda value: 0 < value < inf, "it must be above 0", group)
        check_each(self, ("clip",), lambda value: 0 <= value < inf, advice, group)
        if not 0 <= min(self.gradient) <= max(self.gradient) < inf:
            raise ConfigError(f"{group}.gradient is {min(self.gradient)}: {advice}")

    def gradient_at(self, progress: float) -> float:
        """The factor after this share of the run.

        >>> LearnDepthConfig(gradient=(0.0, 1.0), gradient_rise=0.5).gradient_at(0.25)
        0.5
        """
        first, last = self.gradient
        share = _risen(progress, self.gradient_rise)
        return first + share * (last - first)

    def predicted_share(self, progress: float) -> float:
        """How far the points have moved from true to predicted depth after this share of the run.

        >>> LearnDepthConfig(anneal=0.4).predicted_share(0.1)
        0.25
        """
        return _risen(progress, self.anneal)


def _risen(progress: float, until: float) -> float:
    """0 at first, 1 from `until` on."""
    return 1.0 if progress >= until else progress / until
