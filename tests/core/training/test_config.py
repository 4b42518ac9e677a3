"""Training configurations and the command that reads them."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from kd3d_core.cli import train as command
from kd3d_core.cli.train import replaced_settings
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.errors import ConfigError
from kd3d_core.paths import share_dir
from kd3d_core.training.config import (
    DataConfig,
    ExtraDataConfig,
    TrainConfig,
    load_train_config,
)
from kd3d_core.training.stages import load_stages

FILES = sorted((share_dir() / "config" / "train").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_configuration_that_ships_can_be_read(path):
    stages = load_stages(path)
    outs = [f"runs/{path.stem}/{stage.name}".removesuffix("/") for stage in stages]
    assert [stage.config.out for stage in stages] == outs


@pytest.mark.parametrize("kind", ["kitti_lite", "synth_lite"])
def test_a_student_differs_from_its_control_in_being_taught(kind):
    student, control = (
        load_train_config(FILES[0].with_name(f"{kind}_{name}.yaml"))
        for name in ("distill", "pseudo")
    )
    untaught = replace(student, task="detector", teacher=None, distill=None, out=control.out)
    assert untaught == control


def test_a_student_can_be_its_own_control():
    """As the header of the file says it."""
    path = FILES[0].with_name("kitti_mvx_distill.yaml")
    words = ["x", "--task", "detector", "--teacher", "null", "--distill", "null"]
    settings = replaced_settings(words)[2:]
    student = load_train_config(path)
    control = load_train_config(path, settings)
    assert control == replace(student, task="detector", teacher=None, distill=None)


def keys_of(values: dict, prefix: str = "") -> set[str]:
    """All keys, `data.root` for those in sections; what maps classes to numbers is a value."""
    keys = set()
    for key, value in values.items():
        whole = isinstance(value, dict) and key != "sample_objects"
        keys |= keys_of(value, f"{prefix}{key}.") if whole else {prefix + key}
    return keys


def test_every_key_is_explained(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["kd3d-train", "--settings"])
    assert command.main() == 0
    explained = capsys.readouterr().out
    files = [yaml.safe_load(path.read_text()) for path in FILES]
    runs = [run for values in files for run in (values, *values.pop("stages", {}).values())]
    keys = set().union(*map(keys_of, runs))
    keys = (keys - {"teacher"}) | {"until_epoch", "weights"}
    assert not [key for key in keys if f"  --{key} " not in explained]
    assert "(type: int, default: 80)" in explained
    assert "each of distill.phases:" in explained
    assert "each of data.extra:" in explained
    assert "--stages.NAME." in explained


def test_settings_replace_those_of_the_file():
    path = FILES[0].with_name("kitti_lite.yaml")
    config = load_train_config(path, ["epochs=3", "optimizer.lr=1e-2", "augment=null"])
    assert (config.epochs, config.optimizer.lr, config.augment) == (3, 1e-2, None)
    assert config.optimizer.schedule == load_train_config(path).optimizer.schedule


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("epochs=0", "epochs is 0"),
        ("optimizer.lrr=1", "optimizer.lrr"),
        ("epochs=many", "epochs"),
        ("task.name=x", "task holds a value"),
        ("epochs", "key=value"),
        ("optimizer.ema=1.5", "ema"),
        ("optimizer.clip=-1", "clip is -1.0"),
        ("optimizer.weight_decay=-0.1", "weight_decay is -0.1"),
        ("seed=-1", "seed is -1"),
        ("workers=-2", "workers is -2"),
        ("optimizer.warmup=1", "warmup is 1.0: give 0 or more, below 1"),
        ("optimizer.ema=1", "ema is 1.0"),
        ("optimizer.ema=-0.1", "ema is -0.1"),
        ("augment.flip=2", "flip is 2.0"),
        ("window_scale=0", "window_scale is 0"),
        ("window_scale=2", "window_scale is 2"),
    ],
)
def test_wrong_settings_are_one_line(change, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        load_train_config(FILES[0].with_name("kitti_lite.yaml"), [change])
    assert "\n" not in str(caught.value)


def test_settings_are_given_in_any_mixture(monkeypatch):
    seen = []

    def load(*given):
        seen.append(given)
        raise ConfigError("that's all")

    monkeypatch.setattr("kd3d_core.training.stages.load_stages", load)
    words = "x.yaml --set epochs=3 --optimizer.lr 1e-3 --set seed=2 batch_size=4"
    monkeypatch.setattr(sys, "argv", ["kd3d-train", *words.split()])
    assert command.main() == 1
    ((path, settings),) = seen
    assert path == Path("x.yaml")
    assert sorted(settings) == ["batch_size=4", "epochs=3", "optimizer.lr=1e-3", "seed=2"]


def test_options_become_settings():
    words = ["x.yaml", "--epochs", "3", "--optimizer.lr=1e-3", "--dry-run", "--seed", "-1"]
    assert replaced_settings(words) == [
        "x.yaml", "--dry-run", "--set", "epochs=3", "optimizer.lr=1e-3", "seed=-1",
    ]  # fmt: skip
    assert replaced_settings(["x.yaml"]) == ["x.yaml"]
    with pytest.raises(SystemExit, match="--epochs needs a value"):
        replaced_settings(["x.yaml", "--epochs"])


class TestMixtures:
    def test_a_batch_has_whole_frames_of_each_set(self):
        data = DataConfig("a", extra=(ExtraDataConfig("b", 0.75),), mix="batch")
        run = TrainConfig("depth", "lite", data, "out", batch_size=4)
        assert run.per_batch == (1, 3)
        assert replace(run, data=replace(data, mix="epoch")).per_batch is None
        for size in (2, 6):
            with pytest.raises(ConfigError, match=f"a batch of {size} can't hold the shares 0.75"):
                replace(run, batch_size=size)
        with pytest.raises(ConfigError, match="has nothing to mix"):
            DataConfig("a", mix="batch")

    def test_objects_are_pasted_into_all_frames_or_none(self):
        with pytest.raises(ConfigError, match=r"data\.extra has augment\.sample_objects"):
            ExtraDataConfig("b", 0.5, augment=AugmentConfig(sample_objects={"Car": 1}))
