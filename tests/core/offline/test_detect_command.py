"""The command: what it takes, what it writes, and one line for what is wrong."""

import sys
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from seeing_detector import YAML, Run, SeeingDetector, picture

from kd3d_core.cli import detect
from kd3d_core.data.bag import BagReader, BagWriter
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.kitti_bag import write_kitti_bag
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.messages.types import CompressedImage
from kd3d_core.models.card import ONLY_RENDERED, ModelCard, TrainingFrames
from kd3d_core.models.config import load_model_config, save_model_config
from kd3d_core.runtime.pipeline import CameraDetector


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_outputs_at_once(run: Run, kitti: Path, tmp_path: Path, capsys) -> None:
    assert run("data --kitti k --png p --mp4 v/a.mp4 --bag b --html h/a.html --frames 1:3") == 0
    assert "2 frames detected, 0 taken from an earlier run" in capsys.readouterr().out
    assert names(tmp_path / "k") == ["000001.txt", "000002.txt"]
    assert names(tmp_path / "p") == ["000001.png", "000002.png"]
    assert names(tmp_path / "v") == ["a.mp4"]
    assert names(tmp_path / "b") == ["b.mcap", "metadata.yaml"]
    assert "data:image/jpeg;base64," in (tmp_path / "h" / "a.html").read_text()
    assert names(tmp_path / "out" / "detect") == ["000001.npz", "000002.npz"]
    assert names(tmp_path) == ["b", "data", "h", "k", "out", "p", "v"]
    assert run("data --kitti k2") == 0
    assert "2 frames detected, 2 taken from an earlier run" in capsys.readouterr().out


def test_bags_and_images(run: Run, kitti: Path, tmp_path: Path) -> None:
    write_kitti_bag(KittiDataset(kitti), tmp_path / "drive")
    assert run("data --kitti folder") == 0
    assert run("drive --detector-frame velodyne --kitti bag") == 0
    assert run("data/training/image_2 --calib data/training/calib/000000.txt --kitti images") == 0
    assert run("data/training/image_2/000001.png --intrinsics 72 72 63 22 --kitti hand") == 0
    expected = {path.name: path.read_text() for path in (tmp_path / "folder").iterdir()}
    assert all(len(text.splitlines()) == 2 for text in expected.values())
    for other in ("bag", "images"):
        assert {p.name: p.read_text() for p in (tmp_path / other).iterdir()} == expected
    assert names(tmp_path / "hand") == ["000001.txt"]


def decoded(bag: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    with BagReader(bag) as reader:
        for raw in reader.messages([name for name in reader.topics if "markers" not in name]):
            found.setdefault(raw.topic, []).append(reader.decode(raw))
    return found


def with_jpegs(drive: Path, out: Path) -> None:
    """The same bag with compressed images."""
    with BagReader(drive) as reader, BagWriter(out) as writer:
        for name, topic in reader.topics.items():
            if name != "/camera/image_raw":
                writer.add_topic(name, topic.type, topic.qos)
        writer.add_topic("/camera/image_raw/compressed", CompressedImage.ros_type)
        for raw in reader.messages():
            if raw.topic != "/camera/image_raw":
                writer.write(raw.topic, raw.stamp_ns, raw.data)
                continue
            jpeg = cv2.imencode(".jpg", reader.decode(raw).rgb()[..., ::-1])[1].reshape(-1)
            message = CompressedImage(raw.stamp_ns, "camera_optical", "jpeg", jpeg)
            writer.write("/camera/image_raw/compressed", raw.stamp_ns, message)


@pytest.mark.parametrize("kind", ["bag", "compressed", "folder", "files"])
def test_a_bag_of_results_and_images_stands_alone(run: Run, kitti: Path, kind: str) -> None:
    """It has images and calibration as they came, and transforms from the camera to the results."""
    inputs = {
        "bag": "drive --detector-frame velodyne",
        "compressed": "packed --detector-frame velodyne",
        "folder": "data",
        "files": "data/training/image_2 --calib data/training/calib/000000.txt",
    }[kind]
    write_kitti_bag(KittiDataset(kitti), Path("drive"))
    with_jpegs(Path("drive"), Path("packed"))
    assert run(f"{inputs} --bag out1 --bag-images --kitti k1") == 0
    recorded = decoded(Path("packed" if kind == "compressed" else "drive"))
    found = decoded(Path("out1"))
    topic = "/camera/image_raw/compressed" if kind == "compressed" else "/camera/image_raw"
    for ours, original in zip(found[topic], recorded[topic], strict=True):
        assert type(ours) is type(original)
        assert ours.frame_id == "camera_optical"
        np.testing.assert_array_equal(ours.data, original.data)
    stamps = [message.stamp_ns for message in recorded[topic]]
    for name in (topic, "/camera/camera_info", "/kd3d_detector/points"):
        assert [message.stamp_ns for message in found[name]] == stamps
    # The results can be made again of this bag alone.
    assert run("out1 --detector-frame velodyne --kitti k2") == 0
    texts = [{p.name: p.read_text() for p in Path(k).iterdir()} for k in ("k1", "k2")]
    assert list(texts[0].values()) == list(texts[1].values())
    assert all(texts[0].values())
    assert run(f"{inputs} --bag out2") == 0
    assert topic not in decoded(Path("out2"))


def test_images_go_into_a_bag_only(run: Run, kitti: Path, capsys) -> None:
    assert run("data --kitti k --bag-images") == 1
    assert "--bag-images says what --bag OUT holds" in capsys.readouterr().err


def test_bad_frames_are_told_at_the_end_by_reason(run: Run, kitti: Path, capsys) -> None:
    for name, width in {"a": 126, "b": 100, "c": 100, "d": 90}.items():
        cv2.imwrite(f"{name}.png", picture(10, width))
    Path("e.png").write_bytes(b"")
    images = "a.png b.png c.png d.png e.png"
    assert run(f"{images} --intrinsics 72 72 63 22 --kitti k") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 frames detected")
    assert lines[1] == "4 frames left out:"
    assert lines[2].startswith("  2, the first is b: the image is 100 x 44")
    assert lines[3].startswith("  1, the first is d: the image is 90 x 44")
    assert lines[4].startswith("  1, the first is e: e.png: image cannot be read")
    assert run("data/training/image_2/000000.png b.png --intrinsics 72 72 63 22 --kitti k2") == 1
    Path("front.yaml").write_text(YAML)
    assert run("b.png c.png --calib front.yaml --kitti k3") == 1
    assert "none of the 2 frames can be used; b: the image is 100" in capsys.readouterr().err


def test_a_calibration_that_looks_wrong_is_told_once(run: Run, kitti: Path, caplog) -> None:
    images = "data/training/image_2/000000.png data/training/image_2/000001.png"
    assert run(f"{images} --intrinsics 72 72 63 22 --kitti k") == 0
    assert "looks wrong" not in caplog.text
    assert run(f"{images} --intrinsics 72 72 5 22 --kitti k2") == 0
    assert caplog.text.count("calibration looks wrong: the principal point (5, 22) is far") == 1


def test_a_camera_unlike_those_of_the_training_is_told_once(run: Run, kitti: Path, caplog) -> None:
    assert run("data --kitti k") == 0
    assert caplog.messages.count("000000: the camera is 9 m over the ground") == 1
    assert caplog.text.count("9 m over the ground") == 1


def test_boxes_are_shown_from_the_thresholds_of_the_model_on(
    run: Run, kitti: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector's cars score 0.9, its pedestrians 0.4."""
    scenes = TrainingFrames("7 rendered scenes", rendered=True)
    card = ModelCard(scenes, scenes, {"Car": 0.9, "Pedestrian": 0.41}, "best F1")
    monkeypatch.setattr(SeeingDetector, "card", card)
    config = replace(load_model_config("demo"), card=card)
    save_model_config(config, tmp_path / "model.yaml")

    def classes(options: str) -> list[str]:
        assert run(f"data --kitti k --model model.yaml --html h.html {options}") == 0
        text = "".join(path.read_text() for path in sorted((tmp_path / "k").iterdir()))
        return [line.split()[0] for line in text.splitlines()]

    assert classes("") == ["Car"] * 4
    said = capsys.readouterr().out.splitlines()
    assert "the model was trained on: 7 rendered scenes" in said
    assert said[-2].startswith("boxes from these scores on: Car 0.9, Pedestrian 0.41 (best F1)")
    assert "--score-threshold 0" in said[-2]
    assert said[-1] == ONLY_RENDERED.text
    page = (tmp_path / "h.html").read_text()
    assert f'role="alert">{ONLY_RENDERED.text}.' in page
    assert "<dt>trained on</dt><dd>7 rendered scenes</dd>" in page
    # Whatever the threshold was, all is kept, and shown when it is asked for.
    assert classes("--score-threshold 0") == ["Car", "Pedestrian"] * 4
    said = capsys.readouterr().out
    assert "4 taken from an earlier run" in said
    assert "boxes from these scores" not in said
    assert classes("--score-threshold 0.95") == []


def test_pictures_say_that_a_model_knows_rendered_scenes_only(
    run: Run, kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = TrainingFrames("7 rendered scenes", rendered=True)
    assert run("data --png p --frames 0:1") == 0
    plain = cv2.imread(str(tmp_path / "p" / "000000.png"))
    monkeypatch.setattr(SeeingDetector, "card", ModelCard(scenes, scenes))
    assert run("data --png p --frames 0:1") == 0
    said = cv2.imread(str(tmp_path / "p" / "000000.png"))
    assert (plain != said).any()
    assert np.nonzero((plain != said).any(-1))[0].max() < 44  # of the image, not of the cloud


@pytest.mark.parametrize(("option", "ending"), [("--kitti", "txt"), ("--png", "png")])
def test_frames_of_an_earlier_run_do_not_stay_beside_those_of_this_one(
    run: Run, kitti: Path, tmp_path: Path, capsys, option: str, ending: str
) -> None:
    assert run(f"data {option} o --frames :3") == 0
    (tmp_path / "o" / "notes.md").write_text("of the user")
    assert run(f"data {option} o --frames 1:4") == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"o holds 1 .{ending} files of other frames, the first is 000000.{ending}" in line
    assert len(names(tmp_path / "o")) == 4
    assert run(f"data {option} o --frames 1:4 --overwrite") == 0
    expected = [f"00000{number}.{ending}" for number in (1, 2, 3)]
    assert names(tmp_path / "o") == [*expected, "notes.md"]
    # More frames than before are no others.
    assert run(f"data {option} o") == 0
    assert names(tmp_path / "o") == [f"000000.{ending}", *expected, "notes.md"]


@pytest.mark.parametrize(
    "words",
    [
        "data --kitti data/training/label_2 --overwrite",
        "data/training --kitti data/training/../training/label_2",
        "data --png data/training/image_2 --overwrite",
        "data/training/image_2 --intrinsics 72 72 63 22 --png data/training/image_2 --overwrite",
        "data/training/image_2/000000.png --intrinsics 72 72 63 22 --png data/training/image_2",
    ],
)
def test_outputs_do_not_replace_inputs(
    run: Run, kitti: Path, tmp_path: Path, capsys, words: str
) -> None:
    before = {path: path.read_bytes() for path in kitti.rglob("*.*")}
    assert run(words) == 1
    assert "is where the input lies" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in kitti.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("data", "nothing to write"),
        ("nowhere --kitti k", "nowhere: there is no such file or folder"),
        ("data/training/calib --kitti k", "neither images"),
        ("data/training/image_2 --kitti k --hfov 200", "--hfov 200: give degrees from 5 to 130"),
        ("data/training/image_2 --kitti k --raw-images", "--raw-images needs the distortion"),
        ("data/training/image_2 --kitti k --pitch=-80", "--pitch -80: give degrees"),
        ("data/training/image_2 --kitti k --intrinsics 1 1 1 1 --hfov 60", "--hfov is for images"),
        ("data --kitti k --hfov 60", "is a KITTI folder, whose images"),
        ("data --kitti k --every 0", "--every 0: give 1 or more"),
        ("data/training/image_2/000000.png --watch --kitti k", "--watch is for one folder"),
        ("drive --kitti k --hfov 60", "a bag has CameraInfo"),
        ("9 --kitti k", "9 can't be opened: there is no camera /dev/video9"),
        ("gone.mp4 --kitti k", "gone.mp4: there is no such file"),
        ("data --kitti k --frames 7:9", "selects none"),
        ("data --kitti k --frames first", "write a:b"),
        ("data --kitti k --rate 0", "--rate 0"),
        ("data --kitti k --rate 1e-300", "--rate 1e-300"),
        ("data --kitti k --score-threshold 2", "--score-threshold 2"),
        ("data --kitti k --intrinsics 1 1 1 1", "is a KITTI folder, whose images"),
        ("data --kitti k --raw-images", "is a KITTI folder, whose images"),
        ("data data --kitti k", "give it as the only input"),
        ("data --kitti k --image-topic /a", "are for bags"),
        ("data/training/image_2 --kitti k --intrinsics 1 1 a 1", "write FX FY CX CY"),
        ("drive --kitti k --intrinsics 1 1 1 1", "are for images"),
        ("drive data --kitti k", "drive is a bag: give it as the only input"),
        ("drive --bag drive", "is the input"),
        ("data --bag drive", "exists already"),
        ("data --mp4 data/training/calib/000000.txt/a.mp4", "can't be written"),
        ("data --kitti k --results drive/metadata.yaml", "can't be written"),
    ],
)
def test_one_line_for_what_is_wrong(
    run: Run, kitti: Path, tmp_path: Path, capsys, words: str, reason: str
) -> None:
    write_kitti_bag(KittiDataset(kitti), tmp_path / "drive")
    before = {path: path.read_bytes() for path in (tmp_path / "drive").iterdir()}
    assert run(words) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("kd3d-detect: ")
    assert reason in line
    assert {path: path.read_bytes() for path in (tmp_path / "drive").iterdir()} == before


def test_without_rerun_the_error_says_what_to_install(
    run: Run, kitti: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run("data --rerun a.rrd") == 1
    assert "pip install rerun-sdk" in capsys.readouterr().err


def test_rerun_files(run: Run, kitti: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    assert run("data --rerun r/a.rrd") == 0
    assert names(tmp_path / "r") == ["a.rrd"]
    content = (tmp_path / "r" / "a.rrd").read_bytes()
    assert content[:3] == b"RRF"
    assert len(content) > 10_000


def test_reruns_own_reader_finds_what_the_bag_holds(run: Run, kitti: Path, tmp_path: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    chunk = pytest.importorskip("rerun.chunk", reason="this rerun-sdk can't read its files")
    assert run("data --rerun a.rrd --bag b") == 0
    rows: dict[str, list[tuple[int, dict]]] = {}
    for each in chunk.RrdReader(tmp_path / "a.rrd").stream().to_chunks():
        batch = each.to_record_batch()
        if "stamp" in batch.schema.names:
            stamps = batch.column("stamp").cast("int64").to_pylist()
            logged = batch.select([name for name in batch.schema.names if ":" in name]).to_pylist()
            rows.setdefault(each.entity_path, []).extend(zip(stamps, logged, strict=True))
    assert {path: len(found) for path, found in rows.items()} == {
        "/scene/camera": 4,
        "/scene/camera/image": 8,  # of each frame the lens and the picture
        "/scene/points": 4,
        "/scene/detections": 4,
        "/scene/truth": 4,
    }
    truth = [row for _, row in sorted(rows["/scene/truth"], key=itemgetter(0))]
    assert [bool(row.get("Boxes3D:half_sizes")) for row in truth] == [True, True, False, False]
    assert [bool(row.get("Clear:is_recursive")) for row in truth[:2]] == [False, False]
    assert [row["Clear:is_recursive"] for row in truth[2:]] == [[False], [False]]
    with BagReader(tmp_path / "b") as reader:
        clouds = [reader.decode(raw) for raw in reader.messages(("/kd3d_detector/points",))]
        founds = [reader.decode(raw) for raw in reader.messages(("/kd3d_detector/detections",))]
    points = sorted(rows["/scene/points"], key=itemgetter(0))
    boxes = sorted(rows["/scene/detections"], key=itemgetter(0))
    assert [stamp for stamp, _ in boxes] == [found.stamp_ns for found in founds]
    for cloud, found, (_, dots), (_, cuboids) in zip(clouds, founds, points, boxes, strict=True):
        np.testing.assert_array_equal(dots["Points3D:positions"], cloud.points[:, :3])
        sizes = 2 * np.array(cuboids["Boxes3D:half_sizes"])
        np.testing.assert_allclose(sizes, found.boxes[:, 3:6], atol=1e-6)
        labels = zip(found.names, found.scores, strict=True)
        assert cuboids["Boxes3D:labels"] == [f"{name} {score:.2f}" for name, score in labels]


def test_help_shows_examples(run: Run, capsys) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "kd3d-detect drive.mcap --bag out/detections" in capsys.readouterr().out


def test_the_real_detector_gives_what_it_gives_without_the_command(
    tracking: KittiDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(tracking.root), "--frames", "4:6", "--kitti", "k", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["kd3d-detect", *words, "--model", "lite"])
    assert detect.main() == 0
    detector = CameraDetector.from_config("lite", "cpu")
    for name in tracking.names[4:6]:
        frame = tracking.frame(name)
        camera = frame.camera()
        answer = detector(frame.image(), camera)
        classes = [detector.class_names[label] for label in answer.labels]
        labels = box_labels(answer.boxes, answer.scores.tolist(), classes, camera)
        assert labels
        text = "".join(f"{label}\n" for label in labels)
        assert (tmp_path / "k" / f"{name}.txt").read_text() == text
