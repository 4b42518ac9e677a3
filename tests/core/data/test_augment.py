"""Augmentation: one world for points, boxes, image and projection."""

import math

import numpy as np
import pytest
import torch

from kd3d_core.data.augment import Augmentation, draw_augmentation, turned_view
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera

PROJECTION = torch.tensor(
    [[300.0, 0, 200, 4.4], [0, 300, 60, 0.2], [0, 0, 1, 0.003]], dtype=torch.float64
) @ torch.tensor(
    [[0.0, -1, 0, 0.01], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]], dtype=torch.float64
)

CHANGES = [
    Augmentation(),
    Augmentation(flip=True),
    Augmentation(angle=0.7),
    Augmentation(scale=1.05),
    Augmentation(image_scale=1.2),
    Augmentation(image_scale=0.85),
    Augmentation(True, -0.4, 0.95, 1.1, 0.9, 1.2, 0.8),
]


def project(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    homogeneous = points[:, :3].double() @ matrix[:, :3].double().T + matrix[:, 3].double()
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.mark.parametrize("change", CHANGES)
def test_points_still_project_to_the_pixels_that_show_them(change):
    """A blob painted at a point's pixel is found where the changed point projects."""
    point = torch.tensor([[15.0, 1.0, -0.6, 0.3]])
    ((u, v),) = project(point, PROJECTION).tolist()
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(400.0), indexing="ij")
    blob = 255 * torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 30)
    image, projection = change.image(blob.expand(3, -1, -1), PROJECTION)
    assert image.shape == (3, 120, 400)
    weight = image[0].double()
    weight = weight - weight.min()
    centroid = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    (expected,) = project(change.points(point), projection)
    assert centroid.tolist() == pytest.approx(expected.tolist(), abs=0.1)


@pytest.mark.parametrize("change", CHANGES)
def test_boxes_hold_the_same_points_afterwards(change):
    rng = np.random.default_rng(3)
    boxes = torch.tensor([[10.0, 3, -1.7, 4, 1.8, 1.5, 0.4], [12, -4, -1.6, 3.5, 1.6, 1.5, -2.9]])
    points = torch.from_numpy(rng.uniform([6, -8, -2, 0], [16, 8, 0, 1], (4000, 4)))
    before = points_in_boxes(points, boxes.double())
    after = points_in_boxes(change.points(points), change.boxes(boxes.double()))
    assert before.any(0).all()
    assert (before != after).sum() <= 2  # on a face, up to rounding
    assert torch.equal(change.points(points)[:, 3], points[:, 3])


def test_a_flip_mirrors_heading_and_side():
    boxes = torch.tensor([[10.0, 3, -1.7, 4, 1.8, 1.5, math.pi / 3]])
    flipped = Augmentation(flip=True).boxes(boxes)[0]
    assert flipped[1] == -3
    assert flipped[6] == pytest.approx(-math.pi / 3)


def test_draws_follow_the_generator_and_keep_to_their_bounds():
    config = AugmentConfig(0.5, 0.3, (0.9, 1.1), (0.8, 1.2), 0.1, 0.2, 0.3)
    draw = [draw_augmentation(config, 4, 2, index) for index in range(200)]
    assert draw == [draw_augmentation(config, 4, 2, index) for index in range(200)]
    assert 60 < sum(change.flip for change in draw) < 140
    for name, low, high in [
        ("angle", -0.3, 0.3), ("scale", 0.9, 1.1), ("image_scale", 0.8, 1.2),
        ("brightness", 0.9, 1.1), ("contrast", 0.8, 1.2), ("saturation", 0.7, 1.3),
    ]:  # fmt: skip
        values = [getattr(change, name) for change in draw]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_nothing_configured_changes_nothing():
    config = AugmentConfig(0, 0, (1, 1), (1, 1), 0, 0, 0)
    assert draw_augmentation(config, 0, 0, 0) == Augmentation()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *((name, value) for name in ("brightness", "contrast", "saturation")
          for value in (-0.1, 1.0, 2.0, math.nan)),
        *((name, value) for name in ("scale", "image_scale")
          for value in ((1.1, 0.9), (0.0, 1.0), (0.09, 1.0), (1.0, 10.1), (1.0, math.inf))),
        *(("flip", value) for value in (-0.1, 1.5, math.nan)),
        *(("rotation", value) for value in (-1.0, 3.2, math.nan)),
        ("min_object_points", 0),
        ("sample_objects", {"Car": 3, "Cyclist": 0}),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(name, bad):
    with pytest.raises(ConfigError, match=name):
        AugmentConfig(**{name: bad})


def test_black_images_are_refused_with_the_range_that_is_allowed():
    with pytest.raises(
        ConfigError, match=r"brightness is 2\.0: .*from 0 to below 1 \(0\.2: factors"
    ):
        AugmentConfig(brightness=2.0)


@pytest.mark.parametrize(
    "settings",
    [
        {name: value}
        for name, values in {
            "flip": (0, 1), "rotation": (0, math.pi), "scale": ((0.1, 10), (1, 1)),
            "image_scale": ((0.1, 10),), "brightness": (0, 0.99), "contrast": (0, 0.99),
            "saturation": (0, 0.99), "min_object_points": (1,), "sample_objects": ({"Car": 1},),
        }.items()
        for value in values
    ],
)  # fmt: skip
def test_the_ends_of_each_range_are_allowed(settings):
    AugmentConfig(**settings)


@pytest.mark.parametrize(("zoom", "column", "row"), [(1.5, 90, 30), (0.5, 70, 30)])
def test_a_zoom_moves_what_the_image_shows_away_from_its_centre_or_towards_it(zoom, column, row):
    """A spot 20 pixels right of the centre of an image of 121 x 61."""
    columns, rows = torch.meshgrid(torch.arange(121.0), torch.arange(61.0), indexing="xy")
    spot = 255 * torch.exp(-((columns - 80) ** 2 + (rows - 30) ** 2) / 20)
    image, matrix = Augmentation(image_scale=zoom).image_only(spot.expand(3, -1, -1))
    assert image.shape == (3, 61, 121)
    found = divmod(int(image[0].argmax()), 121)
    assert found == pytest.approx((row, column), abs=1)
    assert (matrix @ torch.tensor([80.0, 30, 1]).double())[:2].tolist() == pytest.approx(
        [column, row], abs=1
    )


# A red pixel, whose grey by ITU-R BT.601 is 0.299 * 200 = 59.8, beside a grey one of 100.
RED_AND_GREY = [[200.0, 0, 0], [100, 100, 100]]
MEAN = (59.8 + 100) / 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, RED_AND_GREY),
        # Grey plus half of what differs from it.
        ({"saturation": 0.5}, [[129.9, 29.9, 29.9], [100, 100, 100]]),
        ({"saturation": 1.25}, [[235.05, 0, 0], [100, 100, 100]]),
        # Half of what differs from the image's mean grey.
        (
            {"contrast": 0.5},
            [[MEAN / 2 + 100, MEAN / 2, MEAN / 2], [MEAN / 2 + 50] * 3],
        ),
        ({"contrast": 1.2}, [[1.2 * 200 - 0.2 * MEAN, 0, 0], [120 - 0.2 * MEAN] * 3]),
        ({"brightness": 0.5}, [[100, 0, 0], [50, 50, 50]]),
        ({"brightness": 1.5}, [[255, 0, 0], [150, 150, 150]]),  # not 300
        # All three; nothing is cut off before the end.
        (
            {"saturation": 1.25, "contrast": 0.5, "brightness": 0.8},
            [
                [0.4 * (MEAN + 235.05), 0.4 * (MEAN - 14.95), 0.4 * (MEAN - 14.95)],
                [0.4 * (MEAN + 100)] * 3,
            ],
        ),
    ],
)
def test_colours_change_as_computed_by_hand(change, expected):
    image = torch.tensor(RED_AND_GREY).T[:, None].contiguous()  # (3, 1, 2)
    changed, matrix = Augmentation(**change).image_only(image)
    assert changed.shape == image.shape
    assert torch.equal(matrix, torch.eye(3, dtype=torch.float64))
    found = changed[:, 0].T
    torch.testing.assert_close(found, torch.tensor(expected).to(found), atol=1e-3, rtol=0)
    assert torch.equal(image[:, 0].T, torch.tensor(RED_AND_GREY))  # the given image stays


@pytest.mark.parametrize(
    ("rgb", "grey"), [((100.0, 0, 0), 29.9), ((0, 100.0, 0), 58.7), ((0, 0, 100.0), 11.4)]
)
def test_without_saturation_each_colour_is_as_grey_as_it_looks(rgb, grey):
    changed, _ = Augmentation(saturation=0.0).image_only(torch.tensor(rgb).view(3, 1, 1))
    assert changed.flatten().tolist() == pytest.approx([grey] * 3, abs=1e-3)


def test_the_contrast_of_an_image_keeps_its_mean():
    image = 100 + 50 * torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    changed, _ = Augmentation(contrast=0.3).image_only(image)
    assert changed.std() < 0.5 * image.std()
    grey = torch.tensor([0.299, 0.587, 0.114])
    assert (changed.mean((1, 2)) @ grey).item() == pytest.approx(
        (image.mean((1, 2)) @ grey).item(), abs=1e-2
    )


def test_without_a_change_of_colours_the_image_is_the_same_to_the_bit():
    image = 255 * torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Augmentation().image_only(image)[0], image)
    assert torch.equal(Augmentation(flip=True).image_only(image)[0], image.flip(-1))


class TestTurnedView:
    ALL = np.ones((120, 400), bool)
    CAMERA = PinholeCamera(
        np.array([[300.0, 0, 200, 13.0], [0, 280, 60, 0.2], [0, 0, 1, 0.003]]),
        400,
        120,
        np.linalg.inv(
            np.array([[0, -1, 0, 0.1], [0, 0, -1, -0.08], [1, 0, 0, -0.3], [0, 0, 0, 1]])
        ),
    )

    @pytest.mark.parametrize(
        ("pitch", "roll"), [(0.04, 0.0), (-0.05, 0.0), (0.0, 0.1), (0.03, -0.1)]
    )
    def test_a_point_is_where_the_turned_camera_sees_it(self, pitch, roll):
        point = np.array([15.0, 1.0, -0.6, 1.0])
        u, v, w = self.CAMERA.image_from_lidar @ point
        rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(400.0), indexing="ij")
        blob = 255 * torch.exp(-((columns - u / w) ** 2 + (rows - v / w) ** 2) / 30)
        change = Augmentation(pitch=pitch, roll=roll)
        image, camera, seen = turned_view(blob.expand(3, -1, -1), self.CAMERA, self.ALL, change)
        weight = (image[0] * torch.from_numpy(seen)).double()
        found = torch.stack([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        x, y, z = camera.image_from_lidar @ point
        assert found.tolist() == pytest.approx([x / z, y / z], abs=0.1)

    def test_a_camera_that_looks_down_sees_its_horizon_further_up(self):
        far_ahead = [1e6, 0, 0, 1]
        image = torch.zeros(3, 120, 400)
        _, down, _ = turned_view(image, self.CAMERA, self.ALL, Augmentation(pitch=0.05))
        before, after = (c.image_from_lidar @ far_ahead for c in (self.CAMERA, down))
        assert before[1] / before[2] - after[1] / after[2] == pytest.approx(280 * math.tan(0.05))

    def test_its_centre_stays_where_it_is(self):
        image = torch.zeros(3, 120, 400)
        _, turned, _ = turned_view(image, self.CAMERA, self.ALL, Augmentation(pitch=0.1))
        centers = [np.linalg.solve(p[:, :3], p[:, 3]) for p in
                   (self.CAMERA.image_from_lidar, turned.image_from_lidar)]  # fmt: skip
        assert centers[0] == pytest.approx(centers[1])

    def test_rows_that_the_old_image_did_not_show_are_not_seen(self):
        image = torch.full((3, 120, 400), 100.0)
        turned, _, seen = turned_view(image, self.CAMERA, self.ALL, Augmentation(pitch=0.05))
        missing = 280 * math.tan(0.05)  # at the lower border, where it looks now
        assert seen[: 119 - round(missing * 1.2), 20:-20].all()
        assert not seen[-round(missing * 0.9) :].any()
        assert (turned > 99).all()  # filled, so that no black border says how it is turned

    def test_padding_is_not_seen_wherever_it_comes_to_lie(self):
        image, seen = torch.full((3, 120, 400), 100.0), self.ALL.copy()
        image[:, 80:], seen[80:] = 0.0, False
        turned, _, seen = turned_view(image, self.CAMERA, seen, Augmentation(pitch=0.05))
        assert 50 < seen[:, 200].sum() < 70  # it looks down, and the image moves up by 14 pixels
        assert (turned[:, seen] > 49).all()
        assert (turned[:, 85:] == 0).all()

    def test_without_a_turn_nothing_is_resampled(self):
        image = torch.rand(3, 120, 400)
        change = Augmentation(flip=True, angle=0.3)
        same, camera, seen = turned_view(image, self.CAMERA, self.ALL, change)
        assert same is image
        assert camera is self.CAMERA
        assert seen.all()

    def test_turns_that_leave_no_image_are_refused(self):
        with pytest.raises(
            ConfigError, match=r"pitch is 2\.5: give the camera's largest turn in rad"
        ):
            AugmentConfig(pitch=2.5)
