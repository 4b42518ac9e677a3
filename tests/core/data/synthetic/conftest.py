"""Frames of the generator that several tests look at."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kd3d_core.data.synthetic.dataset import Frame


def pytest_pycollect_makemodule() -> None:
    """Leave the modules of this folder out where nothing can be rendered."""
    pytest.importorskip("embreex", reason="embreex is not installed; it has no wheel for ARM")


@pytest.fixture(scope="session")
def frames() -> "list[Frame]":
    """Three scenes as `kd3d-synth` renders them by default."""
    from kd3d_core.data.synthetic.dataset import SynthConfig, render_frame

    config = SynthConfig(frames=8, seed=3)
    return [render_frame(config, index) for index in (0, 1, 2)]
