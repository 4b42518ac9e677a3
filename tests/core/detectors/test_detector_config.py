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
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (("pedestrian", "cyclist", "car"), "has pedestrian"),
        (("Pedestrian", "Cyclist", "Van"), "has Van"),
        (("Car", "Cyclist", "Car"), "has a name twice"),
    ],
)
def test_other_classes_and_spellings_than_kittis_are_refused(classes, reason):
    line = rf"^detector\.classes {reason}: write Pedestrian, Cyclist, Car$"
    with pytest.raises(ConfigError, match=line):
        DetectorConfig("lite", "random", WindowConfig((192, 640)), classes)
