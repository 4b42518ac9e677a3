"""Frames of the generator that several tests look at."""

import pytest

from kd3d_core.data.synthetic.dataset import Frame, SynthConfig, render_frame

CONFIG = SynthConfig(frames=8, seed=3)


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Three scenes as `kd3d-synth` renders them by default."""
    return [render_frame(CONFIG, index) for index in (0, 1, 2)]
