"""ModelConfig: everything that a model is made of, as YAML files say it.

Those that have a name are `config/models/NAME.yaml` and, packed with their weights,
`weights/NAME/model.yaml`.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from kd3d_core.config import ADDED, check_each, make_config, plain, read_settings, save_settings
from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.mono3d.config import Mono3dConfig
from kd3d_core.errors import ConfigError
from kd3d_core.models.card import ModelCard
from kd3d_core.models.engines.config import EngineConfig
from kd3d_core.paths import share_dir

_SHIPPED = ("demo", "streets")  # in the repository


@dataclass(frozen=True)
class PseudoLidarConfig:
    """How a depth map becomes points.

    Attributes:
        keep_fraction: share of the pixels that become points. A depth map is some ten times
            denser than a LiDAR's cloud.
        intensity: reflectance given to every point; an image has none.
        min_depth: nearest depth that becomes a point, metres.
        max_depth: depths from here on (sky, the model's cap) become none, metres.
        max_jump: a pixel whose depth differs from a neighbour's by more than this share of its own
            becomes none: upsampled depth leaves a smear of flying points at every edge. 0 is off.
        seed: draws the pixels that are kept, the same ones in every image of a size.
    """

    keep_fraction: float = 0.1
    intensity: float = 0.5
    min_depth: float = 1.0
    max_depth: float = 79.0
    max_jump: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_each(self, ("keep_fraction",), lambda value: 0 < value <= 1, "it must be in (0, 1]")
        if not 0 <= self.min_depth < self.max_depth:
            raise ConfigError(
                f"min_depth {self.min_depth} must be below max_depth {self.max_depth}"
            )
        check_each(self, ("intensity",), lambda value: 0 <= value <= 1, "it must be in [0, 1]")


@dataclass(frozen=True)
class PseudoLidarModelConfig:
    """A model on one image: depth, the pseudo-LiDAR made of it, and a detector that reads both.

    Attributes:
        depth: the depth network.
        detector: the detector.
        pseudo_lidar: how depth becomes points.
        seed: draws weights that are `random`.
        card: what the weights were trained on; training writes it.
        engine: what computes the parts of fixed shapes in place of torch; kd3d-export writes it.
        type: what tells the types apart in a YAML file.
    """

    depth: DepthConfig
    detector: DetectorConfig
    pseudo_lidar: PseudoLidarConfig = field(default_factory=PseudoLidarConfig)
    seed: int = 0
    card: ModelCard = field(default_factory=ModelCard)
    engine: EngineConfig | None = field(default=None, metadata=ADDED)
    type: Literal["pseudo_lidar"] = "pseudo_lidar"

    def __post_init__(self) -> None:
        _check_thresholds(self)

    @property
    def weights(self) -> dict[str, str]:
        """By network, the name or file of its weights."""
        return {"depth": self.depth.weights, "detector": self.detector.weights}


@dataclass(frozen=True)
class LidarModelConfig:
    """A model on true LiDAR points: a teacher, or an upper reference.

    Attributes:
        detector: the detector; it may read the image too.
        seed: draws weights that are `random`.
        card: what the weights were trained on; training writes it.
        type: what tells the types apart in a YAML file.
    """

    detector: DetectorConfig
    seed: int = 0
    card: ModelCard = field(default_factory=ModelCard)
    type: Literal["lidar"] = "lidar"

    def __post_init__(self) -> None:
        if self.detector.reads_image_alone:
            raise ConfigError(
                f"a model of type lidar reads points, and {self.detector.type} an image alone: use "
                "type cmkd"
            )
        _check_thresholds(self)

    @property
    def weights(self) -> dict[str, str]:
        """By network, the name or file of its weights."""
        return {"detector": self.detector.weights}


@dataclass(frozen=True)
class CmkdModelConfig:
    """A model on one image, of whose depth the detector itself has a distribution.

    Attributes:
        detector: `cmkd_kitti`, `cmkd_lite` or `cmkd_tiny`.
        pseudo_lidar: how the mean of that distribution becomes the points that are given out.
        seed: draws weights that are `random`.
        card: what the weights were trained on; training writes it.
        engine: what computes the parts of fixed shapes in place of torch; kd3d-export writes it.
        type: what tells the types apart in a YAML file.
    """

    detector: DetectorConfig
    pseudo_lidar: PseudoLidarConfig = field(default_factory=PseudoLidarConfig)
    seed: int = 0
    card: ModelCard = field(default_factory=ModelCard)
    engine: EngineConfig | None = field(default=None, metadata=ADDED)
    type: Literal["cmkd"] = "cmkd"

    def __post_init__(self) -> None:
        if not self.detector.reads_image_alone:
            raise ConfigError(
                f"a model of type cmkd reads an image alone, and {self.detector.type} points: use "
                "cmkd_kitti, cmkd_lite or cmkd_tiny"
            )
        _check_thresholds(self)

    @property
    def weights(self) -> dict[str, str]:
        """By network, the name or file of its weights."""
        return {"detector": self.detector.weights}


@dataclass(frozen=True)
class Mono3dModelConfig:
    """A model of others on one image, without depth and points, as mmdet3d has it.

    Attributes:
        detector: the detector, which is the whole model.
        seed: draws weights that are `random`.
        card: what the weights were trained on.
        type: what tells the types apart in a YAML file.
    """

    detector: Mono3dConfig
    seed: int = 0
    card: ModelCard = field(default_factory=ModelCard)
    type: Literal["mono3d"] = "mono3d"

    def __post_init__(self) -> None:
        _check_thresholds(self)
        # The one network learns depth as well, and there is no other.
        object.__setattr__(self, "card", replace(self.card, depth=self.card.detector))

    @property
    def weights(self) -> dict[str, str]:
        """By network, the name or file of its weights."""
        return {"detector": self.detector.weights}


OwnModelConfig = PseudoLidarModelConfig | LidarModelConfig | CmkdModelConfig
"""Those whose detectors are kd3d's own, and can be trained."""
ExportableConfig = PseudoLidarModelConfig | CmkdModelConfig
"""Those that `kd3d-export` takes."""
ModelConfig = OwnModelConfig | Mono3dModelConfig


_Model = TypeVar("_Model", bound=ModelConfig)


def with_detector_weights(model: _Model, weights: str) -> _Model:
    """The same model with other weights of its detector."""
    return replace(model, detector=model.detector.with_weights(weights))  # type: ignore[arg-type]


def without_engine(model: _Model) -> _Model:
    """The same model, all of it computed by torch."""
    return replace(model, engine=None) if isinstance(model, ExportableConfig) else model


def own_model(config: ModelConfig, name: Path | str) -> OwnModelConfig:
    """The model, if its detector is kd3d's own; `ConfigError` that names it if not."""
    if isinstance(config, Mono3dModelConfig):
        raise ConfigError(
            f"{name} is of type mono3d, which kd3d runs and compares but doesn't train: use a "
            "model of type pseudo_lidar, cmkd or lidar here"
        )
    return config


def _check_thresholds(config: ModelConfig) -> None:
    classes = config.detector.classes
    if unknown := [name for name in config.card.score_thresholds if name not in classes]:
        raise ConfigError(
            f"card.score_thresholds has {unknown[0]!r}, and the classes are {', '.join(classes)}"
        )


MODEL_TYPES: dict[str, type[ModelConfig]] = {
    "pseudo_lidar": PseudoLidarModelConfig,
    "lidar": LidarModelConfig,
    "cmkd": CmkdModelConfig,
    "mono3d": Mono3dModelConfig,
}
"""By the `type` in a YAML file, how the rest of it is read. Without one it is `pseudo_lidar`."""


def load_model_config(model: Path | str) -> ModelConfig:
    """The configuration in a YAML file, or the one of that name.

    Weights that start with `./` or `../` are files relative to the YAML file's folder.

    Raises:
        ConfigError: there is no such model, or its file is wrong.
    """
    path = Path(model) if is_model_file(model) else _file_of(str(model))
    settings = read_settings(path)
    config: Any = make_config(_type_of(settings, path), settings, path)
    beside: dict[str, Any] = {"detector": _beside(config.detector, path.parent)}
    if isinstance(config, PseudoLidarModelConfig):
        beside["depth"] = _beside(config.depth, path.parent)
    if isinstance(config, ExportableConfig) and config.engine is not None:
        folder = _absolute(config.engine.folder, path.parent)
        beside["engine"] = replace(config.engine, folder=folder)
    return replace(config, **beside)


def _type_of(settings: dict[str, Any], path: Path) -> type[ModelConfig]:
    name = settings.get("type", "pseudo_lidar")
    if name not in MODEL_TYPES:
        raise ConfigError(f"{path}: type is {name!r}: use one of {', '.join(MODEL_TYPES)}")
    return MODEL_TYPES[name]


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
    if name in _SHIPPED:
        raise ConfigError(
            f"the model {name!r} is missing in {share / 'weights' / name}: it comes with kd3d's "
            f"repository, whose weights/README.md says how it is made; or {others}"
        )
    raise ConfigError(f"no model is called {name!r}: {others}")


def save_model_config(config: ModelConfig, path: Path) -> None:
    """Write a YAML file that `load_model_config` reads."""
    settings = plain(config)
    if config.card == ModelCard():
        del settings["card"]  # nothing is known
    if settings.get("engine") is None:
        settings.pop("engine", None)
    ordered = {"type": settings.pop("type"), **settings}
    save_settings(path, ordered)


_Part = TypeVar("_Part", DepthConfig, DetectorConfig, Mono3dConfig)


def _beside(part: _Part, folder: Path) -> _Part:
    if isinstance(part, DetectorConfig) and part.image_side is not None:
        side = part.image_side
        part = replace(part, image_side=replace(side, weights=_absolute(side.weights, folder)))
    return replace(part, weights=_absolute(part.weights, folder))


def _absolute(weights: str, folder: Path) -> str:
    return str((folder / weights).resolve()) if weights.startswith(("./", "../")) else weights
