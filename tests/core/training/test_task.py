"""Which checkpoint is the best."""

import math

from kd3d_core.training.task import Score, rank, reason

SCORES = (Score("mAP"), Score("loose"))


def better(one: dict[str, float], other: dict[str, float]) -> bool:
    return rank(SCORES, one) > rank(SCORES, other)


def test_a_later_metric_decides_where_the_first_is_equal():
    assert better({"mAP": 2.0, "loose": 0.0}, {"mAP": 1.0, "loose": 9.0})
    assert better({"mAP": 0.0, "loose": 3.0}, {"mAP": 0.0, "loose": 2.0})
    assert better({"loose": 3.0}, {"loose": 2.0})
    error = (Score("error", higher_is_better=False),)
    assert rank(error, {"error": 1.0}) > rank(error, {"error": 2.0})


def test_a_missing_metric_is_the_worst():
    assert better({"mAP": 0.0}, {})
    assert better({"mAP": 0.0}, {"mAP": math.nan})
    assert rank(SCORES, {}) == rank(SCORES, {})


def test_the_reason_names_what_decided():
    assert reason(SCORES, {"mAP": 2.5, "loose": 9.0}) == "highest mAP, 2.5"
    assert reason(SCORES, {"mAP": 0.0, "loose": 9.0}) == "highest loose, 9; mAP: 0 or missing"
    assert "the newest" in reason(SCORES, {})
