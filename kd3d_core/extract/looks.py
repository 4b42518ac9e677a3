"""Looks at a few frames of a recording, for its report: pictures, and checks of the calibration."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd3d_core.data.calibration_check import check_calibration, labelled_sample
from kd3d_core.data.labels import usable
from kd3d_core.extract.edges import sample_scores
from kd3d_core.extract.frames import FrameMaker, MadeFrame
from kd3d_core.extract.plan import FrameRef, RecordingPlan
from kd3d_core.extract.summary import Look, Sample
from kd3d_core.visual.extraction_page import sample_frame

_LOOKS = 8
"""As many as the check of edges needs."""
_EVERY_PICTURE = 2
_TRIES = 10
_CHECKED_POINTS = 20_000


def look_around(plan: RecordingPlan, unpacked: Path | None = None) -> dict[int, list[Look]]:
    """Looks at frames spread over a recording, by number of the camera.

    `unpacked` is as `BagReader` has it.
    """
    looks: dict[int, list[Look]] = {}
    with FrameMaker(plan, unpacked) as maker:
        for camera in range(len(plan.cameras)):
            refs = [
                ref._replace(images={camera: ref.images[camera]})
                for ref in plan.frames
                if camera in ref.images
            ]
            starts = np.linspace(0, len(refs), min(_LOOKS, len(refs)), endpoint=False).astype(int)
            for number, start in enumerate(starts.tolist()):
                sample = _sample(maker, refs[start : start + _TRIES])
                if sample is not None:
                    is_drawn = number % _EVERY_PICTURE == 0 or len(starts) <= _LOOKS // 2
                    looks.setdefault(camera, []).append(look_at(sample, is_drawn))
    return looks


def _sample(maker: FrameMaker, refs: Sequence[FrameRef]) -> Sample | None:
    """The first of some frames that can be made, if there is one."""
    for ref in refs:
        for made in maker.frames([ref]):
            if isinstance(made, MadeFrame):
                points = None if made.scan is None else made.scan.points
                return Sample(ref.name, made.image, made.model, points, made.labels)
    return None


def look_at(sample: Sample, is_drawn: bool = True) -> Look:
    """What is seen in a sample."""
    name, camera, points = sample.name, sample.camera, sample.points
    picture = sample_frame(name, sample.image, camera, points, sample.labels) if is_drawn else None
    if points is None:  # there is nothing to compare the image with
        return Look(name, picture=picture)
    labels = None if sample.labels is None else usable(sample.labels)
    # Labels need all points in their boxes; what else is checked is the same of some of them.
    checked = points if labels else points[:: len(points) // _CHECKED_POINTS + 1]
    findings = check_calibration(labelled_sample(name, camera, checked, labels))
    return Look(name, tuple(findings), sample_scores(sample), picture)
