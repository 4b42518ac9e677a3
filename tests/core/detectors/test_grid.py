"""Detectors with a range of their own."""

from pathlib import Path

import pytest
import torch
import yaml

from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config

SMALL = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
CELLS = {"lite": 64, "mvxnet": 64, "second": 64, "pointpillars": 80}
"""Cells of the head's map in x and y."""


def config(kind: str, wanted=SMALL) -> DetectorConfig:
    return DetectorConfig(
        kind, "random", WindowConfig((64, 192)), point_cloud_range=wanted
    )  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
def test_grid_maps_and_boxes_follow_the_range(kind):
    detector = random_detector(config(kind), 0)
    corners = [[0.1, -12.7, -1, 0.5], [25.5, 12.7, -1, 0.5]]
    points = torch.tensor([*corners, [10, 0, -1, 0.5], [30, 0, -1, 0.5], [10, 13, -1, 0.5]])
    with torch.no_grad():
        maps = detector(
            points, torch.zeros(5, dtype=torch.int64), torch.zeros(1, 3, 64, 192),
            torch.eye(4)[None, :3],
        )  # fmt: skip
    assert maps.logits.shape[-2:] == (CELLS[kind], CELLS[kind])
    anchors = detector.anchors(maps.logits.shape[-2:], torch.device("cpu"))
    low, high = anchors[:, :2].min(0).values, anchors[:, :2].max(0).values
    assert low.tolist() == pytest.approx([0, -12.8], abs=0.41)
    assert high.tolist() == pytest.approx([25.6, 12.8], abs=0.41)
    assert sorted({round(z, 3) for z in anchors[:, 2].tolist()}) == [-1.78, -0.6]
    assert maps.logits.isfinite().all()


@pytest.mark.parametrize("kind", CELLS)
def test_what_lies_beyond_the_range_changes_nothing(kind):
    detector = random_detector(config(kind), 0)
    inside = torch.tensor([[10.0, 0, -1, 0.5], [20, 5, -1, 0.5]])
    beyond = torch.tensor([[26.0, 0, -1, 0.5], [10, -13, -1, 0.5]])
    answers = []
    for points in (inside, torch.cat([inside, beyond])):
        with torch.no_grad():
            maps = detector(
                points, torch.zeros(len(points), dtype=torch.int64), torch.zeros(1, 3, 64, 192),
                torch.eye(4)[None, :3],
            )  # fmt: skip
        answers.append(maps.logits)
    assert torch.allclose(*answers, atol=1e-5)


def test_weights_fit_whatever_the_range():
    whole, part = random_detector(config("lite", None), 0), random_detector(config("lite"), 1)
    part.network.load_state_dict(whole.network.state_dict())
    assert whole.grid.shape == (1, 400, 352)
    assert part.grid.shape == (1, 128, 128)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ((0.0, -12.8, -3.0, 25.5, 12.8, 1.0), "along x it spans 25.5 m.*a multiple of 0.8 m"),
        ((0.0, -12.8, -3.0, 25.6, 12.9, 1.0), "along y it spans 25.7 m"),
        ((0.0, -12.8, -3.0, 25.6, 12.8, 0.0), "along z it spans 3 m.*needs 4 m"),
        ((5.0, -12.8, -3.0, 5.0, 12.8, 1.0), "along x it spans 0 m"),
    ],
)
def test_a_range_that_the_design_cant_have_is_one_line(wanted, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        random_detector(config("lite", wanted), 0)
    assert "\n" not in str(caught.value)


def test_a_model_file_names_the_range(tmp_path: Path):
    values = {
        "depth": {"weights": "random", "window": {"size": [64, 192]}},
        "detector": {
            "type": "lite", "weights": "random", "window": {"size": [64, 192]},
            "point_cloud_range": [0, -12.8, -3, 25.6, 12.8, 1],
        },
    }  # fmt: skip
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(values))
    found = load_model_config(path).detector
    assert random_detector(found, 0).grid.point_cloud_range == SMALL
