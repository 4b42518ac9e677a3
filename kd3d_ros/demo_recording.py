"""The demo's recording, frame by frame: the images of one bag with the results in another."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd3d_core.data.bag import BagReader
from kd3d_core.errors import Kd3dError
from kd3d_core.frames import Frame
from kd3d_core.messages.types import ObjectBoxes, PointCloud
from kd3d_core.offline.bag_source import BagSettings, bag_source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Results:
    """What was detected in one image.

    Attributes:
        points: `(N, 4)` pseudo-LiDAR.
        found: the boxes.
        arrived_ns: when the boxes were recorded.
    """

    points: np.ndarray
    found: ObjectBoxes
    arrived_ns: int


def read_results(bag: Path, node: str) -> dict[int, Results]:
    """A node's results by header stamp, of images for which the bag holds both points and boxes.

    Boxes alone, if there are no points at all: a model without depth makes none.
    """
    points: dict[int, np.ndarray] = {}
    found: dict[int, tuple[ObjectBoxes, int]] = {}
    with BagReader(bag) as reader:
        # A recorder's bag has the topics that had messages.
        wanted = {f"/{node}/points", f"/{node}/detections"} & reader.topics.keys()
        for raw in reader.messages(tuple(wanted)):
            message = reader.decode(raw)
            if isinstance(message, PointCloud):
                points[message.stamp_ns] = message.points
            elif isinstance(message, ObjectBoxes):
                found[message.stamp_ns] = (message, raw.stamp_ns)
    if not points:
        points = dict.fromkeys(found, np.zeros((0, 4), np.float32))
    return {
        stamp: Results(points[stamp], *found[stamp]) for stamp in sorted(found) if stamp in points
    }


def recorded_frames(
    bag: Path, results: Mapping[int, Results]
) -> Iterator[tuple[float, Frame, Results]]:
    """Each image in `bag` that has results: seconds since the first image, the frame, its results.

    Args:
        bag: images, camera infos and `/tf_static`, and if it has labels, `/ground_truth`.
        results: by header stamp.
    """
    if not results:
        return
    results_frame = next(iter(results.values())).found.frame_id
    source = bag_source(bag, BagSettings(detector_frame=results_frame), slice(None))
    first_ns: int | None = None
    for reference in source.references:
        try:
            frame = reference.load()
        except Kd3dError as error:  # the node couldn't use it either, and counted it
            log.warning("image %s is left out: %s", reference.name, error)
            continue
        first_ns = frame.stamp_ns if first_ns is None else first_ns
        if frame.stamp_ns in results:
            yield (frame.stamp_ns - first_ns) / 1e9, frame, results[frame.stamp_ns]
