"""The map in CONTRIBUTING.md is true: who imports whom, and each library has one door."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("kd3d_core", "kd3d_ros")


def rows() -> list[tuple[list[str], list[str]]]:
    """Of each line of the map, the places and the libraries that only they import."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.split("<!-- map -->")[1].strip().splitlines()[2:]
    cells = [line.strip("|").split("|") for line in table]
    return [
        (re.findall(r"`([\w/]+)`", places), re.findall(r"`([\w.]+)`", doors))
        for places, _, doors in cells
    ]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def imports(tree: ast.Module) -> set[str]:
    """Names of all modules that a module imports, also within functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def place(module: str) -> str:
    """`geometry` of `kd3d_core.geometry.boxes`."""
    parts = module.split(".")
    if parts[0] == "kd3d_ros" or len(parts) == 1:
        return parts[0]
    return parts[1]


MODULES = dict(modules())
LEVELS = {name: level for level, (places, _) in enumerate(rows()) for name in places}


def test_every_folder_is_on_the_map():
    there = {place(name) for name in MODULES} - {"kd3d_core"}
    assert there == LEVELS.keys()


def test_nobody_imports_what_stands_below():
    wrong = {
        f"{place(name)} -> {place(other)} ({name})"
        for name, tree in MODULES.items()
        for other in imports(tree)
        if other in MODULES
        and place(other) in LEVELS
        and place(name) in LEVELS
        and place(other) != place(name)
        and LEVELS[place(other)] >= LEVELS[place(name)]
    }
    assert not wrong


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        name: {other for other in imports(tree) if other in MODULES and other != name}
        for name, tree in MODULES.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                # A package is imported with each of its modules; that isn't what is meant.
                if not f"{name}.".startswith(f"{other}."):
                    visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("places", "library"), [(places, door) for places, doors in rows() for door in doors]
)
def test_each_library_has_one_door(places, library):
    users = {
        place(name)
        for name, tree in MODULES.items()
        if any(other == library or other.startswith(f"{library}.") for other in imports(tree))
    }
    assert users, f"nobody imports {library}: take it off the map"
    assert users <= set(places)
