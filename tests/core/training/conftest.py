"""A small street to train on, for the tests of tasks, processes and kills."""

from pathlib import Path

import pytest
from small_street import write_model, write_street


@pytest.fixture(scope="session")
def street(tmp_path_factory) -> Path:
    """Six frames; the last has no object."""
    return write_street(tmp_path_factory.mktemp("street"), [1, 4, 2, 3, 2, 0])


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """GLPN and lite for images of 64 x 192."""
    return write_model(tmp_path_factory.mktemp("model") / "small.yaml")
