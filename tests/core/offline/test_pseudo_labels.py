"""Label files that a model writes: which frames get one, what is in it, and what is left alone."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kd3d_core.cli import pseudo_label as command
from kd3d_core.data.frame_inputs import lidar_points
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import read_labels
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model
from kd3d_core.models.card import ModelCard
from kd3d_core.models.chain import Model
from kd3d_core.models.config import LidarModelConfig, load_model_config, save_model_config
from kd3d_core.offline.pseudo_labels import RECORD, detect, label_frames, score_thresholds
from kd3d_core.training.validation import DetectionFrames

CPU = torch.device("cpu")
ALL = {"Pedestrian": 0.0, "Cyclist": 0.0, "Car": 0.0}
CORRECTED = "Car 0 0 -1.57 50 18 70 30 1.5 1.6 4.0 1.0 1.65 20.0 -1.57\n"


def lidar_config() -> LidarModelConfig:
    """`lite` on image and true points of a small piece of street."""
    detector = replace(
        load_model_config("lite").detector, weights="random",
        window=WindowConfig((32, 128), "crop", 72.15),
        point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0),
        decoding=DecodeConfig(score_threshold=0.0, pre_nms=20, max_boxes=6),
    )  # fmt: skip
    return LidarModelConfig(detector)


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model(lidar_config(), CPU)


@pytest.fixture
def frames(kitti) -> KittiDataset:
    """Two frames with labels of a person, two without; the last has no LiDAR."""
    folder = kitti / "training" / "velodyne"
    folder.mkdir()
    for index in range(3):
        rng = np.random.default_rng(index)
        points = rng.uniform((4, -4, -1.8, 0), (24, 4, 0, 1), (900, 4)).astype("<f4")
        (folder / f"{index:06d}.bin").write_bytes(points.tobytes())
    return KittiDataset(kitti)


def label(frames: KittiDataset, model: Model, digest: str = "a", thresholds=ALL):
    out = frames.root / "label_2"
    return label_frames(KittiDataset(frames.root), model, digest, out, thresholds)


def files(frames: KittiDataset) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (frames.root / "label_2").glob("*.txt")}


class TestWhichFrames:
    def test_those_without_labels_and_no_persons_file(self, frames, model):
        before = files(frames)
        outcome = label(frames, model)
        assert (outcome.written, outcome.human, outcome.without_lidar) == (1, 2, 1)
        after = files(frames)
        assert after.keys() == {*before, "000002.txt"}
        assert all(after[name] == text for name, text in before.items())
        assert outcome.boxes == len(read_labels(frames.root / "label_2" / "000002.txt")) > 0

    def test_again_nothing_is_done(self, frames, model, monkeypatch):
        label(frames, model)
        before = files(frames)
        monkeypatch.setattr("kd3d_core.offline.pseudo_labels.detect", None)
        outcome = label(frames, model)
        assert (outcome.written, outcome.kept) == (0, 1)
        assert files(frames) == before

    def test_another_model_and_other_thresholds_replace_what_a_model_wrote(self, frames, model):
        label(frames, model)
        assert label(frames, model, "b").written == 1
        nothing = dict.fromkeys(ALL, 1.0)
        assert label(frames, model, "b", nothing).written == 1
        assert files(frames)["000002.txt"] == b""
        assert label(frames, model, "b", nothing).kept == 1

    def test_what_was_corrected_by_hand_stays(self, frames, model):
        label(frames, model)
        path = frames.root / "label_2" / "000002.txt"
        path.write_text(CORRECTED)
        assert label(frames, model, "b").human == 3
        assert path.read_text() == CORRECTED

    def test_a_kill_loses_nothing(self, frames, model, monkeypatch):
        label(frames, model)
        expected, record = files(frames), frames.root / "label_2" / RECORD
        (frames.root / "label_2" / "000002.txt").unlink()  # noted, and then killed
        assert label(frames, model).written == 1
        assert files(frames) == expected
        with record.open("a") as file:
            file.write('{"frame": "0000')  # killed while noting
        assert label(frames, model).kept == 1
        record.write_text(record.read_text() + "\n")
        with pytest.raises(DataError, match="isn't what kd3d-pseudo-label writes"):
            label(frames, model)

    def test_a_frame_that_cant_be_read_is_named(self, frames, model):
        (frames.root / "image_2" / "000002.png").write_bytes(b"no picture")
        outcome = label(frames, model)
        assert outcome.written == 0
        ((name, reason),) = outcome.bad
        assert name == "000002"
        assert "000002.png" in reason


class TestWhatIsWritten:
    def test_it_is_what_validation_in_training_finds_with_image_and_points(self, frames, model):
        assert (model.reads_image, model.reads_points) == (True, True)
        frame = frames[2]
        points = torch.from_numpy(lidar_points(frame))
        asked = DetectionFrames(
            frames.subset(["000002"]), model.config.detector, lidar_points, batch_size=1
        )
        (expected,) = asked.detect(model.detector, CPU).values()
        found = detect(frame, model, ALL)
        assert found == expected
        dark = frame.image() * 0
        other = model(torch.from_numpy(dark).permute(2, 0, 1)[None].float(), frame.camera(), points)
        assert not torch.equal(
            other.boxes.scores, model(_image(frame), frame.camera(), points).boxes.scores
        )

    def test_it_can_be_trained_on(self, frames, model):
        label(frames, model)
        window = model.config.detector.window
        kept = KittiDataset(frames.root)
        samples = FrameSamples(kept, window, lidar_points, model.config.detector.classes)
        sample = samples[2]
        found = detect(frames[2], model, ALL)
        assert sample.labelled
        assert len(sample.boxes) == len(found) > 0
        expected = label_boxes(found, frames[2].camera().lidar_from_camera)
        np.testing.assert_allclose(sample.boxes.numpy(), expected, atol=1e-4)

    def test_each_class_has_its_threshold(self, frames, model):
        scores = sorted(box.score for box in detect(frames[2], model, ALL))
        middle = scores[len(scores) // 2]
        kept = detect(frames[2], model, dict.fromkeys(ALL, middle))
        assert 0 < len(kept) == sum(score >= middle for score in scores) < len(scores)


def _image(frame) -> torch.Tensor:
    return torch.from_numpy(frame.image()).permute(2, 0, 1)[None].float()


class TestThresholds:
    def test_those_of_the_card_unless_others_are_given(self):
        card = ModelCard(score_thresholds={"Car": 0.3})
        assert score_thresholds([], ["Car", "Cyclist"], card) == {"Car": 0.3, "Cyclist": 0.5}
        assert score_thresholds(["Cyclist=0.2"], ["Car", "Cyclist"], card)["Car"] == 0.3
        assert score_thresholds(["Car=1", "0.1"], ["Car", "Cyclist"], card) == {
            "Car": 1.0, "Cyclist": 0.1,
        }  # fmt: skip

    @pytest.mark.parametrize("word", ["high", "Car=", "1.5", "nan", "Van=0.2"])
    def test_others_are_refused(self, word):
        with pytest.raises(ConfigError, match="--score-threshold"):
            score_thresholds([word], ["Car"], ModelCard())


class TestCommand:
    @pytest.fixture
    def trained(self, tmp_path, model) -> Path:
        """The model with weights in a file, as of type pseudo_lidar: as training leaves it."""
        save_file(model.detector.network.state_dict(), tmp_path / "detector.safetensors")
        detector = replace(lidar_config().detector, weights="./detector.safetensors")
        config = replace(load_model_config("lite"), detector=detector)
        config = replace(config, depth=replace(config.depth, weights="demo"))
        save_model_config(config, tmp_path / "model.yaml")
        return tmp_path / "model.yaml"

    def run(self, monkeypatch, *words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kd3d-pseudo-label", *map(str, words)])
        return command.main()

    def test_a_teacher_on_true_lidar_labels(
        self, frames, kitti, trained, model, monkeypatch, capsys, tmp_path
    ):
        save_model_config(
            LidarModelConfig(replace(lidar_config().detector, weights="./detector.safetensors")),
            trained,
        )
        out = tmp_path / "look"
        words = (trained, kitti, "--score-threshold", "0", "--out", out)
        assert self.run(monkeypatch, *words) == 0
        assert "3 frames labelled" in capsys.readouterr().out
        assert {path.name for path in out.glob("*.txt")} == {f"00000{i}.txt" for i in range(3)}
        expected = detect(frames[2], model, ALL)
        assert [str(box) for box in read_labels(out / "000002.txt")] == list(map(str, expected))
        entries = [json.loads(line) for line in (out / RECORD).read_text().splitlines()]
        assert {entry["frame"] for entry in entries} == {"000000", "000001", "000002"}
        assert self.run(monkeypatch, *words) == 0
        assert "3 frames were labelled by this model before" in capsys.readouterr().out

    def test_random_weights_are_refused(self, kitti, monkeypatch, capsys):
        assert self.run(monkeypatch, "lite", kitti) == 1
        assert "what it finds is noise" in capsys.readouterr().err

    def test_without_lidar_there_is_nothing_for_a_teacher_to_see(
        self, kitti, trained, monkeypatch, capsys
    ):
        assert self.run(monkeypatch, trained, kitti, "--points", "lidar") == 1
        assert "no frame has the LiDAR" in capsys.readouterr().err
        assert not (kitti / "training" / "label_2" / RECORD).exists()
