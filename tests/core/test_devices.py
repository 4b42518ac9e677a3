"""What `auto` stands for, and what is said of a precision that a CPU can't compute."""

import pytest
import torch

from kd3d_core import devices
from kd3d_core.devices import fixed_precision, training_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_said_yet():
    devices._warn_of_slow.cache_clear()


def with_units(monkeypatch, **abilities: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)


@pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16"])
def test_a_cpu_with_units_for_bf16_trains_in_it(monkeypatch, caplog, unit):
    with_units(monkeypatch, **{"avx2": True, unit: True})
    assert training_precision("auto", CPU) == training_precision("bf16", CPU) == "bf16"
    assert fixed_precision("auto", CPU) == "fp32"  # clouds and boxes are the same everywhere
    assert not caplog.text


@pytest.mark.parametrize("abilities", [{}, {"avx512_bf16": False, "avx512_f": True}])
def test_another_cpu_trains_in_fp32_and_what_is_slower_is_said(monkeypatch, caplog, abilities):
    with_units(monkeypatch, **abilities)
    assert training_precision("auto", CPU) == training_precision("fp32", CPU) == "fp32"
    assert not caplog.text
    assert training_precision("bf16", CPU) == fixed_precision("bf16", CPU) == "bf16"
    assert len(caplog.records) == 1
    assert "precision is bf16, and this CPU has no units for it" in caplog.text
    assert "use auto" in caplog.text


def test_units_for_bf16_are_none_for_fp16(monkeypatch, caplog):
    with_units(monkeypatch, amx_bf16=True)
    assert training_precision("fp16", CPU) == "fp16"
    assert "precision is fp16" in caplog.text
