"""The depth network of a student in training: from what it sees to points with a gradient."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from kd3d_core.data.batch import Batch
from kd3d_core.data.depth_view import DepthView
from kd3d_core.depth.model import DepthModel
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.models.config import PseudoLidarConfig
from kd3d_core.models.pseudo_lidar import pseudo_lidar_at


@dataclass(frozen=True)
class DepthStep:
    """What the depth network says about a batch.

    Attributes:
        depth: `(B, h, w)` float32 metres, with the gradient of the depth network.
        view: what it saw, and what LiDAR measured there.
    """

    depth: torch.Tensor
    view: DepthView


@dataclass(frozen=True)
class Cloud:
    """Points `(N, 4)` of a batch, and the frame `(N,)` that each belongs to."""

    points: torch.Tensor
    samples: torch.Tensor


class DepthLearner(nn.Module):
    """A depth network that learns, and what makes points of its answers.

    Attributes:
        network: the depth network; always in eval mode, so that its batch norms keep the statistics
            of the many frames that it was trained on.
        settings: how it learns.
    """

    def __init__(
        self, network: DepthModel, pseudo_lidar: PseudoLidarConfig, settings: LearnDepthConfig
    ) -> None:
        super().__init__()
        self.network = network
        self.network.learn(settings.layers)
        self.settings = settings
        self._pseudo_lidar = pseudo_lidar

    def train(self, mode: bool = True) -> "DepthLearner":
        """As of any module, but for the network."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, view: DepthView) -> DepthStep:
        """Its depth of what it sees."""
        return DepthStep(self.network(view.images / 255).float(), view)

    def student_cloud(self, step: DepthStep, progress: float) -> Cloud:
        """What the student reads, after this share of the run.

        The gradient that comes back to the depth is scaled, and the depth is mixed with the true
        one, as the settings say.
        """
        factor = self.settings.gradient_at(progress)
        share = self.settings.predicted_share(progress)
        depth = step.depth.detach() + factor * (step.depth - step.depth.detach())
        if share < 1:
            known = step.view.dense > 0
            true = torch.where(known, step.view.dense, 1.0).log()
            mixed = ((1 - share) * true + share * depth.clamp(min=1e-3).log()).exp()
            depth = torch.where(known, mixed, depth)
        return self._cloud(depth, step.view)

    def assistant_batch(self, batch: Batch, view: DepthView) -> Batch:
        """A batch for a teacher that reads true depth at the student's pixels."""
        cloud = self._cloud(view.dense, view)
        return replace(
            batch, teacher_points=cloud.points, teacher_samples=cloud.samples,
            has_teacher=tuple(view.lidar.flatten(1).any(1).tolist()),
        )  # fmt: skip

    def _cloud(self, depth: torch.Tensor, view: DepthView) -> Cloud:
        """The points of the view's pixels at some depth `(B, h, w)`."""
        clouds = []
        for each, pixels, projection, seen in zip(
            depth, view.pixels, view.image_from_lidar, view.seen, strict=True
        ):
            points, valid = pseudo_lidar_at(each, pixels, projection, self._pseudo_lidar, seen)
            clouds.append(points[valid])  # all that is given counts for batch norms
        lengths = torch.tensor([len(cloud) for cloud in clouds], device=depth.device)
        frames = torch.arange(len(clouds), device=depth.device)
        return Cloud(torch.cat(clouds), frames.repeat_interleave(lengths))
