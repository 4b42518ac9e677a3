"""A detector's configuration can be checked before anything heavy is imported."""

import subprocess
import sys

import pytest

from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig


def test_configuration_needs_no_torch():
    code = (
        "import sys, kd3d_core.detectors.config\n"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'mmcv', 'mmengine', 'mmdet3d'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    "classes",
    [
        ("pedestrian", "cyclist", "car"),
        ("Pedestrian", "Cyclist", "Van"),
        ("Car", "Cyclist", "Pedestrian"),  # boxes would have each other's names
        ("Car",),
    ],
)
def test_other_classes_than_those_of_the_anchors_are_refused(classes):
    line = (
        rf"^detector\.classes is {', '.join(classes)}: .* Pedestrian, Cyclist, Car, in this order$"
    )
    with pytest.raises(ConfigError, match=line):
        DetectorConfig("lite", "random", WindowConfig((192, 640)), classes)
