"""Which topics of a recording are taken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_recording import START_NS, boxes, camera, image, info, scans, static, write

from kd3d_core.data.bag import BagReader
from kd3d_core.errors import DataError
from kd3d_core.extract.config import ExtractConfig
from kd3d_core.extract.topics import RecordingTopics, choose_topics, set_names
from kd3d_core.messages.types import CompressedImage


def chosen(path: Path, recorded, **settings) -> RecordingTopics:
    with BagReader(write(path / "bag", recorded)) as reader:
        return choose_topics(reader, ExtractConfig(**settings))


def depth(topic: str):
    zeros = np.zeros(24 * 48 * 2, np.uint8)
    return topic, START_NS, replace(image(0, START_NS), encoding="16UC1", step=96, data=zeros)


def test_depth_and_compressed_copies_are_no_cameras(tmp_path: Path) -> None:
    jpeg = CompressedImage(START_NS, "camera", "jpeg", np.zeros(4, np.uint8))
    recorded = [
        *camera(2), depth("/depth/image"), ("/depth/camera_info", START_NS, info(START_NS)),
        ("/camera/image_raw/compressed", START_NS, jpeg), static(START_NS), *scans(2),
    ]  # fmt: skip
    topics = chosen(tmp_path, recorded)
    assert [each.images for each in topics.cameras] == ["/camera/image_raw"]
    assert (topics.points, topics.labels) == ("/points", "")


def test_of_several_cameras_those_with_a_calibration_are_taken(tmp_path: Path) -> None:
    recorded = [
        *camera(1, "front"), *camera(1, "rear"), ("/debug/image", START_NS, image(0, START_NS)),
    ]  # fmt: skip
    topics = chosen(tmp_path, recorded)
    assert {each.images for each in topics.cameras} == {"/front/image_raw", "/rear/image_raw"}
    topics = chosen(
        tmp_path / "named", recorded, images=("/debug/image",), infos=("/rear/camera_info",)
    )
    ((images, infos),) = [(each.images, each.infos) for each in topics.cameras]
    assert (images, infos) == ("/debug/image", "/rear/camera_info")


def test_several_topics_with_labels_must_be_told_apart(tmp_path: Path) -> None:
    recorded = [*camera(1), ("/one", START_NS, boxes(1)), ("/two", START_NS, boxes(1))]
    with pytest.raises(DataError, match=r"is on /.*: choose with --labels"):
        chosen(tmp_path, recorded)
    assert chosen(tmp_path / "named", recorded, labels="/two").labels == "/two"


def test_each_camera_needs_its_file_of_extrinsics(tmp_path: Path) -> None:
    recorded = [*camera(1, "front"), *camera(1, "rear"), *scans(1)]
    with pytest.raises(DataError, match="--extrinsics names 1 files for 2 cameras"):
        chosen(tmp_path, recorded, extrinsics=("rig.yaml",))


def test_names_of_folders() -> None:
    assert set_names(["/a/left/image", "/a/right/image"]) == {
        "/a/left/image": "a_left",
        "/a/right/image": "a_right",
    }
    assert list(set_names(["/rig/left", "/rig/right"]).values()) == ["rig_left", "rig_right"]
