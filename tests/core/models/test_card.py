"""What a model says of its training: kept in files, compared with cameras, said in one line."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from kd3d_core.errors import ConfigError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.camera_notices import camera_notices
from kd3d_core.models.card import (
    ONLY_RENDERED,
    UNTRAINED,
    CameraRange,
    ModelCard,
    TrainingFrames,
    caveat,
)
from kd3d_core.models.config import load_model_config, save_model_config

TRAINED = CameraRange((1.6, 1.7), (-0.5, 0.5), (707.0, 721.5), (1224, 1242), (370, 376))
STREETS = TrainingFrames("3712 frames of kitti", camera=TRAINED)
SCENES = TrainingFrames("2000 rendered scenes", rendered=True)
CARD = ModelCard(SCENES, STREETS, {"Car": 0.4, "Cyclist": 1.0}, "best F1 on 7 frames")
WINDOW = WindowConfig((192, 640), "crop", focal_px=372.0)


def camera(
    height_m: float = 1.65,
    focal: float = 721.5,
    size: tuple[int, int] = (1242, 375),
    down_deg: float = 0.0,
) -> PinholeCamera:
    width, height = size
    projection = np.array([[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0]])
    pose = virtual_lidar_from_camera(height_m)
    angle = np.radians(down_deg)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    pose[:3, :3] = pose[:3, :3] @ turn.T
    return PinholeCamera(projection, width, height, pose)


@pytest.mark.parametrize("name", ["lite", "second_kitti"])
def test_a_card_is_written_and_read_again(tmp_path, name):
    config = replace(load_model_config(name), card=CARD)
    save_model_config(config, tmp_path / "model.yaml")
    assert load_model_config(tmp_path / "model.yaml") == config


def test_files_of_older_versions_have_no_card(tmp_path):
    config = load_model_config("lite")
    assert config.card == ModelCard()
    save_model_config(config, tmp_path / "model.yaml")
    assert "card" not in (tmp_path / "model.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score_thresholds": {"Van": 0.5}}, "card.score_thresholds has 'Van', and the classes"),
        ({"score_thresholds": {"Car": 1.5}}, "score_thresholds.Car is 1.5: give a score"),
        ({"depth": {"trained_on": "x", "camera": {"height_m": [1, 2]}}}, "camera"),
        ({"trained": "x"}, "unknown key 'card.trained'"),
    ],
)
def test_a_wrong_card_is_refused(tmp_path, change, reason):
    path = tmp_path / "model.yaml"
    save_model_config(load_model_config("lite"), path)
    path.write_text(path.read_text() + yaml.safe_dump({"card": change}))
    with pytest.raises(ConfigError, match=f"model.yaml: .*{re.escape(reason)}"):
        load_model_config(path)


@pytest.mark.parametrize("name", ["height_m", "focal_px", "image_width"])
@pytest.mark.parametrize("bounds", [(2, 1), (0, 1), (-1, 1)])
def test_a_range_that_cannot_be_is_refused(name, bounds):
    with pytest.raises(ConfigError, match=name):
        replace(TRAINED, **{name: bounds})


def test_the_range_of_cameras():
    found = CameraRange.of(
        [camera(0.8, 500, (640, 480), 3), camera(1.65, 721.53771, (1242, 375), -0.3)]
    )
    assert found == CameraRange((0.8, 1.65), (-0.3, 3.0), (500, 721.5), (640, 1242), (375, 480))


def test_what_is_only_rendered():
    cards = {
        (depth, detector): ModelCard(depth, detector).only_rendered
        for depth in (SCENES, STREETS, None)
        for detector in (SCENES, STREETS, None)
    }
    assert [pair for pair, only in cards.items() if only] == [(SCENES, SCENES)]


def test_caveats():
    rendered = ModelCard(SCENES, SCENES)
    assert caveat(False, rendered) is caveat(False, ModelCard()) is UNTRAINED
    assert caveat(True, rendered) is ONLY_RENDERED
    assert caveat(True, CARD) is caveat(True, ModelCard()) is None


def test_cameras_of_the_depth_network_come_first():
    other = replace(TRAINED, height_m=(3, 3))
    assert CARD.camera == TRAINED
    assert replace(CARD, depth=replace(SCENES, camera=other)).camera == other
    assert ModelCard().camera is None


def test_nothing_known_is_said_so():
    assert ModelCard().trained_on == ModelCard().describe_thresholds() == "not known"
    assert CARD.trained_on == "depth: 2000 rendered scenes; detector: 3712 frames of kitti"


@pytest.mark.parametrize("window", [None, WINDOW])
def test_there_is_nothing_to_say_about_cameras_like_those_of_the_training(window):
    for like in (
        camera(),
        camera(1.5, 700, (1224, 370), 1.2),
        camera(1.8, down_deg=-1.2),
        camera(size=(1920, 1080), focal=1115) if window else camera(),
    ):
        assert camera_notices(TRAINED, like, window) == {}


def test_nothing_is_said_where_nothing_is_known():
    assert camera_notices(None, camera(0.3)) == {}


def the_one(notices: dict[str, str], kind: str) -> str:
    assert list(notices) == [kind]
    (text,) = notices.values()
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("height_m", "expected"),
    [(0.8, "2.0 times too long"), (1.4, "1.1 times too long"), (3.4, "2.0 times too short")],
)
def test_a_camera_at_another_height(height_m, expected):
    text = the_one(camera_notices(TRAINED, camera(height_m), WINDOW), "camera_height")
    assert f"the camera is {height_m:.2f} m over the ground" in text
    assert "trained with 1.60 to 1.70 m" in text
    assert f"expect distances up to {expected}" in text
    assert "check camera_height or the extrinsics" in text


def test_a_camera_below_the_ground():
    pose = virtual_lidar_from_camera(0.01)
    pose[2, 3] -= 1
    below = replace(camera(), lidar_from_camera=pose)
    text = the_one(camera_notices(TRAINED, below), "camera_height")
    assert "expect nothing that is right" in text


@pytest.mark.parametrize(
    ("down_deg", "said", "expected"),
    [(4, "4.0 degrees down", "too long"), (-2, "2.0 degrees up", "too short")],
)
def test_a_camera_that_looks_up_or_down(down_deg, said, expected):
    text = the_one(camera_notices(TRAINED, camera(down_deg=down_deg), WINDOW), "camera_pitch")
    assert said in text
    assert f"expect distances that are {expected}" in text


def test_another_focal_length_matters_where_no_window_undoes_it():
    half = camera(focal=360.75, size=(1242, 375))
    text = the_one(camera_notices(TRAINED, half), "camera_focal")
    assert "the focal length is 361 px in images of 1242 x 375" in text
    assert "trained with 707 to 722 px in 1224 to 1242 x 370 to 376" in text
    assert "expect distances up to 2.0 times too long" in text
    assert "camera_focal" not in camera_notices(TRAINED, half, WINDOW)
    unscaled = replace(WINDOW, focal_px=None)
    assert "camera_focal" in camera_notices(TRAINED, half, unscaled)


def test_small_images_are_enlarged():
    small = camera(focal=240, size=(414, 125))
    text = the_one(camera_notices(TRAINED, small, WINDOW), "camera_resolution")
    assert "images are enlarged 3.0 times as much" in text


def test_a_low_image_leaves_the_window_empty():
    low = camera(size=(1242, 225))
    text = the_one(camera_notices(TRAINED, low, WINDOW), "camera_view")
    assert "images fill 60% of the height of the network's input" in text
    assert "those of the training 100%" in text
    assert "too short" in text
    webcam = camera(focal=520, size=(640, 480))  # narrow, but high enough
    assert camera_notices(TRAINED, webcam, WINDOW) == {}
