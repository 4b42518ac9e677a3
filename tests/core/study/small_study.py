"""A study on the small street: a teacher and two students, seconds per run."""

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from small_street import MODEL, write_street

__all__ = ["MODEL", "settings", "write_street", "write_study"]

PHASES = [{"until_epoch": 1, "det": 1.0, "feat": 2.0, "logit": 1.0}]


def settings(folder: Path) -> dict[str, Any]:
    """Of a study in `folder`; see `ready`."""
    return {
        "out": str(folder / "study"),
        "data": {
            "root": str(folder / "street"),
            "train": str(folder / "train.txt"),
            "val": "val.txt",  # in the folder of the frames
        },
        "depth": str(folder / "depth.yaml"),
        "pseudo_lidar": MODEL["pseudo_lidar"],
        "detector": deepcopy(MODEL["detector"]),
        "run": {
            "epochs": 1, "batch_size": 2, "workers": 0, "precision": "fp32", "validate_every": 1,
            "optimizer": {"lr": 1e-3, "ema": 0.5},
        },
        "variants": {"control": {}, "both": {"distill": {"start": "model", "phases": PHASES}}},
        "seeds": [0, 1],
    }  # fmt: skip


def write_study(folder: Path, **changes: Any) -> Path:
    """`folder/study.yaml`, with changes."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings(folder) | changes, sort_keys=False))
    return path
