"""What is installed, found out without importing it here.

Modules are looked up, or imported in another process, where a crash does no harm: a compiled
module that was built for another NumPy takes Python down with it.
"""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Imports each module named on its command line and prints a line of JSON for it. A module that
# crashes the process leaves no line.
_IMPORT_EACH = """
import importlib, json, sys
for name in sys.argv[1:]:
    answer = {"module": name, "error": "", "version": "", "detail": ""}
    try:
        module = importlib.import_module(name)
        answer["version"] = str(getattr(module, "__version__", ""))
        if name == "torch":
            if module.cuda.is_available():
                properties = module.cuda.get_device_properties(0)
                size = f"{properties.total_memory / 2**30:.0f} GiB"
                answer["detail"] = f"CUDA {module.version.cuda}, {properties.name}, {size}"
            else:
                answer["detail"] = "CPU" if module.version.cuda else "CPU build"
        if name == "rclpy":
            answer["detail"] = module.get_rmw_implementation_identifier()
    except BaseException as error:
        answer["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Import:
    """What came of importing a module in another process; `error` is empty if it went well."""

    error: str
    version: str = ""
    detail: str = ""


def is_installed(module: str) -> bool:
    """True if a top-level module can be found; nothing of it is run."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def folders_of(module: str) -> list[Path]:
    """The folders of an installed package; nothing of it is run."""
    spec = importlib.util.find_spec(module)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def try_imports(modules: Sequence[str], timeout_s: float = 120.0) -> dict[str, Import]:
    """Import modules in another process, several if one crashes; what came of each."""
    results: dict[str, Import] = {}
    while remaining := [name for name in modules if name not in results]:
        try:
            process = subprocess.run(
                [sys.executable, "-c", _IMPORT_EACH, *remaining],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
            output, end = process.stdout, f"ends Python with status {process.returncode}"
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else ""
            end = f"takes longer than {timeout_s:.0f} s"
        for line in output.splitlines():
            if line.startswith('{"module"'):
                name, *answer = json.loads(line).values()
                results[name] = Import(*answer)
        culprit = next((name for name in remaining if name not in results), None)
        if culprit:
            results[culprit] = Import(error=end)
    return results


def version_of(distribution: str) -> str:
    """The version of an installed distribution, empty if there is none of that name."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
