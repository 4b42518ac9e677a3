"""A task that takes milliseconds, for what the loop does around any task."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from kd3d_core.data.batch import Sample
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig
from kd3d_core.training.task import Score

CONFIG = TrainConfig(
    task="detector",
    model="lite",
    data=DataConfig(root="none"),
    out="",
    epochs=4,
    batch_size=3,
    workers=0,
    seed=5,
    precision="fp32",
    optimizer=OptimizerConfig(lr=1e-2, ema=0.9),
    validate_every=2,
    checkpoint_every=2,
)


class Frames(torch.utils.data.Dataset):
    """Ten frames of noise that change with the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(100 * self.epoch + index)
        image = torch.rand(3, 4, 4, generator=generator)
        none = torch.zeros(0)
        return Sample(f"frame{index}", image, torch.zeros(3, 4), none.view(0, 4),
                      none.view(0, 7), none.long())  # fmt: skip


class Network(nn.Module):
    """Needs random numbers, as dropout does, and keeps statistics, as batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, batch) -> dict[str, torch.Tensor]:
        answer = self.layers(batch.images)[:, 0]
        return {"square": (answer - batch.images.mean((1, 2, 3))).square().mean()}


class Noise:
    """A task on `Frames`; stops the process at a given step if asked to."""

    scores = (Score("error", higher_is_better=False),)
    has_idle_parameters = False
    paces = ()
    digests: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = model or Network()
        self.samples = Frames()

    def validate(self, model, device) -> dict[str, float]:
        assert not model.training
        with torch.inference_mode():
            frames = torch.stack([self.samples[i].image for i in range(10)])
            error = (model.layers(frames)[:, 0] - frames.mean((1, 2, 3))).abs().mean()
        return {"error": float(error)}

    def scalars(self, epoch: int) -> dict[str, float]:
        return {}

    def export(self, model, out: Path) -> None:
        (out / "exported").write_text("yes")


class InterruptedRunError(Exception):
    """Stands for a kill between two steps."""


class StopsAt(Network):
    """Interrupts its run at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def forward(self, batch):
        if self.left == 0:
            raise InterruptedRunError
        self.left -= 1
        return super().forward(batch)


def config(out: Path, **changes) -> TrainConfig:
    return replace(CONFIG, out=str(out), **changes)
