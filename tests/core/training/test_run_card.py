"""What a run writes into the card of its model."""

import json
import shutil
from dataclasses import replace

import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.models.card import CameraRange, ModelCard, TrainingFrames
from kd3d_core.models.config import load_model_config
from kd3d_core.training.card import card_of_run, describe_frames, training_frames, with_thresholds
from kd3d_core.training.data import RunData, TrainingSet

BEFORE = ModelCard(TrainingFrames("before"), TrainingFrames("before"), {"Car": 0.5}, "before")


@pytest.fixture
def rendered(tmp_path, street):
    """The street, as if it were rendered."""
    shutil.copytree(street, tmp_path / "scenes")
    meta = {"source": "kd3d-synth", "seed": 3, "sequence": False}
    (tmp_path / "scenes" / "meta.json").write_text(json.dumps(meta))
    return KittiDataset(tmp_path / "scenes")


def test_cameras_and_names_of_the_frames(street):
    frames = KittiDataset(street)
    found = training_frames([frames])
    assert found.trained_on == f"{len(frames)} frames of {street.name}"
    assert not found.rendered
    assert found.camera == CameraRange.of(frame.camera() for frame in frames)


def test_frames_that_cannot_be_read_are_left_to_others(rendered):
    for path in rendered.root.glob("calib/*"):
        path.write_text("")
    assert training_frames([rendered]).camera is None


def test_rendered_frames_are_named_so(rendered, street):
    assert describe_frames(rendered) == f"{len(rendered)} rendered scenes (kd3d-synth, seed 3)"
    assert training_frames([rendered]).rendered
    both = training_frames([rendered, KittiDataset(street)])
    assert not both.rendered
    assert both.trained_on == f"{describe_frames(rendered)} and 6 frames of {street.name}"


@pytest.mark.parametrize("parts", [{"depth"}, {"detector"}, {"depth", "detector"}])
def test_a_run_changes_the_parts_that_it_trains_and_drops_old_thresholds(parts, rendered):
    data = RunData((TrainingSet(rendered),), rendered)
    card = card_of_run(BEFORE, parts, data)
    for part in ("depth", "detector"):
        expected = training_frames([rendered]) if part in parts else TrainingFrames("before")
        assert getattr(card, part) == expected
    assert (card.score_thresholds, card.thresholds_from) == ({}, "")


def test_thresholds_of_the_validation(street):
    frames = KittiDataset(street)
    truth = {frame.name: frame.ground_truth() for frame in frames}
    found = {
        name: [replace(label, score=0.6) for label in labels if label.type == "Car"]
        for name, labels in truth.items()
    }
    model = replace(load_model_config("lite"), card=BEFORE)
    card = with_thresholds(model, truth, found, "labels").card
    assert card.score_thresholds["Car"] == 0.01
    assert card.thresholds_from == f"best F1 at loose 3D IoU, {len(frames)} frames with labels"
    assert card.depth == BEFORE.depth
    nothing = {name: [] for name in truth}
    card = with_thresholds(model, truth, nothing, "labels").card
    assert (card.score_thresholds, card.thresholds_from) == ({}, "")
