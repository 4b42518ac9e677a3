"""A detector's configuration can be checked before anything heavy is imported."""

import subprocess
import sys


def test_configuration_needs_no_torch():
    code = (
        "import sys, kd3d_core.detectors.config\n"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'mmcv', 'mmengine', 'mmdet3d'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr
