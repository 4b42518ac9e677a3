"""A study before its runs, and metrics as if there had been runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_study import MODEL, write_street, write_study

from kd3d_core.config import load_config
from kd3d_core.depth.glpn import random_glpn
from kd3d_core.models.config import load_model_config
from kd3d_core.study.config import StudyConfig


@pytest.fixture
def ready(tmp_path, monkeypatch) -> Path:
    """A folder with frames, a depth network of random weights, and `study.yaml`."""
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    write_street(tmp_path / "street", [1, 4, 2, 3, 2, 2])
    (tmp_path / "train.txt").write_text("000000\n000001\n000002\n000003\n")
    (tmp_path / "street" / "val.txt").write_text("000004\n000005\n")
    model = tmp_path / "random.yaml"
    model.write_text(yaml.safe_dump(MODEL))
    random_glpn(load_model_config(model).depth, 0).save(tmp_path / "depth")
    depth = {**MODEL["depth"], "weights": "./depth"}
    (tmp_path / "depth.yaml").write_text(yaml.safe_dump({**MODEL, "depth": depth}))
    write_study(tmp_path)
    return tmp_path


@pytest.fixture
def study(tmp_path) -> StudyConfig:
    """The study as a configuration, without frames or networks."""
    return load_config(StudyConfig, write_study(tmp_path))


@pytest.fixture
def pretend(study) -> Callable[..., None]:
    """Writes the metrics of a run as `evaluate_run` would: AP at the strict and loose IoU."""

    def write(
        variant: str, seed: int, strict: float, loose: float, seconds: float = 60,
        revision: str = "abc",
    ) -> None:  # fmt: skip
        folder = Path(study.out) / "runs" / variant / f"seed{seed}"
        folder.mkdir(parents=True)

        def ap(value: float) -> dict[str, Any]:
            level = {"3d": {"R40": [99.0, value, 1.0]}, "bev": {"R40": [99.0, value + 5, 1.0]}}
            return dict.fromkeys(("car", "pedestrian", "cyclist"), level)

        metrics = {
            "ap": {"strict": ap(strict), "loose": ap(loose)},
            "objects": {"car": 50, "pedestrian": 20, "cyclist": 0},
            "beyond_range": {"car": 3, "pedestrian": 0, "cyclist": 0},
            "frames": 150, "seconds": seconds, "steps": 100, "epochs": 4, "revision": revision,
        }  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(metrics))

    return write
