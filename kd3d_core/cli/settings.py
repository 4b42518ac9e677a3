"""What a YAML file may say, with meaning, type and default, from the dataclass it is read into."""

import dataclasses
from argparse import SUPPRESS
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from jsonargparse import ArgumentParser


def settings_text(kind: type) -> str:
    """Every setting of a configuration, as an option: what is in a section `data` is `--data.*`.

    Args:
        kind: dataclass with "Attributes" in its docstring, and in those of its sections.
    """
    parser = ArgumentParser(usage=SUPPRESS, add_help=False)
    items: dict[str, type] = {}
    _add(parser, kind, "", items)
    for action in parser._actions:
        # A file for a section, which our YAML files don't know, and help on a class.
        if action.metavar == "CONFIG" or action.dest.endswith(".help"):
            action.help = SUPPRESS
    text = parser.format_help().strip()
    for name, item in items.items():
        text += f"\n\neach of {name}:\n" + settings_text(item).partition("\n")[2]
    return text


def _add(parser: ArgumentParser, kind: type, name: str, items: dict[str, type]) -> None:
    optional = {field: section for field, section, many in _sections(kind) if not many}
    parser.add_class_arguments(kind, name or None, skip=set(optional))
    prefix = f"{name}." if name else ""
    for field, section, many in _sections(kind):
        if many:
            items[prefix + field] = section
        else:
            _add(parser, section, prefix + field, items)
    for field, section in get_type_hints(kind).items():  # which are in the parser already
        if dataclasses.is_dataclass(section):
            items |= {
                f"{prefix}{field}.{part}": of for part, of, many in _sections(section) if many
            }


def _sections(kind: type) -> Iterator[tuple[str, type, bool]]:
    """Fields that hold a dataclass or None, or many of one, and which it is."""
    for name, hint in get_type_hints(kind).items():
        found: list[Any] = [part for part in get_args(hint) if dataclasses.is_dataclass(part)]
        if found:
            yield name, found[0], type(None) not in get_args(hint)
