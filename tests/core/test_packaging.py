"""What colcon and pip install: files, versions, dependencies, entry points, interfaces."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import kd3d_core

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kd3d_core", "kd3d_ros")
# What kd3d_ros and launch/ use that make env brings.
PIP_MODULES = {"cv2", "numpy", "scipy", "torch", "yaml"}

# The standard's, as any ROS 2 machine computes them (REP 2016).
TYPE_HASHES = {
    "vision_msgs/Detection3DArray": (
        "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
    ),
    "tf2_msgs/TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}


@pytest.fixture(scope="module")
def built():
    """What setup.py passes to setuptools: the distribution, before any command."""
    code = """
import json, sys
import setuptools
from distutils.core import run_setup
d = run_setup("setup.py", stop_after="init")
print(json.dumps({"name": d.get_name(), "version": d.get_version(), "packages": d.packages,
    "data_files": d.data_files, "scripts": d.entry_points["console_scripts"],
    "requires": d.install_requires, "extras": sorted(d.extras_require)}))
"""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def manifest():
    return ElementTree.parse(ROOT / "package.xml").getroot()


def python_files(*folders):
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py")]


def imported_modules(file):
    """Top-level modules that a file imports, without the standard library and kd3d."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES)


def shared_files():
    files = [file for top in ("config", "launch", "weights") for file in (ROOT / top).rglob("*")]
    files += (ROOT / "interfaces").rglob("*.msg")
    return [file.relative_to(ROOT) for file in files if file.is_file() and file.suffix != ".pyc"]


def test_one_name_and_one_version(built, manifest):
    assert manifest.findtext("name") == built["name"] == "kd3d_ros"
    assert manifest.findtext("version") == built["version"] == kd3d_core.__version__


def test_package_xml_makes_an_ament_python_package(manifest):
    assert manifest.get("format") == "3"
    assert manifest.findtext("export/build_type") == "ament_python"
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.find("maintainer").get("email")
    keys = [element.text for element in manifest if element.tag.endswith("depend")]
    assert len(keys) == len(set(keys))


def test_package_xml_lists_every_ros_package_that_is_imported(manifest):
    keys = {element.text for element in manifest if element.tag == "exec_depend"}
    for file in python_files("kd3d_ros", "launch"):
        for module in imported_modules(file) - PIP_MODULES:
            assert module in keys, f"{file.relative_to(ROOT)} imports {module}"


def test_every_folder_of_code_is_a_package_that_gets_installed(built):
    folders = {file.parent.relative_to(ROOT) for file in python_files(*PACKAGES)}
    assert {".".join(folder.parts) for folder in folders} == set(built["packages"])


def test_every_command_has_its_function(built):
    commands = dict(script.split(" = ") for script in built["scripts"])
    assert {"detector_node", "kd3d-bag", "kd3d-demo", "kd3d-doctor", "kd3d-weights"} <= set(
        commands
    )
    for command, target in commands.items():
        module, function = target.split(":")
        tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function in functions, command


def test_every_shared_file_is_installed_where_it_was(built):
    installed = {
        Path(folder) / Path(file).name: Path(file)
        for folder, files in built["data_files"]
        for file in files
    }
    share = Path("share/kd3d_ros")
    assert installed[share / "package.xml"] == Path("package.xml")
    marker = Path("share/ament_index/resource_index/packages/kd3d_ros")
    assert installed[marker] == Path("resource/kd3d_ros")
    assert len(shared_files()) > 1
    for file in shared_files():
        assert installed[share / file] == file


def test_pip_install_without_ros_finds_its_configuration(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml"):
        shutil.copy(ROOT / name, source)
    for name in (
        *PACKAGES,
        "config",
        "interfaces",
        "launch",
        "requirements",
        "resource",
        "weights",
    ):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    prefix = tmp_path / "prefix"
    subprocess.run([*pip, "--ignore-installed", "--prefix", prefix, source], check=True)

    site_packages = next(prefix.rglob("kd3d_core")).parent
    question = "import kd3d_core.paths as p; print(p.__file__, p.share_dir(), sep='\\n')"
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(site_packages)!r}); {question}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [Path(line).is_relative_to(prefix) for line in answer] == [True, True]
    for file in shared_files():
        assert (Path(answer[1]) / file).read_bytes() == (ROOT / file).read_bytes()
    assert (prefix / "bin" / "kd3d-doctor").is_file()


@pytest.mark.parametrize("name", TYPE_HASHES)
def test_our_builds_of_interfaces_are_the_standard(name):
    package, message = name.split("/")
    module = pytest.importorskip(package)
    prefix = Path(module.__file__).parents[4]
    description = prefix / "share" / package / "msg" / f"{message}.json"
    if not description.is_file():
        pytest.skip(f"this ROS distribution has no type hashes: {description} is missing")
    entries = json.loads(description.read_text())["type_hashes"]
    hashes = {entry["type_name"]: entry["hash_string"] for entry in entries}
    assert hashes[f"{package}/msg/{message}"] == TYPE_HASHES[name]
