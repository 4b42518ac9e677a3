"""Quality focal loss of a head, against values computed by hand and by another library."""

import math
from dataclasses import replace

import pytest
import torch
from shapely import affinity
from shapely import box as shapely_box

from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.decode import HeadMaps
from kd3d_core.detectors.quality import aligned_iou_3d, quality_loss, quality_targets
from kd3d_core.geometry.window import WindowConfig

CAR = torch.tensor([10.0, 0.0, -1.0, 4.0, 2.0, 2.0, 0.0])


def moved(**by):
    columns = dict(zip(("x", "y", "z", "l", "w", "h", "yaw"), range(7), strict=True))
    found = CAR.clone()
    for name, value in by.items():
        found[columns[name]] += value
    return found


def test_overlap_in_three_dimensions_is_that_of_another_geometry_library():
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.5, 1.5, 0.8, 1.0, 0.5, 0.5, 2.0])
    ours, others = (CAR + spread * torch.randn(40, 7, generator=generator) for _ in range(2))
    ours[:, 3:6], others[:, 3:6] = ours[:, 3:6].abs() + 0.1, others[:, 3:6].abs() + 0.1

    def footprint(b):
        flat = shapely_box(-b[3] / 2, -b[4] / 2, b[3] / 2, b[4] / 2)
        return affinity.translate(affinity.rotate(flat, b[6], use_radians=True), b[0], b[1])

    expected = []
    for a, b in zip(ours.double().tolist(), others.double().tolist(), strict=True):
        high = max(0.0, min(a[2] + a[5], b[2] + b[5]) - max(a[2], b[2]))
        common = footprint(a).intersection(footprint(b)).area * high
        whole = math.prod(a[3:6]) + math.prod(b[3:6]) - common
        expected.append(common / whole)
    assert max(expected) > 0.2
    torch.testing.assert_close(
        aligned_iou_3d(ours, others), torch.tensor(expected), atol=1e-4, rtol=1e-3
    )


def test_a_box_learns_the_class_of_what_it_overlaps_most():
    truth = torch.stack([moved(), moved(x=4.0)])  # bumper to bumper
    found = torch.stack([moved(x=1.0), moved(x=3.0), moved(y=9.0)])
    targets = quality_targets(found, truth, torch.tensor([2, 0]), 3)
    assert targets.tolist() == [
        [0, 0, pytest.approx(3 / 5)], [pytest.approx(3 / 5), 0, 0], [0, 0, 0]
    ]  # fmt: skip


def head_maps(logits, deltas):
    return HeadMaps(logits.view(-1, 2, 1, 1), deltas.view(-1, 14, 1, 1), torch.zeros(1))


def test_the_loss_by_hand():
    """Two anchors of one class: one decodes to a box that overlaps by a third, one to nothing."""
    anchors = torch.stack([moved(x=2.0), moved(y=50.0)])
    logits = torch.tensor([0.0, math.log(3.0)])  # scores 1/2 and 3/4
    found = quality_loss(
        head_maps(logits, torch.zeros(14)), anchors, [CAR[None]], [torch.zeros(1).long()], 1
    )
    hit = (1 / 3 - 1 / 2) ** 2 * math.log(2)
    missed = (3 / 4) ** 2 * math.log(4)
    assert found.item() == pytest.approx(hit + missed, rel=1e-5)  # one box hits: divided by 1


def test_where_nothing_is_hit_and_where_nothing_is():
    anchors = torch.stack([moved(y=60.0), moved(y=50.0)])
    logits = torch.tensor([0.0, 0.0])
    expected = 2 * 0.25 * math.log(2)
    for truth in (CAR[None], torch.zeros(0, 7)):
        found = quality_loss(
            head_maps(logits, torch.zeros(14)), anchors, [truth],
            [torch.zeros(len(truth)).long()], 1,
        )  # fmt: skip
        assert found.item() == pytest.approx(expected)


def test_the_loss_does_not_grow_with_the_batch():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.stack([moved(x=2.0), moved(y=0.5)])
    logits, deltas = torch.randn(1, 2, generator=generator), torch.zeros(1, 14)
    one = quality_loss(head_maps(logits, deltas), anchors, [CAR[None]], [torch.zeros(1).long()], 1)
    three = quality_loss(
        head_maps(logits.repeat(3, 1), deltas.repeat(3, 1)), anchors, [CAR[None]] * 3,
        [torch.zeros(1).long()] * 3, 1,
    )  # fmt: skip
    assert three.item() == pytest.approx(one.item())


CONFIG = DetectorConfig(
    "second", "random", WindowConfig((64, 192)), point_cloud_range=(0, -12.8, -3, 25.6, 12.8, 1)
)


@pytest.mark.parametrize("kind", ["focal", "quality_focal"])
def test_a_configuration_chooses_the_loss(kind):
    detector = random_detector(replace(CONFIG, class_loss=kind), 0)
    maps = HeadMaps(
        torch.zeros(1, 18, 32, 32, requires_grad=True),
        torch.zeros(1, 42, 32, 32, requires_grad=True),
        torch.zeros(1, 12, 32, 32, requires_grad=True),
    )
    truth = [torch.tensor([[12.0, 0.0, -1.7, 3.9, 1.6, 1.5, 0.0]])]
    losses = detector.losses(maps, truth, [torch.tensor([2])])
    expected = 8 * quality_loss(
        maps, detector.anchors((32, 32), torch.device("cpu")), truth, [torch.tensor([2])], 3
    )
    assert losses.keys() == {"cls", "box", "dir"}
    assert (losses["cls"].item() == pytest.approx(expected.item())) == (kind == "quality_focal")
    sum(losses.values()).backward()
    assert maps.logits.grad.abs().sum() > 0
    assert maps.deltas.grad.abs().sum() > 0


def test_without_a_word_designs_have_their_own():
    assert random_detector(CONFIG, 0).head.class_loss == "focal"
    teacher = random_detector(replace(CONFIG, type="cmkd_teacher_lite"), 0)
    assert teacher.head.class_loss == "quality_focal"
