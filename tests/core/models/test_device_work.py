"""What a frame asks of a GPU, counted without one: kernels, and waits of the host.

On fake tensors nothing is computed, and whoever asks for a value, or for a shape that depends on
one, fails: on a GPU it would wait.
"""

from collections import Counter

import pytest
import torch
from test_casts import CAMERA, MODELS
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from kd3d_core.detectors import anchor_detector
from kd3d_core.models.build import make_model
from kd3d_core.ops import nms_rotated, rotated

_NO_KERNEL = ("aten.detach", "aten.empty", "aten.new_empty", "aten._unsafe_view", "prim.")


class Kernels(TorchDispatchMode):
    """Counts operators that compute or copy; those that only look at memory otherwise don't."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not (func.is_view or str(func).startswith(_NO_KERNEL)):
            self.operators[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(rotated, "_may_wait", lambda values: False)


@pytest.mark.parametrize(
    ("name", "whole", "decoding"), [("lite", 970, 520), ("cmkd_tiny", 860, 520)]
)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_frame_is_queued_without_waiting(name, whole, decoding, monkeypatch):
    model = make_model(MODELS[name], torch.device("cpu"), "fp32")
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 96), CAMERA)  # makes what is kept for later frames
    of_decoding = Kernels()

    def decode(*args):
        with of_decoding:
            return original(*args)

    original = anchor_detector.decode
    monkeypatch.setattr(anchor_detector, "decode", decode)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), Kernels() as kernels:
        output = model(torch.empty(1, 3, 64, 96), CAMERA)
    assert output.boxes.boxes.shape == (1, 50, 7)
    assert of_decoding.operators.total() <= decoding
    assert kernels.operators.total() <= whole


def test_a_wait_would_be_noticed():
    with FakeTensorMode(), pytest.raises(DynamicOutputShapeException):
        torch.empty(9).nonzero()
    with FakeTensorMode(), pytest.raises(DataDependentOutputException):
        nms_rotated(torch.empty(9, 5), torch.empty(9), 0.5)
