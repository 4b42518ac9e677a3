"""Edges of LiDAR and image: of boards that were drawn, and of KITTI's frames."""

from collections.abc import Iterable

import numpy as np
import pytest
from boards import CAMERA, FOCAL, HEIGHT, LIDAR_FROM_CAMERA, WIDTH, boards

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.extract.edges import TURNS, TurnScores, compare_turns, sample_scores, turned
from kd3d_core.extract.summary import Sample
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.points import transform


def score_turns(samples: Iterable[Sample]) -> TurnScores | None:
    return compare_turns(map(sample_scores, samples))


def with_camera(sample: Sample, camera: PinholeCamera) -> Sample:
    return Sample(sample.name, sample.image, camera, sample.points)


def opposite(turn: str) -> str:
    return ("-" if turn[0] == "+" else "+") + turn[1]


def test_a_degree_about_any_axis_makes_the_score_worse() -> None:
    found = score_turns(map(boards, range(5)))
    assert found is not None
    assert found.frames == 5
    assert found.score > 1.5
    assert all(change < -0.05 for change in found.changes.values()), found
    assert not found.best_turn


@pytest.mark.parametrize("turn", TURNS)
def test_a_degree_is_found(turn: str) -> None:
    samples = [with_camera(boards(seed), turned(CAMERA, turn)) for seed in range(5)]
    found = score_turns(samples)
    assert found is not None
    assert found.best_turn == opposite(turn), found


def test_turns_are_about_the_cameras_own_axes() -> None:
    ahead = np.linalg.inv(LIDAR_FROM_CAMERA)
    point = transform(np.array([[0.0, 0, 10]]), np.linalg.inv(ahead))
    pixels, _ = turned(CAMERA, "+y").project(point)
    # The camera looks to the right, so that what was in its middle is to the left.
    assert pixels[0, 0] == pytest.approx(WIDTH / 2 - FOCAL * np.tan(np.radians(1)))
    assert pixels[0, 1] == pytest.approx(HEIGHT / 2)


def test_frames_without_edges_tell_nothing() -> None:
    sample = boards(0)
    assert sample.points is not None
    flat = Sample("0", sample.image, CAMERA, sample.points[:0])
    assert score_turns([flat, Sample("1", sample.image, CAMERA)]) is None
    wall = sample.points.copy()
    wall[:, 0] = 30
    assert score_turns([Sample("2", sample.image, CAMERA, wall)]) is None
    black = Sample("3", np.zeros_like(sample.image), CAMERA, sample.points)
    assert score_turns([black]) is None


def kitti_samples(frames: KittiDataset, every: int) -> list[Sample]:
    samples = []
    for index in range(0, len(frames), every):
        frame = frames[index]
        image = frame.image()
        camera = frame.camera(image.shape[:2])
        samples.append(Sample(frame.name, image, camera, frame.points()))
    return samples


def table(name: str, found: TurnScores) -> str:
    changes = ", ".join(f"{turn} {change:+.1%}" for turn, change in found.changes.items())
    return f"{name}, {found.frames} frames: {found.score:.3f}; turned by a degree: {changes}"


@pytest.mark.parametrize(("name", "every"), [("kitti_object", 2), ("tracking", 8)])
def test_real_frames(request: pytest.FixtureRequest, name: str, every: int) -> None:
    samples = kitti_samples(request.getfixturevalue(name), every)
    found = score_turns(samples)
    assert found is not None
    print(table(name, found))
    assert all(change < -0.02 for change in found.changes.values()), found
    for turn in ("-x", "+y", "-z"):
        off = [with_camera(sample, turned(sample.camera, turn)) for sample in samples]
        scores = score_turns(off)
        assert scores is not None
        assert scores.score < found.score
        assert scores.best_turn == opposite(turn), table(f"{name} off by {turn}", scores)
