"""ModelConfig: everything that `CameraDetector` needs to know, as YAML files say it.

Those that have a name are `config/models/NAME.yaml` and, packed with their weights,
`weights/NAME/model.yaml`.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import yaml

from kd3d_core.config import load_config
from kd3d_core.depth.model import DepthConfig
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.files import write_whole
from kd3d_core.paths import share_dir
from kd3d_core.pseudo_lidar import PseudoLidarConfig

_SHIPPED = "demo"  # the default of commands and node


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
    """The configuration in a YAML file, or the one of that name.

    Weights that start with `./` or `../` are files relative to the YAML file's folder.

    Raises:
        ConfigError: there is no such model, or its file is wrong.
    """
    path = Path(model) if is_model_file(model) else _file_of(str(model))
    config = load_config(ModelConfig, path)
    return replace(
        config,
        depth=_beside(config.depth, path.parent),
        detector=_beside(config.detector, path.parent),
    )


def is_model_file(model: Path | str) -> bool:
    """Whether a model is named by its file, and not by its name."""
    return Path(model).suffix in (".yaml", ".yml")


def _file_of(name: str) -> Path:
    share = share_dir()
    files = {file.parent.name: file for file in (share / "weights").glob("*/model.yaml")}
    files |= {file.stem: file for file in (share / "config" / "models").glob("*.yaml")}
    if name in files:
        return files[name]
    others = f"use {', '.join(sorted(files))} or a .yaml file"
    if name == _SHIPPED:
        raise ConfigError(
            f"the model {name!r} is missing in {share / 'weights' / name}: it comes with kd3d's "
            f"repository, and scripts/train-demo makes it anew; or {others}"
        )
    raise ConfigError(f"no model is called {name!r}: {others}")


def save_model_config(config: ModelConfig, path: Path) -> None:
    """Write a YAML file that `load_model_config` reads."""
    plain = json.loads(json.dumps(asdict(config)))
    write_whole(path, yaml.safe_dump(plain, sort_keys=False).encode())


_Part = TypeVar("_Part", DepthConfig, DetectorConfig)


def _beside(part: _Part, folder: Path) -> _Part:
    if not part.weights.startswith(("./", "../")):
        return part
    return replace(part, weights=str((folder / part.weights).resolve()))
