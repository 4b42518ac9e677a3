"""Calibrations that don't fit their images and points, found out by looking at frames.

What may be wrong, and by how much, `calibration_rules.py` says.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from kd3d_core.data.calibration_rules import (
    CAMERA_RULES,
    CLOUD_RULES,
    FEWEST_POINTS,
    VIEW_RULES,
    CalibrationSample,
    Rule,
)
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import Label
from kd3d_core.errors import Kd3dError
from kd3d_core.geometry.camera import PinholeCamera

FEW = 8
"""How many frames are enough to tell that a whole recording is calibrated wrongly."""


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong: its kind, and in one line what, with numbers, and what to do."""

    kind: str
    text: str


def kitti_sample(frame: KittiFrame) -> CalibrationSample:
    """The sample of a frame in KITTI's layout, with the points and labels that it has."""
    points = frame.points() if frame.has_lidar else None
    labels = frame.objects() if "label_2" in frame.files else None
    return labelled_sample(frame.name, frame.camera(), points, labels)


def labelled_sample(
    name: str,
    camera: PinholeCamera,
    points: np.ndarray | None = None,
    labels: Sequence[Label] | None = None,
) -> CalibrationSample:
    """The sample of a frame with labels, if it has any; the rest as in `CalibrationSample`."""
    if labels is None:
        return CalibrationSample(name, camera, points)
    boxes = label_boxes(labels, camera.lidar_from_camera)
    rectangles = np.array([label.bbox for label in labels]).reshape(-1, 4)
    return CalibrationSample(name, camera, points, boxes, rectangles)


def check_calibration(sample: CalibrationSample) -> list[Finding]:
    """Everything that looks wrong in a frame; empty if nothing does.

    >>> from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
    >>> projection = np.array([[720.0, 0, 610, 0], [0, 720, 173, 0], [0, 0, 1, 0]])
    >>> camera = PinholeCamera(projection, 621, 187, virtual_lidar_from_camera(1.65))
    >>> [finding.kind for finding in check_calibration(CalibrationSample("000000", camera))]
    ['principal_point']
    """
    found = list(_findings(CAMERA_RULES, sample))
    if sample.points is not None and len(sample.points) >= FEWEST_POINTS:
        found += islice(_findings(CLOUD_RULES, sample), 1)
        if not found:  # otherwise these would only repeat it
            found += islice(_findings(VIEW_RULES, sample), 1)
    return found


def _findings(rules: Mapping[str, Rule], sample: CalibrationSample) -> Iterator[Finding]:
    return (Finding(kind, text) for kind, rule in rules.items() if (text := rule(sample)))


def common_findings(
    findings: Sequence[Sequence[Finding]], names: Sequence[str], share: float = 0.5
) -> list[str]:
    """Findings of many frames, each kind in one line that says in how many frames it is.

    Left out are kinds that are in less than a `share` of the frames.
    """
    counts = Counter(finding.kind for frame in findings for finding in frame)
    lines = []
    for kind, count in counts.most_common():
        if count >= share * len(findings):
            name, text = next(
                (name, finding.text)
                for name, frame in zip(names, findings, strict=True)
                for finding in frame
                if finding.kind == kind
            )
            lines.append(f"{text} (in {count} of {len(findings)} frames, the first is {name})")
    return lines


def warn_if_calibration_looks_wrong(
    samples: Iterable[CalibrationSample], log: Callable[[str], object]
) -> None:
    """Say through `log` what looks wrong in at least half of some frames, a line for each kind.

    Frames that can't be read are left to whoever reads them next. For a data set:
    `warn_if_calibration_looks_wrong(few_samples(KittiDataset(root)), log.warning)`.
    """
    checked = [(sample.name, check_calibration(sample)) for sample in samples]
    for line in common_findings([found for _, found in checked], [name for name, _ in checked]):
        log(f"the calibration looks wrong: {line}")


def few_samples(frames: KittiDataset) -> Iterator[CalibrationSample]:
    """Samples of up to `FEW` frames, spread evenly; those that can't be read are left out."""
    for index in sorted({round(place) for place in np.linspace(0, len(frames) - 1, FEW)}):
        try:
            yield kitti_sample(frames[index])
        except Kd3dError:
            continue
