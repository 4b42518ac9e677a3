"""Training a depth network on what LiDAR measured."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.samples import Batch, DepthSamples
from kd3d_core.depth.loss import silog_loss
from kd3d_core.depth.metrics import depth_totals, finish
from kd3d_core.depth.model import DepthModel
from kd3d_core.errors import ConfigError
from kd3d_core.runtime.model_config import ModelConfig, save_model_config
from kd3d_core.training.config import TrainConfig
from kd3d_core.training.identity import digests_of
from kd3d_core.training.loop import collated


class DepthLosses(nn.Module):
    """Batch to named losses."""

    def __init__(self, depth: DepthModel) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The scale-invariant logarithmic loss."""
        assert batch.depth is not None
        depth = self.depth(batch.images / 255)
        return {"silog": silog_loss(depth.float(), batch.depth)}


class DepthTask:
    """Learns depth; validated by the absolute relative error at up to 80 m."""

    score_name = "abs_rel"

    def __init__(
        self,
        config: TrainConfig,
        model: ModelConfig,
        depth: DepthModel,
        train: KittiDataset,
        val: KittiDataset,
    ) -> None:
        for frames in (train, val):
            frames.require(("image_2", "calib"))
            frames.require_lidar()
        self.digests = digests_of(model.depth)
        self.model = DepthLosses(depth)
        self._model_config = model
        window = model.depth.window
        if window is None or window.mode == "fit":
            raise ConfigError(
                "depth.window follows the image here, and the images of a batch need one size: "
                "give the model's depth.window a size and mode crop"
            )
        # Through the configuration, which knows what sizes its network can take.
        window = replace(model.depth, window=window.scaled(config.window_scale)).window
        assert window is not None
        self.samples = DepthSamples(train, window, config.augment, config.seed)
        self._val = DepthSamples(val, window)
        self._batch_size = config.batch_size
        self._cap_m = float(model.depth.max_depth)

    @torch.inference_mode()
    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The depth measures of `kd3d_core.depth.metrics`, each the mean over images."""
        assert isinstance(model, DepthLosses)
        totals = []
        for batch in collated(self._val, self._batch_size):
            moved = batch.to(device)
            assert moved.depth is not None
            answer = model.depth(moved.images / 255).float()
            totals.append(depth_totals(answer, moved.depth, cap=self._cap_m))
        (scores,) = finish(torch.stack(totals).sum(0))
        return scores.per_image

    def is_better(self, score: float, best: float) -> bool:
        """A smaller error is better."""
        return score < best

    def scalars(self, epoch: int) -> dict[str, float]:
        """None: all epochs are alike."""
        return {}

    def export(self, model: nn.Module, out: Path) -> None:
        """A transformers folder, `out/depth`, and `out/model.yaml` that names it."""
        assert isinstance(model, DepthLosses)
        model.depth.save(out / "depth")
        depth = replace(self._model_config.depth, weights="./depth")
        save_model_config(replace(self._model_config, depth=depth), out / "model.yaml")
