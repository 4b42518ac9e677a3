"""ModelConfig: everything that `CameraDetector` needs to know, as `config/models/*.yaml` say it."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import yaml

from kd3d_core.config import load_config
from kd3d_core.depth.model import DepthConfig
from kd3d_core.detectors.build import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.files import write_whole
from kd3d_core.paths import share_dir
from kd3d_core.pseudo_lidar import PseudoLidarConfig


@dataclass(frozen=True)
class ModelConfig:
    """A depth model, what becomes of its depth, and a detector.

    Attributes:
        depth: the depth model.
        detector: the detector.
        pseudo_lidar: how depth becomes points.
        seed: draws weights that are `random`.
    """

    depth: DepthConfig
    detector: DetectorConfig
    pseudo_lidar: PseudoLidarConfig = field(default_factory=PseudoLidarConfig)
    seed: int = 0


def load_model_config(model: Path | str) -> ModelConfig:
    """The configuration in a YAML file, or the one of that name in `config/models`.

    Weights that start with `./` or `../` are files relative to the YAML file's folder.
    """
    path = Path(model)
    if path.suffix not in (".yaml", ".yml"):
        folder = share_dir() / "config" / "models"
        path = folder / f"{model}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise ConfigError(f"no model is called {str(model)!r}: use {known} or a .yaml file")
    config = load_config(ModelConfig, path)
    return replace(
        config,
        depth=_beside(config.depth, path.parent),
        detector=_beside(config.detector, path.parent),
    )


def save_model_config(config: ModelConfig, path: Path) -> None:
    """Write a YAML file that `load_model_config` reads."""
    plain = json.loads(json.dumps(asdict(config)))
    write_whole(path, yaml.safe_dump(plain, sort_keys=False).encode())


_Part = TypeVar("_Part", DepthConfig, DetectorConfig)


def _beside(part: _Part, folder: Path) -> _Part:
    if not part.weights.startswith(("./", "../")):
        return part
    return replace(part, weights=str((folder / part.weights).resolve()))
