"""The `>>>` examples of extraction are true."""

import doctest
from types import ModuleType

import pytest

from kd3d_core.extract import index, motion, placement, splitting, sync, topics, work


@pytest.mark.parametrize("module", [index, motion, placement, splitting, sync, topics, work])
def test_examples(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert not failed
    assert attempted
