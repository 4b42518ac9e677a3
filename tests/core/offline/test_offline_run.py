"""Detection without ROS: every frame once, what was found kept, bad frames told."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from seeing_detector import SeeingDetector, picture

from kd3d_core.data.bag import BagReader, typestore
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import read_detections
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.models.card import ModelCard
from kd3d_core.models.config import load_model_config
from kd3d_core.offline import store
from kd3d_core.offline.image_files import kitti_source
from kd3d_core.offline.run import Outcome, detect_frames
from kd3d_core.offline.sinks import (
    BagSink,
    KittiSink,
    PictureSink,
)
from kd3d_core.offline.store import ResultStore, model_digest
from kd3d_core.offline.video_sink import VideoSink

ALL = slice(None)


def run(kitti: Path, out: Path, detector: SeeingDetector, model: str = "m", **more) -> Outcome:
    source = kitti_source(kitti, ALL, 10.0)
    sinks = [
        KittiSink(out / "kitti", source.names),
        PictureSink(out / "png", source.names),
        VideoSink(out / "all.mp4", 10.0),
        BagSink(out / "bag", overwrite=True),
    ]
    results = ResultStore(out / "results", model)
    return detect_frames(source, detector, results, sinks, **more)


def contents(out: Path) -> dict[str, bytes]:
    """Everything that a user reads, by name; what rosbags notes of its own changes in a bag."""
    files = {
        path.name: path.read_bytes()
        for part in ("kitti", "png")
        for path in sorted((out / part).iterdir())
    }
    with BagReader(out / "bag") as reader:
        messages = [(raw.topic, raw.stamp_ns, raw.data) for raw in reader.messages()]
    return files | {"bag": repr(messages).encode()}


def test_every_output_says_what_the_detector_said(kitti: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(kitti, out, SeeingDetector()) == Outcome(4, 0, ())
    detector = SeeingDetector()
    expected = {
        frame.name: (detector(frame.image(), frame.camera()), frame.camera())
        for frame in KittiDataset(kitti)
    }
    assert len({answer.boxes.tobytes() for answer, _ in expected.values()}) == 4
    for name, (answer, camera) in expected.items():
        labels = box_labels(answer.boxes, answer.scores.tolist(), ["Car", "Pedestrian"], camera)
        assert len(labels) == 2
        written = read_detections(out / "kitti" / f"{name}.txt")
        assert [str(label) for label in written] == [str(label) for label in labels]
    with BagReader(out / "bag") as reader:
        found: dict[str, list] = {}
        for raw in reader.messages():
            message = raw if raw.topic == "/kd3d_detector/markers" else reader.decode(raw)
            found.setdefault(raw.topic, []).append(message)
    assert {topic: len(messages) for topic, messages in found.items()} == {
        "/kd3d_detector/points": 4,
        "/kd3d_detector/detections": 4,
        "/kd3d_detector/markers": 4,
        "/tf_static": 1,
    }
    for (answer, _), cloud, boxes in zip(
        expected.values(),
        found["/kd3d_detector/points"],
        found["/kd3d_detector/detections"],
        strict=True,
    ):
        assert cloud.frame_id == boxes.frame_id == "velodyne"
        assert cloud.stamp_ns == boxes.stamp_ns
        np.testing.assert_array_equal(cloud.points, answer.points)
        np.testing.assert_allclose(boxes.boxes, answer.boxes, atol=1e-6)
        assert boxes.names == ("Car", "Pedestrian")
        np.testing.assert_array_equal(boxes.scores, answer.scores.astype(np.float64))
    ((transform,),) = [message.transforms for message in found["/tf_static"]]
    np.testing.assert_allclose(transform.parent_from_child, camera.lidar_from_camera, atol=1e-9)


def test_markers_of_a_bag_mean_what_was_found(kitti: Path, tmp_path: Path) -> None:
    """Read with rosbags' definition of the message, which the writer doesn't use."""
    assert run(kitti, tmp_path, SeeingDetector(), score_threshold=0.5) == Outcome(4, 0, ())
    kind = "visualization_msgs/msg/MarkerArray"
    with BagReader(tmp_path / "bag") as reader:
        raws = list(reader.messages(("/kd3d_detector/markers",)))
        clouds = [reader.decode(raw) for raw in reader.messages(("/kd3d_detector/points",))]
    detector = SeeingDetector()
    for frame, raw, cloud in zip(KittiDataset(kitti), raws, clouds, strict=True):
        assert raw.type == kind
        delete, lines, text = typestore((kind,)).deserialize_cdr(raw.data, kind).markers
        for marker in (delete, lines, text):
            stamp = marker.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == raw.stamp_ns == cloud.stamp_ns
            assert marker.header.frame_id == "velodyne"
        assert (delete.action, lines.action, text.action) == (3, 0, 0)
        assert (lines.ns, text.ns, text.text) == ("boxes", "labels", "Car 0.90")
        (x, y, z, *_, height, _), _ = detector(frame.image(), frame.camera()).boxes
        center = (x, y, z + height / 2)
        ends = np.array([(point.x, point.y, point.z) for point in lines.points])
        np.testing.assert_allclose(ends[:24].mean(0), center, atol=1e-5)


def test_labels_are_drawn_where_there_are_any(kitti: Path, tmp_path: Path) -> None:
    run(kitti, tmp_path, SeeingDetector(), score_threshold=1.0)
    white = [
        (cv2.imread(str(path))[:44].min(-1) > 200).sum()
        for path in sorted((tmp_path / "png").iterdir())
    ]
    assert min(white[:2]) > 10
    assert white[2:] == [0, 0]


def test_what_is_done_is_not_done_again(kitti: Path, tmp_path: Path) -> None:
    run(kitti, tmp_path, SeeingDetector())
    before = contents(tmp_path)
    again = SeeingDetector()
    assert run(kitti, tmp_path, again) == Outcome(0, 4, ())
    assert not again.calls
    assert contents(tmp_path) == before


@pytest.mark.parametrize("change", ["image", "calibration", "model", "damage"])
def test_what_has_changed_is_done_again(kitti: Path, tmp_path: Path, change: str) -> None:
    run(kitti, tmp_path, SeeingDetector())
    training, model, affected = kitti / "training", "m", 1
    if change == "image":
        cv2.imwrite(str(training / "image_2" / "000002.png"), picture(200))
    elif change == "calibration":
        path = training / "calib" / "000002.txt"
        path.write_text(path.read_text().replace("-0.27", "-0.28"))
    elif change == "model":
        model, affected = "another", 4
    else:
        path = tmp_path / "results" / "000002.npz"
        path.write_bytes(path.read_bytes()[:200])
    again = SeeingDetector()
    assert run(kitti, tmp_path, again, model) == Outcome(affected, 4 - affected, ())
    fresh = tmp_path / "fresh"
    run(kitti, fresh, SeeingDetector())
    assert contents(tmp_path) == contents(fresh)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_run_that_is_cut_off_goes_on_where_it_was(
    kitti: Path, tmp_path: Path, end: type[BaseException]
) -> None:
    def at_the_third(image: np.ndarray) -> None:
        if image[0, 0, 0] == 80:
            raise end

    out = tmp_path / "out"
    if end is KeyboardInterrupt:  # which keeps what was made
        assert run(kitti, out, SeeingDetector(at_the_third)) == Outcome(2, 0, (), True)
    else:
        with pytest.raises(end):
            run(kitti, out, SeeingDetector(at_the_third))
    folders = ["kitti", "png", "results"]
    made = sorted(path.name for path in out.iterdir())
    assert made == (sorted([*folders, "all.mp4", "bag"]) if end is KeyboardInterrupt else folders)
    assert len(list((out / "results").iterdir())) == 2
    rest = SeeingDetector()
    assert run(kitti, out, rest) == Outcome(2, 2, ())
    assert rest.calls == [80, 120]
    run(kitti, tmp_path / "whole", SeeingDetector())
    assert contents(out) == contents(tmp_path / "whole")


def test_folders_hold_one_run_even_if_it_is_cut_off(kitti: Path, tmp_path: Path) -> None:
    def at_the_third(image: np.ndarray) -> None:
        if image[0, 0, 0] == 80:
            raise KeyboardInterrupt

    run(kitti, tmp_path, SeeingDetector(), "first")
    (kitti / "training" / "image_2" / "000001.png").write_bytes(b"no image")
    assert run(kitti, tmp_path, SeeingDetector(at_the_third), "second").interrupted
    for part in ("kitti", "png"):
        assert [path.stem for path in (tmp_path / part).iterdir()] == ["000000"]
    assert run(kitti, tmp_path, SeeingDetector(), "second").kept == 1
    for part in ("kitti", "png"):
        assert sorted(path.stem for path in (tmp_path / part).iterdir()) == [
            *("000000", "000002", "000003")
        ]


def test_bad_frames_are_left_out_with_a_reason(kitti: Path, tmp_path: Path) -> None:
    (kitti / "training" / "image_2" / "000001.png").write_bytes(b"no image")
    (kitti / "training" / "calib" / "000003.txt").unlink()
    steps: list[int] = []
    outcome = run(kitti, tmp_path, SeeingDetector(), on_frame=lambda: steps.append(1))
    assert (outcome.detected, outcome.kept) == (2, 0)
    assert [bad.name for bad in outcome.bad] == ["000001", "000003"]
    assert re.search(r"000001\.png: image cannot be read", outcome.bad[0].reason)
    assert re.search(r"000003 has no calib", outcome.bad[1].reason)
    assert len(steps) == 4
    assert sorted(path.stem for path in (tmp_path / "kitti").iterdir()) == ["000000", "000002"]


def test_no_usable_frame_is_an_error_and_leaves_nothing(kitti: Path, tmp_path: Path) -> None:
    for path in (kitti / "training" / "image_2").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(Kd3dError, match="none of the 4 frames") as caught:
        run(kitti, tmp_path / "out", SeeingDetector())
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_place_that_cannot_be_written_is_no_bad_frame(kitti: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "png").write_text("in the way")
    with pytest.raises(DataError, match=r"png/000000\.png can't be written"):
        run(kitti, tmp_path / "out", SeeingDetector())


def test_a_threshold_is_applied_to_outputs_and_not_to_what_is_kept(
    kitti: Path, tmp_path: Path
) -> None:
    run(kitti, tmp_path, SeeingDetector(), score_threshold=0.5)
    assert len(read_detections(tmp_path / "kitti" / "000000.txt")) == 1
    again = SeeingDetector()
    run(kitti, tmp_path, again)
    assert not again.calls
    assert len(read_detections(tmp_path / "kitti" / "000000.txt")) == 2


def test_the_digest_of_a_model_follows_weights_settings_device_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    config = load_model_config("lite")
    weights = tmp_path / "detector.safetensors"
    weights.write_bytes(b"one")
    trained = replace(config, detector=replace(config.detector, weights=str(weights)))
    digests = {model_digest(config, "cpu"), model_digest(config, "cuda")}
    digests |= {model_digest(replace(config, seed=1), "cpu"), model_digest(trained, "cpu")}
    assert model_digest(config, "cpu") in digests
    # What is known of a model changes none of its answers.
    card = ModelCard(score_thresholds={"Car": 0.4})
    assert model_digest(replace(config, card=card), "cpu") in digests
    weights.write_bytes(b"two")
    digests.add(model_digest(trained, "cpu"))
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    digests.add(model_digest(trained, "cpu"))
    assert len(digests) == 6
