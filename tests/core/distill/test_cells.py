"""Cells of objects and cells with points."""

import shapely
import torch
from shapely import affinity

from kd3d_core.detectors.anchor_detector import BevFeatures
from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.distill.cells import filled_cells, foreground_cells, resized

GRID = VoxelGrid((0.5, 0.5, 4.0), (0.0, -10.0, -3.0, 30.0, 10.0, 1.0))


def test_cells_of_turned_boxes_are_those_of_another_geometry_library():
    boxes = torch.tensor(
        [[10.0, 2.0, -1.7, 3.9, 1.6, 1.5, 0.7], [25.3, -6.1, -1.7, 4.4, 1.8, 1.6, -2.2]]
    )
    mask = foreground_cells([boxes], GRID, (40, 60))[0, 0]
    for row in range(40):
        for column in range(60):
            center = shapely.Point(0.5 * (column + 0.5), -10 + 0.5 * (row + 0.5))
            inside = False
            for x, y, _, length, width, _, yaw in boxes.tolist():
                half_x, half_y = (length + 0.5) / 2, (width + 0.5) / 2
                shape = shapely.box(x - half_x, y - half_y, x + half_x, y + half_y)
                inside |= affinity.rotate(shape, yaw, use_radians=True).contains(center)
            assert bool(mask[row, column]) == inside, (row, column)


def test_every_box_has_a_cell_and_every_sample_its_own():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y, yaw = (torch.rand(3, generator=generator) * torch.tensor([28, 18, 6.3])).tolist()
        person = torch.tensor([[x + 1, y - 9, -1.7, 0.1, 0.1, 1.7, yaw]])
        masks = foreground_cells([torch.zeros(0, 7), person], GRID, (40, 60))
        assert masks.shape == (2, 1, 40, 60)
        assert not masks[0].any()
        assert 1 <= int(masks[1].sum()) <= 4


def test_height_doesnt_matter_from_above():
    low, high = (torch.tensor([[10.0, 2.0, z, 3.9, 1.6, 1.5, 0.7]]) for z in (-3.0, 5.0))
    sizes = (40, 60)
    assert torch.equal(foreground_cells([low], GRID, sizes), foreground_cells([high], GRID, sizes))


def test_filled_cells_are_found_again_on_a_coarser_grid():
    canvas = torch.zeros(1, 3, 8, 12)
    canvas[0, 1, 2, 5] = -0.1
    filled = filled_cells(BevFeatures((canvas,), (), ()))
    assert filled.nonzero().tolist() == [[0, 0, 2, 5]]
    assert resized(filled, (4, 6)).nonzero().tolist() == [[0, 0, 1, 2]]
    assert torch.equal(resized(filled, (8, 12)), filled)


def test_a_detector_may_say_itself_which_cells_are_filled():
    canvas, filled = torch.ones(1, 3, 2, 2), torch.tensor([[[[True, False], [False, False]]]])
    assert torch.equal(filled_cells(BevFeatures((canvas,), (), (), filled=filled)), filled)
