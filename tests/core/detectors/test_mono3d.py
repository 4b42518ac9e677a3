"""SMOKE, PGD, FCOS3D and ImVoxelNet find what mmdet3d finds with its own configs and pipelines."""

from functools import cache

import numpy as np
import pytest
import torch
from mono3d_reference import FILES, PUBLISHED, Found, Mmdet3d, small_design
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.detectors.checkpoint import load_tensors
from kd3d_core.detectors.decode import BoxSlots
from kd3d_core.detectors.mono3d.detector import Mono3dDetector
from kd3d_core.detectors.mono3d.images import prepare
from kd3d_core.errors import WeightsError
from kd3d_core.geometry.boxes import to_kitti
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.weights.tensors import read_tensors

NUSCENES = {"car": "Car", "pedestrian": "Pedestrian", "bicycle": "Cyclist"}


def kinds(*names: str) -> pytest.MarkDecorator:
    """Small ones, and slowly those that are published."""
    published = (pytest.param(name, False, marks=pytest.mark.slow) for name in names)
    return pytest.mark.parametrize(
        ("kind", "small"), [*((name, True) for name in names), *published]
    )


@cache
def pair(kind: str, small: bool) -> tuple[Mmdet3d, Mono3dDetector]:
    """Theirs, and ours with its weights."""
    theirs = Mmdet3d(kind, small)
    ours = Mono3dDetector(small_design(kind) if small else PUBLISHED[kind]()).eval()
    load_tensors(ours.network, theirs.network.state_dict(), "mmdet3d's")
    return theirs, ours


def camera(height: int, width: int) -> PinholeCamera:
    """Of KITTI's kind: to the side of the camera that labels refer to, and a little turned."""
    focal = 0.58 * width
    projection = np.array(
        [[focal, 0, 0.49 * width, 0.06 * focal], [0, focal, 0.46 * height, 0.2], [0, 0, 1, 0.003]]
    )
    return PinholeCamera(projection, width, height, virtual_lidar_from_camera(1.65))


def noise(height: int, width: int) -> np.ndarray:
    """Coarse, so that a step between pixels of a scaled image isn't a step of the colours."""
    low = np.random.default_rng(2).uniform(0, 255, (3, height // 16 + 2, width // 16 + 2))
    scale = {"size": (height, width), "mode": "bicubic"}
    fine = torch.nn.functional.interpolate(torch.from_numpy(low)[None], **scale)[0]
    return fine.clamp(0, 255).byte().permute(1, 2, 0).numpy().copy()


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float()


def assert_same(found: BoxSlots, expected: Found, view: PinholeCamera, lidar: bool) -> None:
    """The boxes that have classes of ours, compared in the frame that theirs are in."""
    names = [NUSCENES.get(name, name) for name in expected.names]
    kept = [index for index, name in enumerate(names) if name in KITTI_CLASSES]
    labels = np.array([KITTI_CLASSES.index(names[index]) for index in kept])
    boxes, scores = found.boxes[0].numpy(), found.scores[0].numpy()
    if not lidar:
        place, height_width_length, yaw = to_kitti(boxes, view.lidar_from_camera)
        boxes = np.column_stack([place, height_width_length[:, [2, 0, 1]], yaw])
    assert len(kept) == len(boxes) > 0
    assert (np.diff(scores) <= 0).all()
    mine, theirs = (
        np.column_stack([rows[:, :6], np.cos(rows[:, 6]), np.sin(rows[:, 6]), 100 * label, score])
        for rows, label, score in (
            (boxes, found.labels[0].numpy(), scores),
            (expected.boxes[kept], labels, expected.scores[kept]),
        )
    )
    order, reference = linear_sum_assignment(cdist(mine, theirs))  # equal scores have no order
    np.testing.assert_allclose(mine[order], theirs[reference], atol=1e-4, rtol=1e-5)


@kinds(*FILES)
def test_they_find_the_same(kind, small):
    """In an image that needs no scaling: colours, padding, network, boxes, NMS, classes."""
    theirs, ours = pair(kind, small)
    size = ours.design.image.size
    if ours.design.image.resize == "keep":
        size = (60, 150) if small else {"pgd": (375, 1242), "fcos3d": (900, 1600)}[kind]
    image, view = noise(*size), camera(*size)
    with torch.no_grad():
        found = ours(tensor(image), view)
    assert_same(found, theirs(image, view), view, theirs.lidar)


@kinds("smoke", "imvoxelnet")
@pytest.mark.parametrize("scale", [1.25, 0.8])
def test_images_of_another_size(kind, small, scale):
    """The image is scaled as theirs, up to a colour's rounding, and boxes are right in it."""
    theirs, ours = pair(kind, small)
    height, width = ours.design.image.size
    size = round(scale * height), round(0.95 * scale * width)
    image, view = noise(*size), camera(*size)
    with torch.no_grad():
        seen, _ = prepare(tensor(image), view, ours.design.image)
        found = ours(tensor(image), view)
    deviation = np.array(ours.design.image.normalization.std)[:, None, None]
    difference = (seen - theirs.images(image, view))[0].numpy() * deviation
    assert np.abs(difference).max() < 5  # at the border: theirs knows places to 1/32 of a pixel
    assert np.abs(difference).mean() < 0.5
    assert_same(found, theirs(image, view, seen), view, theirs.lidar)


@kinds(*FILES)
def test_checkpoints_fill_it_by_name(kind, small, tmp_path):
    """mmdet3d's layout, read without unpickling; a tensor too few is refused."""
    theirs, ours = pair(kind, small)
    file = tmp_path / "published.pth"
    tensors = theirs.network.state_dict()
    torch.save({"meta": {"epoch": 72}, "state_dict": tensors}, file)
    for value in ours.network.parameters():
        torch.nn.init.zeros_(value)
    load_tensors(ours.network, read_tensors(file), file)
    assert all(
        torch.equal(value, tensors[name]) for name, value in ours.network.state_dict().items()
    )
    del tensors["bbox_head.conv_cls.weight"]
    with pytest.raises(
        WeightsError, match=r"1 tensors differ: bbox_head.conv_cls.weight is missing"
    ):
        load_tensors(ours.network, tensors, file)
