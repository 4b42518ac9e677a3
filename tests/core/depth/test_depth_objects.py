"""Depth of objects: which pixels are theirs, and what their losses say, by hand."""

import math

import pytest
import torch

from kd3d_core.depth.objects import (
    ObjectPixels,
    boxed_objects,
    log_errors,
    measured_objects,
    object_medians,
    pixel_loss,
    shift_loss,
)

# Looks along x: a pixel is (-y / x, -z / x).
AHEAD = torch.tensor([[0.0, -100, 0, 0], [0, 0, -100, 0], [1, 0, 0, 0]]) + torch.tensor(
    [[10.0, 0, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 0]]
)
CAR = [10.0, 0.0, -0.4, 2.0, 1.2, 0.8, 0.0]
FAR = [40.0, 3.0, -1.0, 4.0, 2.0, 2.0, 0.0]


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """LiDAR of 10 x 20 pixels: two points on a car, one on the wall behind it, one on nothing."""
    lidar = torch.zeros(10, 20)
    lidar[5, 10], lidar[4, 11] = 9.5, 10.5
    lidar[5, 13] = 30.0
    lidar[0, 0] = 20.0
    return lidar, AHEAD


def test_points_in_a_box_are_its_pixels():
    lidar, projection = scene()
    found = measured_objects(lidar[None], projection[None], [torch.tensor([FAR, CAR])])
    assert found.pixels.tolist() == [4 * 20 + 11, 5 * 20 + 10]
    assert found.depth.tolist() == [10.5, 9.5]
    assert found.owners.tolist() == [1, 1]
    assert found.counts.tolist() == [0, 2]
    assert found.seen == 1


def test_objects_are_counted_over_frames():
    lidar, projection = scene()
    boxes = [torch.tensor([FAR]), torch.zeros(0, 7), torch.tensor([CAR, FAR])]
    found = measured_objects(lidar.expand(3, -1, -1), projection.expand(3, -1, -1), boxes)
    assert found.pixels.tolist() == [400 + 4 * 20 + 11, 400 + 5 * 20 + 10]
    assert found.owners.tolist() == [1, 1]
    assert found.counts.tolist() == [0, 2, 0]


def test_without_lidar_an_object_is_where_its_box_begins():
    found = boxed_objects((10, 20), AHEAD[None], [torch.tensor([CAR])])
    assert found.counts.item() == len(found.pixels) > 50
    assert found.depth.min() == pytest.approx(9.0)  # its rear
    assert (found.owners == 0).all()
    assert 5 * 20 + 10 in found.pixels.tolist()
    assert 0 not in found.pixels.tolist()


def test_losses_by_hand():
    # Two pixels of the first object, one of the third; the second has none.
    objects = ObjectPixels(
        torch.tensor([1, 3, 4]), torch.tensor([10.0, 10, 20]), torch.tensor([0, 0, 2]),
        torch.tensor([2, 0, 1]),
    )  # fmt: skip
    depth = torch.tensor([[[1.0, 11.0, 1.0], [9.0, 20.2, 1.0]]])
    errors = log_errors(depth, objects)
    assert errors.tolist() == pytest.approx(
        [math.log(1.1), math.log(0.9), math.log(1.01)], rel=1e-4
    )
    near = 0.5 * math.log(1.01) ** 2 / 0.02
    far = [abs(math.log(ratio)) - 0.01 for ratio in (1.1, 0.9)]
    assert pixel_loss(errors, objects).item() == pytest.approx(sum(far) / 2 + near, rel=1e-4)
    shift = abs(math.log(1.1) + math.log(0.9)) / 2 + math.log(1.01)
    assert shift_loss(errors, objects).item() == pytest.approx(shift, rel=1e-5)
    assert objects.seen == 2


def test_an_object_counts_the_same_whatever_its_pixels():
    """Each pixel of an object of four gets a quarter of what the only pixel of another gets."""
    objects = ObjectPixels(
        torch.arange(5), torch.full((5,), 10.0), torch.tensor([0, 0, 0, 0, 1]), torch.tensor([4, 1])
    )
    for loss in (pixel_loss, shift_loss):
        depth = torch.full((1, 1, 5), 12.0, requires_grad=True)
        loss(log_errors(depth, objects), objects).backward()
        gradient = depth.grad.flatten()
        assert torch.allclose(4 * gradient[:4], gradient[4].expand(4))
        assert (gradient > 0).all()


def test_the_shift_is_the_medians_and_moves_all_pixels():
    objects = ObjectPixels(
        torch.arange(3), torch.full((3,), 10.0), torch.zeros(3, dtype=torch.int64),
        torch.tensor([3]),
    )  # fmt: skip
    # One pixel sees far behind the object: its mean is too far, its median too near.
    depth = torch.tensor([[[9.0, 9.5, 60.0]]], requires_grad=True)
    loss = shift_loss(log_errors(depth, objects), objects)
    assert loss.item() == pytest.approx(-math.log(0.95), rel=1e-5)
    loss.backward()
    assert (depth.grad < 0).all()
    assert torch.allclose(depth.grad * depth.detach(), torch.full((1, 1, 3), -1 / 3))


def test_medians_agree_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    owners = torch.randint(0, 7, (200,), generator=generator)
    owners[owners == 3] = 4  # one has none
    values = torch.randn(200, generator=generator)
    counts = torch.bincount(owners, minlength=8)
    objects = ObjectPixels(owners, values, owners, counts)
    expected = [
        values[owners == each].quantile(0.5).item() if counts[each] else 0 for each in range(8)
    ]
    assert object_medians(values, objects).tolist() == pytest.approx(expected, abs=1e-6)


def test_nothing_is_lost_without_objects():
    lidar, projection = scene()
    depth = torch.full((1, 10, 20), 5.0, requires_grad=True)
    found = measured_objects(lidar[None], projection[None], [torch.zeros(0, 7)])
    errors = log_errors(depth, found)
    loss = pixel_loss(errors, found) + shift_loss(errors, found)
    assert loss == 0
    loss.backward()
    assert not depth.grad.any()
    assert found.seen == 0


def test_a_frame_has_the_same_loss_in_any_batch():
    lidar, projection = scene()
    depth = torch.full((1, 10, 20), 8.0)
    boxes = torch.tensor([CAR])
    alone = measured_objects(lidar[None], projection[None], [boxes])
    twice = measured_objects(lidar.expand(2, -1, -1), projection.expand(2, -1, -1), [boxes, boxes])
    for loss in (pixel_loss, shift_loss):
        one = loss(log_errors(depth, alone), alone) / alone.seen
        two = loss(log_errors(depth.expand(2, -1, -1), twice), twice) / twice.seen
        assert two.item() == pytest.approx(one.item(), rel=1e-6)
