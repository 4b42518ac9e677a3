"""The teaching assistant: a student's network that is told the depth of its pixels."""

import doctest
from dataclasses import replace

import torch

from kd3d_core.detectors.build import random_detector, untrained_detector
from kd3d_core.detectors.cmkd import assistant as module
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.start import start_from
from kd3d_core.geometry.window import WindowConfig

CONFIG = DetectorConfig(
    "cmkd_assistant_tiny", "random", WindowConfig((64, 192), "crop", 110.0),
    point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0),
)  # fmt: skip
PROJECTION = torch.tensor([[[96.0, -110, 0, 0], [30, 0, -110, 0], [1, 0, 0, 0]]])


def wall(x):
    """Points on a wall of 2 x 2 m, so many metres ahead."""
    across, up = torch.meshgrid(torch.linspace(-1, 1, 30), torch.linspace(-1, 1, 30), indexing="ij")
    flat = torch.stack([torch.full_like(across, x), across, up, 0.5 * torch.ones_like(up)], -1)
    return flat.view(-1, 4)


def lifted(detector, points, samples=None):
    seen = []
    detector.network["collapse"].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    owners = torch.zeros(len(points), dtype=torch.int64) if samples is None else samples
    with torch.no_grad():
        detector(points, owners, torch.full((1, 3, 64, 192), 90.0), PROJECTION)
    return seen[0].abs().sum(1)[0]


def test_features_lie_where_lidar_saw_them():
    detector = random_detector(CONFIG, 0)
    assert (detector.reads_image, detector.reads_points) == (True, True)
    for x in (6.0, 14.0, 20.0):
        energy = lifted(detector, wall(x))
        far = energy.sum(0)
        middle = (far * (0.8 * torch.arange(32) + 0.4)).sum() / far.sum()
        assert abs(middle - x) < 1.0
        assert energy[16 - 3 : 16 + 3].sum() > 0.95 * energy.sum()


def test_where_lidar_saw_nothing_there_is_nothing():
    detector = random_detector(CONFIG, 0)
    assert lifted(detector, torch.zeros(0, 4)).sum() == 0
    behind = wall(6.0) * torch.tensor([-1.0, 1, 1, 1])
    assert lifted(detector, behind).sum() == 0


def test_the_nearest_of_each_sample_counts():
    points = torch.cat([wall(10.0), wall(6.0), wall(15.0)])
    samples = torch.tensor([0, 0, 1]).repeat_interleave(900)
    depth = module.cell_depth(points, samples, PROJECTION.expand(2, -1, -1), (8, 24))
    assert depth[0, 3, 12] == 6.0
    assert depth[1, 3, 12] == 15.0
    valid = torch.tensor([True, False, True]).repeat_interleave(900)
    again = module.cell_depth(points, samples, PROJECTION.expand(2, -1, -1), (8, 24), valid)
    assert again[0, 3, 12] == 10.0
    assert depth[0, 0, 0] == 0


def test_a_student_may_start_from_all_of_it():
    assistant = untrained_detector(CONFIG, 1)
    student = untrained_detector(replace(CONFIG, type="cmkd_tiny"), 2)
    start_from(student, assistant, "teacher")
    theirs = assistant.network.state_dict()
    assert all(torch.equal(v, theirs[name]) for name, v in student.network.state_dict().items())


def test_each_of_its_weights_learns():
    """Or is frozen: processes wait for the gradients of all that may learn."""
    detector = untrained_detector(CONFIG, 0).train()
    points = torch.cat([wall(6.0), wall(14.0)])
    maps = detector(
        points, torch.tensor([0, 1]).repeat_interleave(900), torch.rand(2, 3, 64, 192) * 255,
        PROJECTION.expand(2, -1, -1),
    )  # fmt: skip
    (maps.logits.sum() + maps.deltas.sum() + maps.directions.sum()).backward()
    idle = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


def test_examples_are_true():
    assert not doctest.testmod(module).failed
