"""Reads YAML files into frozen dataclasses; unknown keys and wrong types are errors.

A file holds values and nothing else: it names no module to import and no other file to read.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from kd3d_core.errors import ConfigError, DataError
from kd3d_core.files import read_text, write_whole

_LONGEST = 300_000  # characters of a file; thousands of settings
_LONGEST_REASON = 400

Config = TypeVar("Config")

ADDED = {"added": True}
"""Metadata of a field that a settings class got after runs and caches knew it.

While it has its default, `settings_digest` is what it was before, so that they go on.
"""


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
        values = parse_yaml(read_text(path, _LONGEST))
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
    try:
        return _group(kind, values, "")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def check_each(
    settings: Any,
    names: Sequence[str],
    allowed: Callable[[Any], bool],
    advice: str,
    group: str = "",
) -> None:
    """Raise a `ConfigError` for the first of these settings whose value isn't `allowed`.

    Args:
        settings: the dataclass that has them.
        names: of its fields.
        allowed: says of a value whether it can be used.
        advice: what to give instead.
        group: the setting that holds the dataclass, for messages.

    >>> from dataclasses import make_dataclass
    >>> size = make_dataclass("Size", ["height", "width"])(192, 0)
    >>> check_each(size, ("height", "width"), lambda side: side > 0, "give pixels", "window")
    Traceback (most recent call last):
    kd3d_core.errors.ConfigError: window.width is 0: give pixels
    """
    for name in names:
        value = getattr(settings, name)
        if not allowed(value):
            raise ConfigError(f"{_joined(group, name)} is {value}: {advice}")


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
    return hashlib.sha256(json.dumps(value, default=_old_settings).encode()).hexdigest()


def _old_settings(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, without those of `ADDED` that have their default."""
    return {
        each.name: getattr(value, each.name)
        for each in fields(value)
        if each.metadata != ADDED or getattr(value, each.name) != each.default
    }


def save_settings(path: Path, value: Any) -> None:
    """Write a dataclass, or plain values, as a YAML file that `load_config` reads."""
    write_whole(path, yaml_text(value).encode())


def yaml_text(value: Any) -> str:
    """A dataclass, or plain values, as YAML.

    >>> print(yaml_text({"sides": (192, 640)}), end="")
    sides:
    - 192
    - 640
    """
    return yaml.safe_dump(plain(value), sort_keys=False)


def parse_yaml(text: str, longest: int = _LONGEST) -> Any:
    """The values of a YAML text of at most `longest` characters, of plain types.

    Raises:
        ConfigError: no valid YAML, a key that stands twice, or an alias, with which a few lines can
            become gigabytes.
    """
    if len(text) > longest:
        raise ConfigError(f"{len(text)} characters of YAML; at most {longest} are read")
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


def _group(kind: Any, values: Any, key: str) -> Any:
    """A dataclass of plain values; `key` is the setting that it is, empty for the whole file."""
    if not isinstance(values, dict):
        raise ConfigError(f"{key or 'it'} holds {str(values)[:40]!r}, not settings")
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    if unknown := [name for name in values if name not in known]:
        raise ConfigError(f"unknown key {_joined(key, unknown[0])!r}")
    for name, field in known.items():
        if name not in values and field.default is field.default_factory is MISSING:
            raise ConfigError(f"{_joined(key, name)} is missing")
    return kind(
        **{name: _value(hints[name], value, _joined(key, name)) for name, value in values.items()}
    )


def _value(hint: Any, value: Any, key: str) -> Any:
    """A plain value in the type of the setting `key`, which may be one of several."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None:
        if {NoneType, Any} & {*options}:
            return None
        raise ConfigError(f"{key} is empty: give it a value, or leave the line out")
    reasons = []
    for option in options:
        try:
            if option is not NoneType:
                return _of_type(option, value, key)
        except ConfigError as error:
            reasons.append(str(error))
    raise ConfigError("; or ".join(reasons))


def _of_type(hint: Any, value: Any, key: str) -> Any:
    origin, kinds = get_origin(hint), get_args(hint)
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key} is {value}, not a finite number")
    if hint is Any:
        return value
    if is_dataclass(hint):
        return _group(hint, value, key)
    if hint in (int, float):
        return _number(hint, value, key)
    if origin is dict and isinstance(value, dict):
        inner = {name: _value(kinds[1], each, _joined(key, name)) for name, each in value.items()}
        return {_value(kinds[0], name, f"a name in {key}"): each for name, each in inner.items()}
    if origin in (list, tuple) and isinstance(value, list):
        each = kinds[:1] * len(value) if ... in kinds or origin is list else kinds
        if len(each) != len(value):
            raise ConfigError(f"{key} has {len(value)} values, and {len(each)} are needed")
        return origin(_value(kind, item, key) for kind, item in zip(each, value, strict=True))
    if (origin is Literal and value in kinds) or (hint in (str, bool) and isinstance(value, hint)):
        return value
    wanted = {str: "a text", bool: "true or false", dict: "settings"}.get(origin or hint, "a list")
    if origin is Literal:
        wanted = " or ".join(map(str, kinds))
    raise ConfigError(f"{key} is {value!r:.40}, not {wanted}")


def _number(kind: type[int] | type[float], value: Any, key: str) -> float:
    """For YAML, 1e-3 is a text, so texts are taken for numbers."""
    with suppress(ValueError, OverflowError):
        if type(value) in (str, int, kind) and math.isfinite(kind(value)):
            return kind(value)
    raise ConfigError(f"{key} is {value!r:.40}, not a {'whole ' * (kind is int)}number")


def _joined(key: str, name: Any) -> str:
    return f"{key}.{str(name)[:40]}" if key else str(name)[:40]


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
    text = " ".join(str(error).split()).replace('"<unicode string>", ', "")
    return text if len(text) < _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
