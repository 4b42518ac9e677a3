"""Model configurations: what is written is read again, and weights beside a file are found."""

from dataclasses import replace

import pytest

from kd3d_core.errors import ConfigError
from kd3d_core.models import config as model_config
from kd3d_core.models.config import load_model_config, save_model_config
from kd3d_core.paths import share_dir

NAMES = sorted(path.stem for path in (share_dir() / "config" / "models").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(tmp_path, name):
    config = load_model_config(name)
    path = tmp_path / "there" / "model.yaml"
    save_model_config(config, path)
    assert load_model_config(path) == config


def test_files_of_older_versions_have_no_type(tmp_path):
    config = load_model_config("lite")
    path = tmp_path / "model.yaml"
    save_model_config(config, path)
    first, rest = path.read_text().split("\n", 1)
    assert first == "type: pseudo_lidar"
    path.write_text(rest)
    assert load_model_config(path) == config


def test_an_unknown_type_lists_the_known_ones(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("type: radar\n")
    with pytest.raises(ConfigError, match=r"type is 'radar': use one of pseudo_lidar, lidar"):
        load_model_config(path)


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


@pytest.fixture
def share(tmp_path, monkeypatch):
    """A folder of configuration with the model `lite`, and no weights."""
    folder = tmp_path / "share"
    save_model_config(load_model_config("lite"), folder / "config" / "models" / "lite.yaml")
    monkeypatch.setattr(model_config, "share_dir", lambda: folder)
    return folder


def test_a_packed_model_has_the_name_of_its_folder(share):
    config = load_model_config("lite")
    packed = replace(config, detector=replace(config.detector, weights="./detector.safetensors"))
    save_model_config(packed, share / "weights" / "mine" / "model.yaml")
    found = load_model_config("mine").detector.weights
    assert found == str(share / "weights" / "mine" / "detector.safetensors")
    with pytest.raises(ConfigError, match=r"'x': use lite, mine or a \.yaml file"):
        load_model_config("x")


def test_without_the_shipped_model_it_says_where_that_comes_from(share):
    with pytest.raises(
        ConfigError, match=r"'demo' is missing in .*/share/weights/demo: .*weights/README"
    ):
        load_model_config("demo")
