"""Reads YAML files into frozen dataclasses; unknown keys and wrong types are errors.

A file holds values and nothing else: it names no module to import and no other file to read.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from kd3d_core.errors import ConfigError, DataError
from kd3d_core.files import read_text, write_whole

_LONGEST = 1 << 18  # characters of a file; thousands of settings
_LONGEST_REASON = 400

Config = TypeVar("Config")


def load_config(kind: type[Config], path: Path | str, changes: Sequence[str] = ()) -> Config:
    """The dataclass `kind`, possibly of others, filled from the YAML file at `path`.

    `changes` replace values of the file, as `key=value` or `key.inner=value`, the value in YAML.

    Raises:
        ConfigError: the file is missing or no YAML, or a key is unknown, missing or of the wrong
            type; the message names file and key.
    """
    return make_config(kind, read_settings(path, changes), path)


def read_settings(path: Path | str, changes: Sequence[str] = ()) -> dict[str, Any]:
    """The plain values in a YAML file; see `load_config`."""
    try:
        values = parse_yaml(read_text(path))
    except DataError as error:
        raise ConfigError(str(error)) from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no settings (expected `key: value` lines)")
    for change in changes:
        _set(values, change)
    return values


def make_config(kind: type[Config], values: dict[str, Any], source: Path | str) -> Config:
    """The dataclass `kind` filled from plain values; `ConfigError` names `source` and key."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", type=kind)
    try:
        _check(kind, values, "")
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


def save_settings(path: Path, value: Any) -> None:
    """Write a dataclass, or plain values, as a YAML file that `load_config` reads."""
    write_whole(path, yaml.safe_dump(plain(value), sort_keys=False).encode())


def parse_yaml(text: str) -> Any:
    """The values of a YAML text, of plain types.

    Raises:
        ConfigError: no valid YAML, a key that stands twice, or an alias, with which a few lines can
            become gigabytes.
    """
    if len(text) > _LONGEST:
        raise ConfigError(f"{len(text)} characters of YAML; at most {_LONGEST} are read")
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ConfigError("no valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"no valid YAML: {_one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(None, None, "aliases are not read: repeat the value", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check(hint: Any, value: Any, key: str) -> None:
    """Refuse what the parser would take for more than a value, or let through as None."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and not {NoneType, Any} & {*options}:
        raise ConfigError(f"{key} is empty: give it a value, or leave the line out")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} is {value}, not a finite number")
    groups = [option for option in options if is_dataclass(option)]
    if groups and not isinstance(value, dict | None):
        raise ConfigError(f"{key or 'it'} holds {str(value)[:40]!r}, not settings")
    if isinstance(value, str) and not any(_takes_text(option) for option in options):
        _check_number(value, key)
    for inner in (*_settings(groups, value or {}, key), *_items(options, value, key)):
        _check(*inner)


def _check_number(text: str, key: str) -> None:
    """For YAML, 1e-3 is a text, so texts are taken for numbers, but for nothing else."""
    try:
        if math.isfinite(float(text)):
            return
    except ValueError:
        pass
    raise ConfigError(f"{key} is {text[:40]!r}, not a number")


def _settings(
    groups: Sequence[Any], value: dict[Any, Any], key: str
) -> Iterator[tuple[Any, Any, str]]:
    """Type, value and name of each setting of a group; of one of several, the names alone count."""
    fields = [get_type_hints(group) for group in groups]
    for name, inner in value.items() if groups else ():
        if not any(name in known for known in fields):
            raise ConfigError(f"unknown key {_joined(key, name)!r}")
        if len(fields) == 1:
            yield fields[0][name], inner, _joined(key, name)


def _items(options: Sequence[Any], value: Any, key: str) -> Iterator[tuple[Any, Any, str]]:
    """Type, value and name of each item of a list or mapping."""
    for option in options:
        kinds = get_args(option)
        if isinstance(value, dict) and get_origin(option) is dict:
            yield from ((kinds[1], inner, _joined(key, name)) for name, inner in value.items())
        if isinstance(value, list) and get_origin(option) is tuple:
            each = kinds[:1] * len(value) if ... in kinds else kinds
            yield from ((kind, inner, key) for kind, inner in zip(each, value, strict=False))


def _takes_text(hint: Any) -> bool:
    return hint in (str, Any, Path) or get_origin(hint) is Literal


def _joined(key: str, name: Any) -> str:
    return f"{key}.{str(name)[:40]}" if key else str(name)[:40]


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
        values[last] = parse_yaml(text)
    except ConfigError as error:
        raise ConfigError(f"{change}: {error}") from None


def _one_line(error: BaseException) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip().replace("config.", "")
    text = text.replace('"<unicode string>", ', "")
    text = re.sub(r"Group '\w+' does not accept option", "unknown key", text)
    text = re.sub(
        r"Does not validate against any of .* Given value:",
        "Expected another type. Got value:",
        text,
    )
    return text if len(text) < _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
