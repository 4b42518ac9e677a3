"""EngineConfig: which engine computes which parts of a model, as `kd3d-export` writes it."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kd3d_core.errors import ConfigError

EngineName = Literal["onnxruntime", "openvino"]

ANEW = "make it anew with kd3d-export"
NO_ENGINE = "take `engine` out of the model's YAML file, and torch computes all of it"
"""What to do about an engine that doesn't fit."""


@dataclass(frozen=True)
class EngineConfig:
    """An engine, and the ONNX files that it computes.

    Attributes:
        name: the engine; both take the same files.
        folder: of the files, PART.onnx for each part.
        made_for: `fingerprint` of the model that they were made from.
        files: by part, the sha256 of its file.
        int8: the parts whose products are of whole numbers of 8 bits.
    """

    name: EngineName
    folder: str
    made_for: str
    files: dict[str, str]
    int8: tuple[str, ...] = ()

    def file(self, part: str) -> Path:
        """The ONNX file of a part."""
        return Path(self.folder) / f"{part}.onnx"

    @property
    def description(self) -> str:
        """In a few words, for people.

        >>> EngineConfig("openvino", "./engine", "", {}, int8=("image", "bev")).description
        'openvino (int8: image, bev)'
        """
        return self.name + (f" (int8: {', '.join(self.int8)})" if self.int8 else "")


def check_installed(*packages: str) -> None:
    """`ConfigError` if one of these packages isn't installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not found: pip install {' '.join(missing)}, or {NO_ENGINE}"
        )


def check_can_export(engine: EngineName, out: Path, int8: bool) -> None:
    """`ConfigError` if a package is missing, or `out` is there already."""
    check_installed(engine, "onnx", "onnxscript", *(["onnxruntime"] if int8 else []))
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or give another folder")
