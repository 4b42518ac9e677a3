"""Ctrl-C ends a run between two steps, and nothing of it is lost."""

import logging
import os
import signal
import sys

import pytest
import torch
import yaml
from noise_task import Network, Noise, config
from safetensors.torch import load_file

from kd3d_core.cli import train as command
from kd3d_core.config import plain
from kd3d_core.training.loop import train


class AsksAt(Network):
    """Sends its process a signal in its third step, `times` times."""

    def __init__(self, number: int, times: int = 1) -> None:
        super().__init__()
        self.number, self.times, self.steps = number, times, 0

    def forward(self, batch):
        self.steps += 1
        if self.steps == 3:
            for _ in range(self.times):
                signal.raise_signal(self.number)
        return super().forward(batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_ended_and_kept_and_the_run_goes_on_as_if_nothing_had_been(tmp_path, number):
    whole = train(config(tmp_path / "whole"), Noise())
    before = signal.getsignal(number)
    settings = config(tmp_path / "run", checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        train(settings, Noise(AsksAt(number)))
    assert signal.getsignal(number) is before
    assert train(settings, Noise()).losses == whole.losses
    ours, expected = (load_file(tmp_path / run / "latest" / "model.safetensors")
                      for run in ("run", "whole"))  # fmt: skip
    assert all(torch.equal(ours[name], value) for name, value in expected.items())


def test_a_second_one_ends_it_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, checkpoint_every=100), Noise(AsksAt(signal.SIGINT, times=2)))
    assert not (tmp_path / "latest").exists()


def test_the_command_says_from_where_it_goes_on(tmp_path, monkeypatch, capsys, caplog, street):
    caplog.set_level(logging.INFO)
    out = tmp_path / "run"
    values = plain(config(out, task="depth", points="pseudo"))
    values["data"]["root"] = str(street)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr(
        "kd3d_core.training.tasks.make_task", lambda *_, **__: Noise(AsksAt(signal.SIGINT))
    )
    monkeypatch.setattr(sys, "argv", ["kd3d-train", str(tmp_path / "run.yaml")])
    assert command.main() == 130
    assert capsys.readouterr().err.endswith("kd3d-train: interrupted\n")
    assert f"the same command goes on after step 3, from {out}/latest" in caplog.text
    assert os.listdir(out / "latest")
