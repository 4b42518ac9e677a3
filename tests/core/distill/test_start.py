"""The weights that a student begins with."""

import pytest
import torch
from small_detector import small_lite
from torch import nn

from kd3d_core.distill.start import start_from
from kd3d_core.errors import ConfigError


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    one, other = ours.state_dict(), theirs.state_dict()
    return all(torch.equal(one[name], other[name]) for name in one)


def test_all_of_the_teachers_or_none():
    student, teacher = small_lite(0), small_lite(1)
    start_from(student, teacher, "model")
    assert same(student, small_lite(0))
    start_from(student, teacher, "teacher")
    assert same(student, teacher)


@pytest.mark.parametrize("part", ["backbone", "neck", "head"])
def test_a_part_alone(part):
    student, teacher = small_lite(0), small_lite(1)
    start_from(student, teacher, (part,))
    for other in ("backbone", "neck", "head"):
        assert same(getattr(student, other), getattr(teacher, other)) == (other == part)


def test_what_does_not_fit_is_named_or_left_out():
    student, teacher = small_lite(0), small_lite(1)
    head = teacher.head
    head.conv_cls = nn.Conv2d(head.conv_cls.in_channels, 5, 1)
    for what in ("teacher", ("neck", "head")):
        with pytest.raises(ConfigError, match=r"conv_cls.*distill\.start"):
            start_from(student, teacher, what)
    start_from(student, teacher, "fitting")
    assert same(student.backbone, teacher.backbone)
    assert torch.equal(student.head.conv_reg.weight, teacher.head.conv_reg.weight)
    assert torch.equal(student.head.conv_cls.weight, small_lite(0).head.conv_cls.weight)
