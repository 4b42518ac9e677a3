"""A model's boxes as label files, beside those of people and never in their place."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kd3d_core.config import settings_digest
from kd3d_core.data.frame_inputs import image_tensor, lidar_points
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import Label, labels_text
from kd3d_core.errors import ConfigError, DataError, Kd3dError
from kd3d_core.files import read_text, write_whole
from kd3d_core.models.card import ModelCard
from kd3d_core.models.chain import Model

RECORD = "pseudo_labels.jsonl"
"""File beside the labels: which of them a model wrote, which model, and what it wrote."""
USUAL_SCORE = 0.5
"""Threshold of classes for which a model's card has none."""


@dataclass
class Outcome:
    """Numbers of frames, and those that couldn't be used.

    Attributes:
        written: label files that were written, with `boxes` boxes.
        boxes: in them.
        kept: label files that the same model had written before.
        human: label files that a person made or changed since; they stay as they are.
        without_lidar: frames without the points that the model reads.
        bad: names of frames that can't be read, and why.
    """

    written: int = 0
    boxes: int = 0
    kept: int = 0
    human: int = 0
    without_lidar: int = 0
    bad: tuple[tuple[str, str], ...] = ()


def score_thresholds(
    words: Sequence[str], classes: Sequence[str], card: ModelCard
) -> dict[str, float]:
    """The score of each class from which on its boxes are labels.

    >>> score_thresholds(["0.4", "Car=0.6"], ["Car", "Cyclist"], ModelCard())
    {'Car': 0.6, 'Cyclist': 0.4}

    Args:
        words: a score for all classes, or `Class=score`; without any, those of the card.
        classes: the model's.
        card: of the model.
    """
    found = {name: card.score_thresholds.get(name, USUAL_SCORE) for name in classes}
    general = [word for word in words if "=" not in word]
    for word in [*general, *(word for word in words if "=" in word)]:
        name, _, text = word.rpartition("=")
        try:
            score = float(text)
        except ValueError:
            score = -1.0
        if not 0 <= score <= 1:
            raise ConfigError(f"--score-threshold {word}: give a score from 0 to 1, or Class=score")
        if name and name not in classes:
            raise ConfigError(f"--score-threshold {word}: the classes are {', '.join(classes)}")
        found |= dict.fromkeys([name] if name else classes, score)
    return found


def label_frames(
    dataset: KittiDataset,
    model: Model,
    digest: str,
    out: Path,
    thresholds: Mapping[str, float],
    on_frame: Callable[[], None] = lambda: None,
) -> Outcome:
    """Write label files of the frames that have none, or one that a model wrote.

    What another model, or the same with other thresholds, wrote before is replaced. A file that
    isn't as it was written is a person's.

    Args:
        dataset: the frames.
        model: in eval mode on its device.
        digest: of all that decides its answers.
        out: folder of the label files.
        thresholds: by class, see `score_thresholds`.
        on_frame: called after each frame.
    """
    made_of = settings_digest([digest, dict(thresholds)])
    record = _Record(out / RECORD)
    outcome = Outcome()
    for frame in dataset:
        path = out / f"{frame.name}.txt"
        state = record.state(frame.name, path, made_of)
        if state == "kept":
            outcome.kept += 1
        elif state == "human":
            outcome.human += 1
        elif model.reads_points and not frame.has_lidar:
            outcome.without_lidar += 1
        else:
            try:
                labels = detect(frame, model, thresholds)
            except Kd3dError as error:
                outcome.bad += ((frame.name, str(error)),)
            else:
                text = labels_text(labels).encode()
                record.add(frame.name, text, made_of)
                write_whole(path, text)
                outcome.written += 1
                outcome.boxes += len(labels)
        on_frame()
    return outcome


@torch.inference_mode()
def detect(frame: KittiFrame, model: Model, thresholds: Mapping[str, float]) -> list[Label]:
    """What a model finds in a frame, from each class's threshold on, with scores."""
    device = next(model.detector.parameters()).device
    camera = frame.camera()
    image = image_tensor(frame.image()).to(device) if model.reads_image else None
    points = torch.from_numpy(lidar_points(frame)).to(device) if model.reads_points else None
    slots = model(image, camera, points).boxes
    valid = slots.valid[0]
    boxes, scores, kinds = (
        part[0][valid].cpu().float().numpy() for part in (slots.boxes, slots.scores, slots.labels)
    )
    names = [model.config.detector.classes[int(kind)] for kind in kinds]
    found = box_labels(boxes, scores.tolist(), names, camera)
    return [label for label in found if (label.score or 0) >= thresholds[label.type]]


class _Record:
    """Which label files a model wrote: a line of JSON for each, the newest of a frame counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._of: dict[str, tuple[str, str]] = {}
        text = read_text(path) if path.is_file() else ""
        # A kill may have cut the last line off, and then its label file wasn't begun.
        for line in text.splitlines(keepends=True):
            if line.endswith("\n"):
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            self._of[entry["frame"]] = entry["sha256"], entry["made_of"]
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{self._path}: a line isn't what kd3d-pseudo-label writes; delete the file, and "
                "all label files beside it count as a person's"
            ) from None

    def state(self, name: str, path: Path, made_of: str) -> str:
        """`missing`, `kept` (by the same model), `other` (by another) or `human`."""
        if not path.is_file():
            return "missing"
        written, model = self._of.get(name, ("", ""))
        if hashlib.sha256(path.read_bytes()).hexdigest() != written:
            return "human"
        return "kept" if model == made_of else "other"

    def add(self, name: str, text: bytes, made_of: str) -> None:
        """Note what is about to be written."""
        entry = {"frame": name, "sha256": hashlib.sha256(text).hexdigest(), "made_of": made_of}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise DataError(f"{self._path} can't be written: {error}") from None
