"""What a run writes into the card of its model: its frames, their cameras, the best thresholds."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import Label
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.thresholds import best_thresholds
from kd3d_core.models.card import CameraRange, ModelCard, TrainingFrames
from kd3d_core.models.config import OwnModelConfig
from kd3d_core.training.data import RunData

_MOST_CAMERAS = 200
"""How many frames' calibrations are read, spread evenly over a set."""


def card_of_run(
    card: ModelCard, parts: Collection[Literal["depth", "detector"]], data: RunData
) -> ModelCard:
    """The card of a model once a run has trained some parts of it.

    Args:
        card: of the model before.
        parts: what the run trains. Thresholds and errors of before are those of other weights, and
            go.
        data: frames of the run.
    """
    trained = training_frames([part.frames for part in data.train])
    part: dict[str, Any] = dict.fromkeys(parts, trained)
    measured: dict[str, Any] = {"score_thresholds": {}, "thresholds_from": ""}
    return replace(card, **part, **measured, box_errors=(), box_errors_from="")


def training_frames(sets: Sequence[KittiDataset]) -> TrainingFrames:
    """What is known of the frames of data sets; those that can't be read are left out."""
    cameras = []
    for frames in sets:
        places = np.linspace(0, len(frames) - 1, min(len(frames), _MOST_CAMERAS)).round()
        for index in places.astype(int).tolist():
            try:
                cameras.append(frames[index].camera())
            except Kd3dError:
                continue  # left to whoever needs the frame
    return TrainingFrames(
        " and ".join(describe_frames(frames) for frames in sets),
        all(_is_rendered(frames) for frames in sets),
        CameraRange.of(cameras) if cameras else None,
    )


def describe_frames(frames: KittiDataset) -> str:
    """Which frames they are, such as `3712 frames of kitti`."""
    if _is_rendered(frames):
        kind = "frames of a rendered drive" if frames.meta.get("sequence") else "rendered scenes"
        return f"{len(frames)} {kind} (kd3d-synth, seed {frames.meta.get('seed')})"
    root = frames.root.resolve()
    return f"{len(frames)} frames of {(root.parent if root.name == 'training' else root).name}"


def with_thresholds(
    model: OwnModelConfig,
    truth: Mapping[str, Sequence[Label]],
    found: Mapping[str, Sequence[Label]],
    labels: str,
) -> OwnModelConfig:
    """A model whose card has the score thresholds that are best on validation frames.

    Args:
        model: the model.
        truth: labels of the frames, by name.
        found: detections in them, by name.
        labels: what the labels are, in a few words.
    """
    best = best_thresholds(
        [truth[name] for name in found], list(found.values()), model.detector.classes
    )
    chosen = f"best F1 at loose 3D IoU, {len(found)} frames with {labels}" if best else ""
    return replace(model, card=replace(model.card, score_thresholds=best, thresholds_from=chosen))


def _is_rendered(frames: KittiDataset) -> bool:
    return frames.meta.get("source") == "kd3d-synth"
