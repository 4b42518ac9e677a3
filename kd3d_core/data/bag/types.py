"""Definitions of message types, from wherever this machine has them."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, get_args

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.messages.types import Message
from kd3d_core.paths import share_dir


@cache
def typestore(type_names: tuple[str, ...]) -> Typestore:
    """Type store that knows these types and all that they contain.

    Definitions come from this machine's ROS packages, so that they are those of the messages that
    are recorded here; else from kd3d's own interfaces; else from rosbags' copy of a recent ROS.

    Raises:
        DataError: a type is in none of them.
    """
    definitions: dict[str, Any] = {}
    missing = list(type_names)
    while missing:
        name = missing.pop()
        if name not in definitions:
            definitions[name] = _definition(name)
            missing += [inner for _, field in definitions[name][1] for inner in _names_in(field)]
    store = get_typestore(Stores.EMPTY)
    store.register(definitions)
    return store


def _definition(name: str) -> Any:
    package, _, message = name.replace("/msg/", "/").partition("/")
    for folder in _interface_folders():
        path = folder / package / "msg" / f"{message}.msg"
        if path.is_file():
            return get_types_from_msg(path.read_text(encoding="utf-8"), name)[name]
    bundled = _bundled().fielddefs
    if name not in bundled:
        raise DataError(
            f"the message type {name} is not defined on this machine: install its ROS package"
        )
    return bundled[name]


def _interface_folders() -> list[Path]:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [Path(prefix) / "share" for prefix in [*prefixes, sys.prefix] if prefix]
    with suppress(Kd3dError):
        folders.append(share_dir() / "interfaces")
    return folders


@cache
def _bundled() -> Typestore:
    return get_typestore(Stores.LATEST)


@cache
def humble_typestore() -> Typestore:
    """Type store for bags without definitions, as ROS wrote them before Iron."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    known = typestore(tuple(kind.ros_type for kind in get_args(Message))).fielddefs
    store.register({name: known[name] for name in known.keys() - store.fielddefs.keys()})
    return store


def _names_in(field: Any) -> Iterator[str]:
    """Names of the message types in a field's description."""
    kind, content = field
    if kind == Nodetype.NAME:
        yield content
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from _names_in(content[0])
