"""The weights that a student begins with, from its teacher."""

import logging
from typing import Literal

from torch import nn

from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.distill.config import DetectorPart
from kd3d_core.errors import ConfigError

log = logging.getLogger(__name__)


def start_from(
    student: AnchorDetector,
    teacher: AnchorDetector,
    what: Literal["teacher", "fitting", "model"] | tuple[DetectorPart, ...],
) -> None:
    """Copy weights of a teacher into a student, as `DistillConfig.start` says.

    `ConfigError` if what was asked for doesn't fit.
    """
    if what == "model":
        return
    if what == "fitting":
        _copy_fitting(student.network, teacher.network)
    elif what == "teacher":
        _copy("the whole network", student.network, teacher.network)
    else:
        for part in what:
            _copy(f"the {part}", getattr(student, part), getattr(teacher, part))


def _copy(what: str, student: nn.Module, teacher: nn.Module) -> None:
    ours, theirs = student.state_dict(), teacher.state_dict()
    different = [
        name
        for name in {**ours, **theirs}
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    if different:
        raise ConfigError(
            f"the student can't start from {what} of its teacher: {len(different)} tensors differ "
            f"(first: {different[0]}); set distill.start to model, fitting, or to the parts "
            "that are equal ([backbone, neck, head])"
        )
    student.load_state_dict(theirs)


def _copy_fitting(student: nn.Module, teacher: nn.Module) -> None:
    ours, theirs = student.state_dict(), teacher.state_dict()
    fitting = {
        name: value
        for name, value in theirs.items()
        if name in ours and ours[name].shape == value.shape
    }
    if not fitting:
        raise ConfigError(
            "no tensor of the teacher fits the student: set distill.start to model to begin with "
            "the student's own weights"
        )
    log.info(
        "the student starts with %d of its %d tensors from the teacher", len(fitting), len(ours)
    )
    student.load_state_dict({**ours, **fitting})
