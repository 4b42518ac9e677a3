"""Model configurations: what is written is read again, and weights beside a file are found."""

from dataclasses import replace

import pytest

from kd3d_core.errors import ConfigError
from kd3d_core.paths import share_dir
from kd3d_core.runtime.model_config import load_model_config, save_model_config

NAMES = sorted(path.stem for path in (share_dir() / "config" / "models").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(tmp_path, name):
    config = load_model_config(name)
    path = tmp_path / "there" / "model.yaml"
    save_model_config(config, path)
    assert load_model_config(path) == config


def test_weights_beside_the_file_are_found_from_anywhere(tmp_path, monkeypatch):
    config = load_model_config("lite")
    config = replace(
        config,
        depth=replace(config.depth, weights="./depth"),
        detector=replace(config.detector, weights="../other/detector.safetensors"),
    )
    save_model_config(config, tmp_path / "run" / "model.yaml")
    monkeypatch.chdir(tmp_path)
    for path in ("run/model.yaml", tmp_path / "run" / "model.yaml"):
        loaded = load_model_config(path)
        assert loaded.depth.weights == str(tmp_path / "run" / "depth")
        assert loaded.detector.weights == str(tmp_path / "other" / "detector.safetensors")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=f"no model is called 'x': use .*{NAMES[0]}"):
        load_model_config("x")
