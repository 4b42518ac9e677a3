"""Phases as data: which weight counts when."""

import pytest

from kd3d_core.distill.schedule import Phase, check_phases, weights_at
from kd3d_core.errors import ConfigError

TWO = (
    Phase(20, {"det": 1.0, "feat": 2.0, "logit": 1.0}),
    Phase(40, {"det": 3.0, "feat": 1.5, "logit": 1.5}),
)


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, (1.0, 2.0, 1.0)),
        (19.99, (1.0, 2.0, 1.0)),
        (20, (3.0, 1.5, 1.5)),
        (39, (3.0, 1.5, 1.5)),
        (400, (3.0, 1.5, 1.5)),
    ],
)
def test_each_phase_has_its_weights_and_the_last_one_stays(epoch, expected):
    assert weights_at(TWO, epoch) == dict(zip(("det", "feat", "logit"), expected, strict=True))


def test_any_number_of_phases():
    phases = tuple(Phase(epoch + 1, {"det": epoch + 1.0}) for epoch in range(7))
    check_phases(phases)
    assert [weights_at(phases, epoch)["det"] for epoch in range(8)] == [1, 2, 3, 4, 5, 6, 7, 7]


def test_a_ramp_is_a_line_from_the_phase_before():
    phases = (
        Phase(10, {"det": 1.0, "feat": 2.0, "logit": 1.0}),
        Phase(20, {"det": 3.0, "feat": 0.0, "logit": 2.0}, ramp_epochs=4),
    )
    check_phases(phases)
    assert weights_at(phases, 10) == phases[0].weights
    assert weights_at(phases, 11) == {"det": 1.5, "feat": 1.5, "logit": 1.25}
    assert weights_at(phases, 13) == {"det": 2.5, "feat": 0.5, "logit": 1.75}
    assert weights_at(phases, 14) == weights_at(phases, 19) == phases[1].weights


def test_the_first_ramp_is_from_detection_alone():
    phases = (Phase(10, {"det": 0.5, "feat": 2.0, "logit": 1.0}, ramp_epochs=2),)
    assert weights_at(phases, 0) == {"det": 0.5, "feat": 0, "logit": 0}
    assert weights_at(phases, 0.5) == {"det": 0.5, "feat": 0.5, "logit": 0.25}
    assert weights_at(phases, 2) == phases[0].weights


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        ((), "phases is empty"),
        ((Phase(5), Phase(5)), "until_epoch must rise"),
        ((Phase(5), Phase(3)), "until_epoch must rise"),
        ((Phase(0),), "until_epoch must rise"),
        ((Phase(5), Phase(8, ramp_epochs=3.5)), "ramp of 3.5 epochs"),
    ],
)
def test_phases_that_make_no_sense(phases, reason):
    with pytest.raises(ConfigError, match=reason):
        check_phases(phases)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"det": 0.0}, "nothing is learnt"),
        ({"feat": -1.0}, "feat -1.0"),
        ({"logit": float("nan")}, "logit nan"),
        ({"det": float("inf")}, "det inf"),
    ],
)
def test_weights_that_make_no_sense(weights, reason):
    with pytest.raises(ConfigError, match=reason):
        Phase(5, weights)


def test_a_ramp_may_be_as_long_as_its_phase():
    phases = (Phase(10), Phase(14, {"det": 3.0}, ramp_epochs=4))
    check_phases(phases)
    assert [weights_at(phases, 10 + epoch)["det"] for epoch in range(5)] == [1, 1.5, 2, 2.5, 3]
