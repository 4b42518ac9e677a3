"""Reads YAML files into frozen dataclasses; unknown keys and wrong types are errors."""

import re
from pathlib import Path
from typing import TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from kd3d_core.errors import ConfigError

Config = TypeVar("Config")


def load_config(kind: type[Config], path: Path | str) -> Config:
    """The dataclass `kind` filled from the YAML file at `path`.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or of the wrong
            type; the message names file and key.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no settings (expected `key: value` lines)")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    try:
        return parser.instantiate(parser.parse_object({"config": values})).config
    except (ArgumentError, ConfigError) as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip().replace("config.", "")
    return re.sub(r"Group '\w+' does not accept option", "unknown key", text)
