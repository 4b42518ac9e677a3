"""The training loop: resuming, checkpoints, runs that must stop."""

import json

import pytest
import torch
from noise_task import InterruptedRunError, Network, Noise, StopsAt, config

from kd3d_core.errors import WeightsError
from kd3d_core.training import checkpoint
from kd3d_core.training.loop import TrainingError, train


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
