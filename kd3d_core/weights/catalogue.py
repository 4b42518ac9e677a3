"""What `config/weights.yaml` says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from kd3d_core.config import load_config
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.paths import share_dir


@dataclass(frozen=True)
class WeightsFile:
    """A file to download.

    Attributes:
        url: http or https; its last part is the file's name.
        sha256: hexadecimal; the beginning, where only that is published; empty if unknown.
        size: bytes; 0 if unknown.
    """

    url: str
    sha256: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not self.name:
            raise ConfigError(f"{self.url!r} is no http(s) address of a file")
        if not re.fullmatch(r"([0-9a-f]{8,64})?", self.sha256):
            raise ConfigError(
                f"sha256 {self.sha256!r} of {self.name} is not 8 to 64 lower-case hex digits"
            )

    @property
    def name(self) -> str:
        """Name of the file once it is here."""
        return Path(urlsplit(self.url).path).name


@dataclass(frozen=True)
class Weights:
    """Published weights.

    Attributes:
        description: model and what it was trained on, in a line.
        files: a single file, or those of a folder.
        origin: who publishes them.
        licence: of the weights, and of the data behind them.
        commercial_use: whether that allows it; our reading.
        note: what a user must know besides.
    """

    description: str
    files: list[WeightsFile]
    origin: str
    licence: str
    commercial_use: bool | Literal["unknown"]
    note: str = ""


@dataclass(frozen=True)
class _Catalogue:
    weights: dict[str, Weights]


def load_catalogue(path: Path | None = None) -> dict[str, Weights]:
    """Published weights by name.

    Args:
        path: default: kd3d's `config/weights.yaml`.

    Raises:
        ConfigError: names the file and the key that is wrong.
    """
    return load_config(_Catalogue, path or share_dir() / "config" / "weights.yaml").weights


def lookup(name: str) -> Weights:
    """The entry of that name; `WeightsError` lists the names if there is none."""
    catalogue = load_catalogue()
    if name not in catalogue:
        raise WeightsError(
            f"there are no weights {name!r}: config/weights.yaml has {', '.join(catalogue)}"
        )
    return catalogue[name]
