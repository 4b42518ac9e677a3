"""A detector that knows its answer; run as a program, the detector node around one.

python fake_detector.py [--load SECONDS] [--hold] [--fail REASON] [--delay SECONDS] [--points N]
    [--boxes N] [--one-signal SECONDS] [--ros-args ...]
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

from kd3d_core.errors import WeightsError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.card import ModelCard
from kd3d_core.runtime.detections import Detections


def answer(points: int = 100, boxes: int = 2) -> Detections:
    """The same for every call: cars and others in a row, the best score first."""
    random = np.random.default_rng(0)
    cloud = random.uniform((2, -20, -2, 0), (60, 20, 2, 1), (points, 4)).astype(np.float32)
    row = np.arange(boxes, dtype=np.float32)
    columns = (8 + 4 * row, 3 - row, -1.7 + 0 * row, 4 + 0 * row, 1.6 + 0 * row, 1.5 + 0 * row)
    return Detections(
        points=cloud,
        boxes=np.column_stack([*columns, 0.3 * row - 1]).astype(np.float32).reshape(-1, 7),
        scores=np.linspace(0.9, 0.2, boxes, dtype=np.float32),
        labels=(np.arange(boxes) % 3).astype(np.int64),
        timings={"depth": 1.5, "boxes": 0.5},
    )


class FakeDetector:
    """Gives the same answer for every image, and remembers what it was asked.

    Attributes:
        calls: image copies and cameras, one pair for each frame.
        before: called for each frame before answering; may wait or raise.
        card: what it says of its training.
        camera_notices: what it says of every camera.
    """

    class_names = ("Car", "Pedestrian", "Cyclist")
    description = "a fake detector"
    sampling_ratio = 0.1

    def __init__(
        self,
        detections: Detections | None = None,
        before: Callable[[], object] = lambda: None,
        trained: bool = True,
        card: ModelCard = ModelCard(),  # noqa: B008 - frozen
        camera_notices: dict[str, str] | None = None,
    ) -> None:
        self.detections = answer() if detections is None else detections
        self.before = before
        self.trained = trained
        self.card = card
        self.camera_notices = camera_notices or {}
        self.calls: list[tuple[np.ndarray, PinholeCamera]] = []

    def notices(self, camera: PinholeCamera) -> dict[str, str]:
        return self.camera_notices

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        self.calls.append((image.copy(), camera))
        self.before()
        return self.detections


def _program() -> int:
    from kd3d_ros import detector_node, signals

    parser = argparse.ArgumentParser()
    parser.add_argument("--load", type=float, default=0.0)
    parser.add_argument("--hold", action="store_true")  # load until a line comes on stdin
    parser.add_argument("--fail", default="")  # why loading fails
    parser.add_argument("--one-signal", type=float, default=None)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--points", type=int, default=40_000)
    parser.add_argument("--boxes", type=int, default=20)
    own, rest = parser.parse_known_args()

    def wait() -> None:
        print("in the model", flush=True)
        time.sleep(own.delay)

    def load(*_: str) -> FakeDetector:
        print("loading", flush=True)
        time.sleep(own.load)
        if own.hold:
            sys.stdin.readline()
        if own.fail:
            raise WeightsError(own.fail)
        return FakeDetector(answer(own.points, own.boxes), wait)

    if own.one_signal is not None:
        signals._ONE_SIGNAL_S = own.one_signal
    return detector_node.main([sys.argv[0], *rest], lambda: detector_node.DetectorNode(load))


if __name__ == "__main__":
    sys.exit(_program())
