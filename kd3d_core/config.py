"""Reads YAML files into frozen dataclasses; unknown keys and wrong types are errors."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from kd3d_core.errors import ConfigError

Config = TypeVar("Config")


def load_config(kind: type[Config], path: Path | str, changes: Sequence[str] = ()) -> Config:
    """The dataclass `kind` filled from the YAML file at `path`.

    Args:
        kind: a frozen dataclass, possibly of others.
        path: the file.
        changes: values that replace those of the file, as `key=value` or `key.inner=value`, the
            value in YAML.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or of the wrong
            type; the message names file and key.
    """
    return make_config(kind, read_settings(path, changes), path)


def read_settings(path: Path | str, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values in a YAML file; see `load_config`."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no settings (expected `key: value` lines)")
    for change in changes:
        _set(values, change)
    return values


def make_config(kind: type[Config], values: dict[str, Any], source: Path | str) -> Config:
    """The dataclass `kind` filled from plain values, as YAML and JSON have them.

    Raises:
        ConfigError: a key is unknown, missing or of the wrong type; names `source` and key.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    try:
        return parser.instantiate(parser.parse_object({"config": values})).config
    except (ArgumentError, ConfigError, ValueError) as error:
        raise ConfigError(f"{source}: {_one_line(_reason(error))}") from None


def plain(value: Any) -> Any:
    """Dataclasses, also within lists and dicts, as YAML and JSON have them.

    >>> from dataclasses import make_dataclass
    >>> plain(make_dataclass("Size", ["sides"])((192, 640)))
    {'sides': [192, 640]}
    """
    return json.loads(json.dumps(value, default=asdict))


def settings_digest(value: Any) -> str:
    """Hexadecimal sha256 of settings: plain values and dataclasses, also within lists and dicts.

    >>> settings_digest(["lite", 1]) == settings_digest(["lite", 1]) != settings_digest(["lite", 2])
    True
    """
    return hashlib.sha256(json.dumps(value, default=asdict).encode()).hexdigest()


def _reason(error: BaseException) -> BaseException:
    """What a dataclass said of its values, if it did; a setting that may be None wraps it up."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ConfigError):
        cause = cause.__cause__
    return cause or error


def _set(values: dict[str, Any], change: str) -> None:
    keys, separator, text = change.partition("=")
    *groups, last = keys.split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{change}: {group} holds a value, not settings")
        values = inner
    if not separator or not last:
        raise ConfigError(f"{change}: write key=value, for example optimizer.lr=1e-4")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{change}: no valid YAML: {_one_line(error)}") from None


def _one_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip().replace("config.", "")
    return re.sub(r"Group '\w+' does not accept option", "unknown key", text)
