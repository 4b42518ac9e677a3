"""Definitions of message types, from bags or from wherever this machine has them."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat, Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from kd3d_core.errors import DataError, Kd3dError, shown
from kd3d_core.paths import share_dir

NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")

_FORMATS = {
    "ros2msg": MessageDefinitionFormat.MSG,
    "ros2idl": MessageDefinitionFormat.IDL,
    "omgidl": MessageDefinitionFormat.IDL,
}
_DEFINITION_BYTES = 2**18
# Of which rosbags makes code and objects one by one. The largest of ROS's own have 36.
_FIXED_VALUES = 10_000


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


def definition_file(name: str) -> Path | None:
    """The `.msg` file of a message type, if it is installed here."""
    package, _, message = name.replace("/msg/", "/").partition("/")
    files = (folder / package / "msg" / f"{message}.msg" for folder in _interface_folders())
    return next((file for file in files if file.is_file()), None)


def _definition(name: str) -> Any:
    path = definition_file(name)
    if path is not None:
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


def definition_of(encoding: str, text: str) -> MessageDefinition:
    """A definition as a bag has it; none where its language isn't known."""
    return MessageDefinition(_FORMATS[encoding], text) if encoding in _FORMATS else NO_DEFINITION


def bag_typestore(name: str, definition: MessageDefinition) -> Typestore | None:
    """Type store of a definition that stands in a bag; None if it is incomplete or not understood.

    `DataError` if it asks for much more than a message can be.
    """
    if definition.format == MessageDefinitionFormat.NONE:
        return None
    where = f"the definition of {shown(name)} in the bag"
    if len(definition.data) > _DEFINITION_BYTES:
        raise DataError(f"{where} has more than {_DEFINITION_BYTES // 1024} KiB")
    try:
        definitions: dict[str, Any] = {}
        for text in _sections(definition):
            if definition.format == MessageDefinitionFormat.MSG:
                definitions.update(get_types_from_msg(text, name))
            else:
                definitions.update(get_types_from_idl(text))
        values = _fixed_values(name, get_typestore(Stores.EMPTY).fielddefs | definitions)
    except Exception:  # rosbags' parsers raise many kinds
        return None
    if values > _FIXED_VALUES:
        raise DataError(f"{where} has arrays of fixed size with {values:.3g} values")
    store = get_typestore(Stores.EMPTY)
    store.register(definitions)
    return store


def _sections(definition: MessageDefinition) -> Iterator[str]:
    """The texts to parse: several files stand in one where they are IDL."""
    line = "=" * 80 + "\n"
    if definition.data.startswith(f"{line}IDL: "):
        for section in definition.data.split(line)[1:]:
            yield section.partition("\n")[2]
    else:
        yield definition.data


def _fixed_values(name: str, definitions: dict[str, Any]) -> int:
    """How many values a message has at least; `KeyError` if a type is missing."""
    total = 0
    for _, (kind, content) in definitions[name][1]:
        count = 1
        if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
            (inner_kind, inner), size = content
            count = size if kind == Nodetype.ARRAY else 1
        else:
            inner_kind, inner = kind, content
        total += count * (_fixed_values(inner, definitions) if inner_kind == Nodetype.NAME else 1)
    return total


def _names_in(field: Any) -> Iterator[str]:
    """Names of the message types in a field's description."""
    kind, content = field
    if kind == Nodetype.NAME:
        yield content
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from _names_in(content[0])
