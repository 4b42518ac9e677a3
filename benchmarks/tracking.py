"""Tracks by HOTA and MOTA, of kd3d's tracker and AB3DMOT's design on the same boxes; and its speed.

    python benchmarks/tracking.py --recorded-from ../shared/data/kitti_tracking_0001
    python benchmarks/tracking.py --drives 101 102 103 --frames 100
    python benchmarks/tracking.py --speed

Boxes are labels with noise, `tracking_data.LEVELS`, with three seeds each; measured are cars,
by the distance of centres (`kd3d-eval tracking --similarity distance`): mean ± standard deviation.
Times are those of a core, whatever else the machine does. A recorded sequence's poses come from
its LiDAR scans. Rendered drives are those of `kd3d-synth --sequence` with these seeds, without
their pictures, which the boxes don't need.
"""

import statistics
import time
from pathlib import Path
from typing import Protocol

import numpy as np
from ab3dmot import Ab3dmot
from tracking_data import LEVELS, Drive, Noise, noisy, objects_of, recorded, rendered

from kd3d_core.cli.app import run
from kd3d_core.cli.table import print_table
from kd3d_core.data.label_boxes import all_box_labels
from kd3d_core.data.track_labels import TrackLabel
from kd3d_core.evaluation.tracking import clear_mot, hota
from kd3d_core.evaluation.tracking_frames import TrackedFrames
from kd3d_core.tracking import Tracker, Tracks

SEEDS = (0, 1, 2)
PERIOD_NS = 100_000_000
SPEED_COUNTS = (10, 20, 50, 100, 200, 400)


class AnyTracker(Protocol):
    """What kd3d's tracker and AB3DMOT have in common."""

    def step(self, boxes, scores, names, stamp_ns, world_from_detector=None) -> Tracks: ...  # type: ignore[no-untyped-def]


def quiet(text: str) -> None:
    """Says nothing."""


METHODS = {
    "kd3d": (lambda: Tracker(say=quiet), False),
    "kd3d, poses": (lambda: Tracker(say=quiet), True),
    "AB3DMOT (GIoU)": (lambda: Ab3dmot(ego_motion=False), False),
    "AB3DMOT (GIoU), poses": (lambda: Ab3dmot(ego_motion=True), True),
    "AB3DMOT (IoU)": (lambda: Ab3dmot(False, least=0.01, with_hull=False), False),
    "AB3DMOT (IoU), poses": (lambda: Ab3dmot(True, least=0.01, with_hull=False), True),
}


def main(
    recorded_from: Path | None = None,
    drives: list[str] = [],  # noqa: B006 - never changed; the parser wants a list of words
    frames: int = 100,
    every: int = 1,
    speed: bool = False,
) -> None:
    """Measure.

    Args:
        recorded_from: folder with the recorded sequence.
        drives: seeds of rendered drives.
        frames: number of frames of each rendered drive.
        every: step between frames, larger for a slower detector.
        speed: measure time by the number of boxes instead.
    """
    if speed:
        measure_speed()
        return
    if recorded_from is not None:
        compare([recorded(recorded_from)], every)
    if drives:
        compare([rendered(int(seed), frames) for seed in drives], every)


def compare(sequences: list[Drive], every: int) -> None:
    """Print a table of all methods and levels over some sequences."""
    boxes = sum(
        label.type == "Car" for drive in sequences for frame in drive.labels for _, label in frame
    )
    names = ", ".join(drive.name for drive in sequences)
    print(f"\n{names}: {boxes} labelled cars, every frame of {every}")
    rows = [("boxes", "tracker", "HOTA", "DetA", "AssA", "MOTA", "IDSW", "missed", "false", "ms")]
    for noise in LEVELS:
        for name in METHODS:
            runs = [one_run(sequences, noise, name, seed, every) for seed in SEEDS]
            columns = zip(*runs, strict=True)
            rows.append((noise.name, name, *(spread(values) for values in columns)))
    print_table(rows)


def one_run(
    sequences: list[Drive], noise: Noise, method: str, seed: int, every: int
) -> tuple[float, ...]:
    """HOTA, DetA, AssA, MOTA in percent, switches, misses, false, milliseconds per frame."""
    make, with_poses = METHODS[method]
    rng, pairs, spent = np.random.default_rng(seed), [], []
    for drive in sequences:
        tracker: AnyTracker = make()
        truth: dict[int, list[TrackLabel]] = {}
        found: dict[int, list[TrackLabel]] = {}
        for number, index in enumerate(range(0, len(drive.labels), every)):
            boxes, scores, names = noisy(*objects_of(drive, index), noise, rng)
            pose = drive.poses[index] if with_poses else None
            start = time.thread_time()
            tracks = tracker.step(boxes, scores, names, index * PERIOD_NS, pose)
            spent.append(1e3 * (time.thread_time() - start))
            labels = all_box_labels(
                tracks.boxes, tracks.scores.tolist(), tracks.names, drive.cameras[index]
            )
            shown = [label.has_image_box for label in labels]
            rows = zip(tracks.ids.tolist(), labels, shown, strict=True)
            found[number] = [(own, label) for own, label, is_shown in rows if is_shown]
            truth[number] = drive.labels[index]
        pairs.append((truth, found))
    frames = TrackedFrames.of(pairs).pairs("Car", "distance", 0.5)
    means, mot = hota(frames).means(), clear_mot(frames)
    return (
        *(100 * means[key] for key in ("hota", "det_a", "ass_a")),
        *(100 * mot.mota, mot.switches, mot.misses, mot.false, statistics.median(spent)),
    )


def spread(values: tuple[float, ...]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def measure_speed() -> None:
    """Print the median time of a step by the number of boxes, all of one class."""
    rows = [("boxes", "tracks", "median ms", "slowest ms")]
    for count in SPEED_COUNTS:
        rng, tracker, spent = np.random.default_rng(0), Tracker(say=quiet), []
        places = np.column_stack([rng.uniform(0, 70, count), rng.uniform(-40, 40, count)])
        speeds = rng.normal(0, 5, (count, 2))
        for step in range(60):
            seen = places + 0.1 * step * speeds + rng.normal(0, 0.2, (count, 2))
            more = np.tile([-1.7, 4.0, 1.6, 1.5, 0.0], (count, 1))
            start = time.thread_time()
            tracks = tracker.step(
                np.column_stack([seen, more]), np.ones(count), ["Car"] * count,
                step * PERIOD_NS, np.eye(4),
            )  # fmt: skip
            spent.append(1e3 * (time.thread_time() - start))
        middle, slowest = statistics.median(spent[5:]), max(spent[5:])
        rows.append((str(count), str(len(tracks)), f"{middle:.2f}", f"{slowest:.2f}"))
    print_table(rows)


if __name__ == "__main__":
    run(main, prog="benchmarks/tracking.py", description="Measure the tracker.", examples=[])
