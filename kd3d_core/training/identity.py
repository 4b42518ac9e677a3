"""What a run depends on besides its settings, in digests: it goes on only as what it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import nn

from kd3d_core.data.pseudo_cache import PseudoLidarCache, weights_digest
from kd3d_core.data.samples import PointSource
from kd3d_core.depth.model import DepthConfig
from kd3d_core.detectors.config import DetectorConfig

Digests = dict[str, str]
"""By what it is: `model` (the settings of the network in training), `points`, `teacher`."""


def digests_of(
    model: DepthConfig | DetectorConfig,
    points: PointSource | None = None,
    teacher: nn.Module | None = None,
) -> Digests:
    """What a run depends on.

    Args:
        model: settings of the network in training.
        points: what it reads; true LiDAR has no digest: it doesn't change.
        teacher: with its weights.
    """
    settings = json.dumps(asdict(replace(model, weights="")))
    found = {"model": hashlib.sha256(settings.encode()).hexdigest()}
    if isinstance(points, PseudoLidarCache):
        found["points"] = points.digest
    if teacher is not None:
        found["teacher"] = weights_digest(teacher)
    return found


def recorded_digests(meta: Mapping[str, Any]) -> Digests:
    """Those in a checkpoint's `meta.json`; none of what older runs didn't write down."""
    found = meta.get("digests") or {"teacher": meta.get("teacher_sha256")}
    return {name: value for name, value in found.items() if value is not None}
