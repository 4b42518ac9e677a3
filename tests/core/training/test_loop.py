"""The training loop: resuming, checkpoints, runs that must stop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kd3d_core.data.samples import Sample
from kd3d_core.errors import WeightsError
from kd3d_core.training import checkpoint
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig
from kd3d_core.training.loop import TrainingError, train

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
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 1)
        )

    def forward(self, batch) -> dict[str, torch.Tensor]:
        answer = self.layers(batch.images)[:, 0]
        return {"square": (answer - batch.images.mean((1, 2, 3))).square().mean()}


class Noise:
    """A task on `Frames`; stops the process at a given step if asked to."""

    score_name = "error"

    def __init__(self, model: nn.Module | None = None) -> None:
        torch.manual_seed(1)
        self.model = model or Network()
        self.samples = Frames()

    def validate(self, model, device) -> dict[str, float]:
        assert not model.training
        with torch.inference_mode():
            frames = torch.stack([self.samples[i].image for i in range(10)])
            error = (model.layers(frames)[:, 0] - frames.mean((1, 2, 3))).abs().mean()
        return {"error": float(error)}

    def is_better(self, score: float, best: float) -> bool:
        return score < best

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


@pytest.mark.parametrize("steps", [1, 5, 8, 11])
def test_an_interrupted_run_ends_bit_for_bit_like_one_that_was_not(tmp_path, steps):
    whole = train(config(tmp_path / "whole"), Noise())
    torch.manual_seed(1)
    task = Noise(StopsAt(steps))
    with pytest.raises(InterruptedRunError):
        train(config(tmp_path / "parts"), task)
    rest = train(config(tmp_path / "parts"), Noise())
    assert (rest.steps, rest.losses, rest.metrics) == (16, whole.losses, whole.metrics)
    for name in ("latest", "best"):
        one, other = (
            (tmp_path / run / name / "model.safetensors").read_bytes() for run in ("whole", "parts")
        )
        assert one == other


def test_a_run_that_is_finished_takes_no_more_steps(tmp_path):
    train(config(tmp_path), Noise())
    before = (tmp_path / "latest" / "model.safetensors").read_bytes()
    again = train(config(tmp_path), Noise())
    assert again.steps == 16
    assert (tmp_path / "latest" / "model.safetensors").read_bytes() == before


def test_what_a_run_leaves(tmp_path):
    summary = train(config(tmp_path), Noise())
    meta = json.loads((tmp_path / "latest" / "meta.json").read_text())
    assert meta["step"] == summary.steps == 16
    assert meta["metrics"] == summary.metrics
    assert meta["config"]["optimizer"]["lr"] == 1e-2
    assert (tmp_path / "config.yaml").is_file()
    assert (tmp_path / "exported").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".new", ".old")]


def test_loss_that_is_not_finite_stops_the_run_and_names_the_frames(tmp_path):
    class Breaks(Network):
        def forward(self, batch):
            named = super().forward(batch)
            return {"square": named["square"] * (torch.nan if "frame7" in batch.names else 1)}

    with pytest.raises(TrainingError, match="frame7"):
        train(config(tmp_path), Noise(Breaks()))
    assert not (tmp_path / "best").exists()


def test_an_epoch_without_any_loss_stops_the_run(tmp_path):
    class Silent(Network):
        def forward(self, batch):
            return {"square": super().forward(batch)["square"] * 0}

    with pytest.raises(TrainingError, match="no annotation"):
        train(config(tmp_path), Noise(Silent()))


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    train(config(tmp_path), Noise())
    weights = tmp_path / "latest" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(WeightsError, match="delete it to start again"):
        train(config(tmp_path), Noise())


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    network = Network()
    checkpoint.save(tmp_path / "latest", network, {"step": 3}, {"step": 3})
    (tmp_path / "latest").rename(tmp_path / "latest.old")
    found = checkpoint.find(tmp_path / "latest")
    assert checkpoint.load(found, Network())["step"] == 3
    checkpoint.save(tmp_path / "latest", network, {"step": 4}, {"step": 4})
    assert checkpoint.load(checkpoint.find(tmp_path / "latest"), Network())["step"] == 4
