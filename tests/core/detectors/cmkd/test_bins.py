"""Bins of depth: edges, classes, expectation."""

import doctest
import importlib

import pytest
import torch

from kd3d_core.detectors.cmkd.bins import UNKNOWN, DepthBins
from kd3d_core.errors import ConfigError

KITTI = DepthBins(2.0, 46.8, 120)


def test_edges_are_those_of_cmkd():
    edges = KITTI.edges().double()
    assert KITTI.width == pytest.approx(6.17e-3, rel=1e-3)
    assert (edges[0], edges[-1]) == (2.0, pytest.approx(46.8, abs=1e-4))
    widths = edges.diff()
    at_20_m = int((edges < 20).sum()) - 1
    assert widths[at_20_m] == pytest.approx(0.475, abs=0.01)
    torch.testing.assert_close(
        widths.diff(), torch.full((119,), KITTI.width).double(), atol=1e-5, rtol=0
    )


def test_the_class_of_a_depth_is_the_bin_between_whose_edges_it_lies():
    edges = KITTI.edges()
    middles = (edges[1:] + edges[:-1]) / 2
    assert torch.equal(KITTI.classes(middles), torch.arange(120))
    torch.testing.assert_close(KITTI.position(edges), torch.arange(121.0), atol=1e-3, rtol=0)


def test_unknown_is_not_beyond():
    depth = torch.tensor([0.0, -1.0, torch.nan, torch.inf, 1.9, 46.9, 500.0])
    expected = [UNKNOWN] * 5 + [120, 120]
    assert KITTI.classes(depth).tolist() == expected


def test_the_expectation_of_one_bin_is_its_centre():
    certain = torch.zeros(1, 121, 1, 3)
    certain[0, 10, 0, 0] = certain[0, 119, 0, 1] = certain[0, 120, 0, 2] = 1
    near, far, beyond = KITTI.expected(certain)[0, 0].tolist()
    assert (near, far) == (pytest.approx(2.3726, abs=1e-3), pytest.approx(46.43, abs=0.01))
    assert beyond == pytest.approx(46.8)


@pytest.mark.parametrize("values", [(2.0, 2.0, 4), (-1.0, 2.0, 4), (1.0, 2.0, 0)])
def test_bins_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError, match="depth bins are"):
        DepthBins(*values)


@pytest.mark.parametrize("name", ["cmkd.bins", "cmkd.lifting", "cmkd.image_side", "quality"])
def test_examples_are_true(name):
    module = importlib.import_module(f"kd3d_core.detectors.{name}")
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
