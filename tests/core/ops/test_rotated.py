"""Overlap of rotated boxes against shapely's polygons, and suppression against a greedy loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon
from torch import Tensor

from kd3d_core.ops import (
    box_iou_axis_aligned,
    box_iou_rotated,
    nms_axis_aligned,
    nms_rotated,
    nms_rotated_mask,
)


def polygon(box: list[float]) -> Polygon:
    x, y, width, height, angle = box
    cos, sin = math.cos(angle), math.sin(angle)
    return Polygon(
        [
            (x + cos * dx - sin * dy, y + sin * dx + cos * dy)
            for dx, dy in (
                (width / 2, height / 2),
                (-width / 2, height / 2),
                (-width / 2, -height / 2),
                (width / 2, -height / 2),
            )
        ]
    )


def iou_by_shapely(boxes: Tensor, others: Tensor, mode: str = "iou") -> np.ndarray:
    ious = np.zeros((len(boxes), len(others)))
    for i, box in enumerate(boxes.double().tolist()):
        for j, other in enumerate(others.double().tolist()):
            first, second = polygon(box), polygon(other)
            overlap = first.intersection(second).area
            whole = first.union(second).area if mode == "iou" else first.area
            ious[i, j] = overlap / whole if overlap > 0 else 0
    return ious


def random_boxes(count: int, spread: float = 6.0, dtype: torch.dtype = torch.float64) -> Tensor:
    centre = torch.randn(count, 2, dtype=torch.float64) * spread
    size = torch.rand(count, 2, dtype=torch.float64) * 4 + 0.3
    angle = (torch.rand(count, 1, dtype=torch.float64) - 0.5) * 4 * math.pi
    return torch.cat([centre, size, angle], dim=1).to(dtype)


def iou_of(first: list[float], second: list[float], device: torch.device) -> float:
    boxes = torch.tensor([first, second], dtype=torch.float64, device=device)
    return box_iou_rotated(boxes[:1], boxes[1:]).item()


class TestIou:
    @pytest.mark.parametrize("mode", ["iou", "iof"])
    def test_random_boxes(self, device, dtype, mode):
        boxes, others = random_boxes(40, 2, dtype), random_boxes(30, 2, dtype)
        ious = box_iou_rotated(boxes.to(device), others.to(device), mode)
        expected = iou_by_shapely(boxes, others, mode)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-10
        assert ious.dtype == dtype
        np.testing.assert_allclose(ious.cpu(), expected, rtol=0, atol=tolerance)
        assert (expected > 0.2).any()
        assert (expected == 0).any()

    def test_far_from_the_origin_in_single_precision(self, device):
        """Boxes at 70 m, where a float32 has a grain of 8 micrometres."""
        boxes = random_boxes(40, 1.5, torch.float32)
        boxes[:, :2] += torch.tensor([70.0, -40.0])
        ious = box_iou_rotated(boxes.to(device), boxes.to(device))
        np.testing.assert_allclose(ious.cpu(), iou_by_shapely(boxes, boxes), rtol=0, atol=1e-5)

    @given(
        st.lists(
            st.tuples(
                st.floats(-3, 3),
                st.floats(-3, 3),
                st.floats(1e-3, 5),
                st.floats(1e-3, 5),
                st.one_of(
                    st.floats(-10, 10), st.sampled_from([k * math.pi / 4 for k in range(-8, 9)])
                ),
            ),
            min_size=2,
            max_size=2,
        )
    )
    @settings(max_examples=200)
    def test_any_two_boxes(self, pair):
        boxes = torch.tensor(pair, dtype=torch.float64)
        expected = iou_by_shapely(boxes[:1], boxes[1:])
        np.testing.assert_allclose(
            box_iou_rotated(boxes[:1], boxes[1:]), expected, rtol=0, atol=1e-6
        )

    @pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2, math.pi, -math.pi / 4, 100.0])
    def test_known_answers_at_any_angle(self, device, angle):
        cos, sin = math.cos(angle), math.sin(angle)
        box = [3.0, -1.0, 4.0, 2.0, angle]

        def moved(along: float, across: float, width: float, height: float) -> list[float]:
            x, y = 3 + cos * along - sin * across, -1 + sin * along + cos * across
            return [x, y, width, height, angle]

        answers = [
            (box, 1.0),  # identical
            ([3.0, -1.0, 4.0, 2.0, angle + math.pi], 1.0),  # turned by half
            ([3.0, -1.0, 2.0, 4.0, angle + math.pi / 2], 1.0),  # turned by a quarter, sides swapped
            (moved(2, 0, 4, 2), 1 / 3),  # half of it
            (moved(0, 0, 2, 1), 1 / 4),  # contained
            (moved(1, 0.5, 2, 1), 1 / 4),  # contained, two sides in common
            (moved(4, 0, 4, 2), 0.0),  # a side in common
            (moved(4, 2, 4, 2), 0.0),  # a corner in common
            (moved(9, 0, 4, 2), 0.0),  # apart
            (moved(0, 0, 4, 1e-4), 5e-5),  # thin
            (moved(0, 0, 0, 0), 0.0),  # a point
            (moved(0, 0, 4, 0), 0.0),  # a line
        ]
        for other, expected in answers:
            assert iou_of(box, other, device) == pytest.approx(expected, abs=1e-9)
            assert iou_of(other, box, device) == pytest.approx(expected, abs=1e-9)

    def test_boxes_without_area_do_not_overlap_even_themselves(self, device):
        assert iou_of([1, 1, 0, 0, 0], [1, 1, 0, 0, 0], device) == 0
        assert iou_of([1, 1, -2, 3, 0], [1, 1, 2, 3, 0], device) == 0

    @pytest.mark.parametrize("mode", ["iou", "iof"])
    def test_rounding_never_leads_above_one(self, device, mode):
        boxes = random_boxes(200, 1, torch.float32).to(device)
        turned = boxes + torch.tensor([0, 0, 0, 0, math.pi], device=device)
        ious = box_iou_rotated(boxes, turned, mode, aligned=True)
        assert ious.max() <= 1
        assert ious.min() > 1 - 1e-5

    def test_aligned_is_the_diagonal(self, device):
        boxes, others = random_boxes(20, 1).to(device), random_boxes(20, 1).to(device)
        aligned = box_iou_rotated(boxes, others, aligned=True)
        torch.testing.assert_close(aligned, box_iou_rotated(boxes, others).diagonal())

    @pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0), (0, 0)])
    def test_no_boxes(self, device, rows, columns):
        empty = box_iou_rotated(random_boxes(rows).to(device), random_boxes(columns).to(device))
        assert empty.shape == (rows, columns)

    def test_axis_aligned_agrees_with_rotated_at_angle_zero(self, device):
        boxes = random_boxes(30, 2)
        boxes[:, 4] = 0
        corners = torch.cat(
            [boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], dim=1
        )
        torch.testing.assert_close(
            box_iou_axis_aligned(corners.to(device)).cpu(), box_iou_rotated(boxes, boxes)
        )


def nms_by_loop(ious: np.ndarray, scores: Tensor, threshold: float, groups=None) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i].item()):
        rivals = [k for k in kept if groups is None or groups[k] == groups[index]]
        if not any(ious[k, index] > threshold for k in rivals):
            kept.append(index)
    return kept


def chain(length: int) -> tuple[Tensor, Tensor]:
    """Boxes in a row, each overlapping only its neighbours, in falling score: keep every other."""
    boxes = torch.zeros(length, 5)
    boxes[:, 0] = torch.arange(length) * 0.6
    boxes[:, 2:4] = 1
    return boxes, torch.linspace(1, 0.1, length)


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.7])
class TestNms:
    @pytest.fixture
    def boxes(self) -> Tensor:
        """Some overlap a little, some are nearly the same."""
        spread, moved = random_boxes(20, 2.5), torch.randn(40, 5, dtype=torch.float64) * 0.05
        return torch.cat([spread, spread + moved[:20], spread + moved[20:]])

    @pytest.fixture
    def scores(self) -> Tensor:
        """With ties: the lower index wins."""
        return (torch.rand(60, dtype=torch.float64) * 20).round() / 20

    def test_equals_the_greedy_loop(self, device, threshold, boxes, scores):
        expected = nms_by_loop(iou_by_shapely(boxes, boxes), scores, threshold)
        kept = nms_rotated(boxes.to(device), scores.to(device), threshold)
        assert kept.tolist() == expected
        assert len(expected) < 60

    def test_mask_equals_the_greedy_loop(self, device, threshold, boxes, scores):
        expected = nms_by_loop(iou_by_shapely(boxes, boxes), scores, threshold)
        mask = nms_rotated_mask(boxes.to(device), scores.to(device), threshold)
        assert mask.nonzero()[:, 0].tolist() == sorted(expected)

    def test_groups_do_not_suppress_each_other(self, device, threshold, boxes, scores):
        groups = torch.arange(60) % 3
        expected = nms_by_loop(iou_by_shapely(boxes, boxes), scores, threshold, groups.tolist())
        arguments = boxes.to(device), scores.to(device), threshold
        assert nms_rotated(*arguments, groups=groups.to(device)).tolist() == expected
        assert len(expected) > len(nms_rotated(*arguments))

    def test_sets_of_scores_know_nothing_of_each_other(self, device, threshold, boxes, scores):
        """Two samples with boxes of their own, three classes each, some boxes not valid."""
        samples = torch.stack([boxes, boxes.roll(7, 0)])[:, None].to(device)
        classes = torch.stack([scores.roll(3 * move) for move in range(6)]).view(2, 3, -1)
        valid = torch.rand(classes.shape) < 0.7
        mask = nms_rotated_mask(samples, classes.to(device), threshold, valid.to(device))
        alone = [
            nms_rotated_mask(
                samples[sample, 0], classes[sample, kind].to(device), threshold,
                valid[sample, kind].to(device),
            )
            for sample in range(2) for kind in range(3)
        ]  # fmt: skip
        assert torch.equal(mask.flatten(0, 1), torch.stack(alone))
        assert len({tuple(row.tolist()) for row in alone}) == 6

    def test_invalid_boxes_neither_stay_nor_suppress(self, device, threshold, boxes, scores):
        valid = torch.rand(60) < 0.5
        scores[~valid] += 1  # they would win
        rows = valid.nonzero()[:, 0]
        among_valid = nms_by_loop(iou_by_shapely(boxes[rows], boxes[rows]), scores[rows], threshold)
        mask = nms_rotated_mask(
            boxes.to(device), scores.to(device), threshold, valid=valid.to(device)
        )
        assert mask.nonzero()[:, 0].tolist() == sorted(rows[among_valid].tolist())

    def test_axis_aligned_equals_the_greedy_loop(self, device, threshold, boxes, scores):
        boxes[:, 4] = 0
        corners = torch.cat(
            [boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2], dim=1
        )
        kept = nms_axis_aligned(corners.to(device), scores.to(device), threshold)
        assert kept.tolist() == nms_by_loop(iou_by_shapely(boxes, boxes), scores, threshold)


class TestNmsEdges:
    @pytest.mark.parametrize("length", [1, 2, 9, 10, 51])
    def test_long_chains_are_followed_to_the_end(self, device, length):
        """The worst case of the iteration: each box's fate hangs on the one before."""
        boxes, scores = (tensor.to(device) for tensor in chain(length))
        shuffle = torch.randperm(length, device=device)
        expected = [index % 2 == 0 for index in range(length)]
        mask = nms_rotated_mask(boxes[shuffle], scores[shuffle], 0.1)
        assert mask[shuffle.argsort()].tolist() == expected
        assert nms_rotated(boxes, scores, 0.1).tolist() == list(range(0, length, 2))

    def test_identical_boxes_leave_the_first(self, device):
        boxes = torch.tensor([[5.0, 2.0, 4.0, 1.6, 0.7]], device=device).repeat(5, 1)
        scores = torch.tensor([0.5, 0.9, 0.9, 0.1, 0.9], device=device)
        assert nms_rotated(boxes, scores, 0.99).tolist() == [1]
        assert nms_rotated_mask(boxes, scores, 0.99).tolist() == [False, True, False, False, False]

    def test_threshold_itself_does_not_suppress(self, device):
        boxes = torch.tensor([[0.0, 0, 2, 2, 0], [1.0, 0, 2, 2, 0]], dtype=torch.float64)
        scores = torch.tensor([0.9, 0.8])
        iou = box_iou_rotated(boxes[:1], boxes[1:]).item()
        assert len(nms_rotated(boxes.to(device), scores.to(device), iou)) == 2
        assert len(nms_rotated(boxes.to(device), scores.to(device), iou - 1e-9)) == 1

    def test_no_boxes(self, device):
        boxes, scores = torch.zeros(0, 5, device=device), torch.zeros(0, device=device)
        assert nms_rotated(boxes, scores, 0.5).shape == (0,)
        assert nms_rotated_mask(boxes, scores, 0.5).shape == (0,)

    def test_pixel_boxes_count_their_last_column(self, device):
        """Two 2 x 2 pixel boxes that share one column: IoU 1/3 with the offset, 0 without."""
        boxes = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]], device=device)
        assert box_iou_axis_aligned(boxes, offset=1)[0, 1].item() == pytest.approx(1 / 3)
        assert box_iou_axis_aligned(boxes)[0, 1].item() == 0
