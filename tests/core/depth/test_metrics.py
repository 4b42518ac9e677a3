import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd3d_core.depth.metrics import MEASURES, crop_mask, depth_totals, finish, judged


def by_hand(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """The measures of some pixels, in plain loops."""
    pairs = list(zip(prediction.tolist(), target.tolist(), strict=True))
    logs = [math.log(p) - math.log(t) for p, t in pairs]
    ratios = [max(p / t, t / p) for p, t in pairs]

    def mean(values) -> float:
        values = list(values)
        return math.fsum(values) / len(values)

    values = {
        "abs_rel": mean(abs(p - t) / t for p, t in pairs),
        "sq_rel": mean((p - t) ** 2 / t for p, t in pairs),
        "rmse": math.sqrt(mean((p - t) ** 2 for p, t in pairs)),
        "rmse_log": math.sqrt(mean(log**2 for log in logs)),
        "log10": mean(abs(math.log10(p) - math.log10(t)) for p, t in pairs),
        "silog": 100 * float(np.std(logs)),
    }
    for power in (1, 2, 3):
        values[f"delta_{power}"] = mean(ratio < 1.25**power for ratio in ratios)
    return values


def random_depth(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Prediction, some of it out of range, and truth with holes and values past the cap."""
    random = np.random.default_rng(seed)
    target = random.uniform(0.5, 95, shape)
    target[random.random(shape) < 0.4] = 0
    prediction = np.where(target > 0, target, 5) * random.lognormal(0, 0.3, shape)
    prediction[random.random(shape) < 0.05] = 0
    prediction[random.random(shape) < 0.05] = np.inf
    return prediction.astype(np.float32), target.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_equals_plain_loops_per_image_per_pixel_and_per_band(seed: int) -> None:
    prediction, target = random_depth(seed, (3, 11, 13))
    bands = (0.0, 10.0, 30.0, 80.0)
    result = finish(
        depth_totals(torch.from_numpy(prediction), torch.from_numpy(target), bands=bands)
    )
    clipped = np.clip(prediction.astype(np.float64), 1e-3, 80)
    for score, (near, far) in zip(result, [(0, 80), *pairwise(bands)], strict=True):
        inside = (target > 1e-3) & (target < 80) & (target >= near) & (target < far)
        assert score.pixels == inside.sum()
        assert score.images == 3
        images = [
            by_hand(answer[part], truth[part])
            for answer, truth, part in zip(clipped, target, inside, strict=True)
        ]
        together = by_hand(clipped[inside], target[inside])
        for name in MEASURES:
            expected = np.mean([image[name] for image in images])
            assert score.per_image[name] == pytest.approx(expected, rel=1e-9)
            assert score.per_pixel[name] == pytest.approx(together[name], rel=1e-9)


def one(prediction: list[float], target: list[float], **options) -> dict[str, float]:
    totals = depth_totals(torch.tensor([[prediction]]), torch.tensor([[target]]), **options)
    return finish(totals)[0].per_image


def test_values_by_hand() -> None:
    scores = one([2.0, 8.0], [4.0, 4.0])
    half, double = math.log(0.5), math.log(2)
    assert scores["abs_rel"] == pytest.approx((0.5 + 1) / 2)
    assert scores["sq_rel"] == pytest.approx((1 + 4) / 2)
    assert scores["rmse"] == pytest.approx(math.sqrt((4 + 16) / 2))
    assert scores["rmse_log"] == pytest.approx(double)
    assert scores["log10"] == pytest.approx(math.log10(2))
    assert scores["silog"] == pytest.approx(100 * np.std([half, double]))
    assert [scores[f"delta_{power}"] for power in (1, 2, 3)] == [0, 0, 0]


def test_borders_of_delta() -> None:
    scores = one([1.2, 1.3, 1.6, 2.0], [1.0] * 4)
    assert [scores[f"delta_{power}"] for power in (1, 2, 3)] == [0.25, 0.5, 0.75]


def test_perfect_depth() -> None:
    scores = one([3.0, 70.0], [3.0, 70.0])
    assert [scores[name] for name in MEASURES] == [0] * 6 + [1] * 3


@given(st.floats(0.2, 5))
@settings(max_examples=25)
def test_silog_forgives_scale_and_nothing_else_does(scale: float) -> None:
    target = [2.0, 3.0, 7.0, 11.0]
    scores = one([value * scale for value in target], target)
    assert scores["silog"] == pytest.approx(0, abs=1e-2)  # of float32 input
    assert scores["abs_rel"] == pytest.approx(abs(scale - 1), abs=1e-5)
    assert scores["rmse_log"] == pytest.approx(abs(math.log(scale)), abs=1e-5)


def test_images_weigh_the_same_and_pixels_weigh_the_same() -> None:
    prediction = torch.tensor([[[2.0, 1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0, 1.0]]])
    (score,) = finish(depth_totals(prediction, target))
    assert score.per_image["abs_rel"] == pytest.approx(1 / 2)
    assert score.per_pixel["abs_rel"] == pytest.approx(1 / 5)
    assert (score.images, score.pixels) == (2, 5)


def test_images_without_truth_do_not_count() -> None:
    prediction, target = torch.ones(2, 2, 2), torch.ones(2, 2, 2)
    target[1] = 0
    prediction[0] = 1.5
    everything, empty = finish(depth_totals(prediction, target, bands=(50.0, 60.0)))
    assert everything.images == 1
    assert everything.per_image["abs_rel"] == pytest.approx(0.5)
    assert (empty.images, empty.pixels) == (0, 0)
    assert all(
        math.isnan(value) for value in (*empty.per_image.values(), *empty.per_pixel.values())
    )


def test_what_is_no_depth_counts_as_the_nearest_and_infinity_as_the_cap() -> None:
    for bad, taken in ((math.nan, 0.001), (0.0, 0.001), (-3.0, 0.001), (math.inf, 80), (200.0, 80)):
        assert one([bad], [40.0])["rmse"] == pytest.approx(40 - taken if taken < 40 else taken - 40)
    # Where there is no truth, nothing of that matters.
    assert one([math.nan, 5.0], [0.0, 5.0])["rmse"] == 0
    assert one([5.0, 5.0], [math.nan, 5.0])["rmse"] == 0


def test_cap_and_least_depth_choose_pixels() -> None:
    target = torch.tensor([0.0, 0.5, 1.0, 49.9, 50.0, 79.0])
    assert judged(target).tolist() == [False, True, True, True, True, True]
    assert judged(target, cap=50).tolist() == [False, True, True, True, False, False]
    assert judged(target, min_depth=0.5).tolist() == [False, False, True, True, True, True]
    mask = torch.tensor([True, False] * 3)
    assert judged(target, mask).tolist() == [False, False, True, False, True, False]
    assert one([60.0], [40.0], cap=50.0)["rmse"] == pytest.approx(10)


def test_crops_are_those_of_published_code() -> None:
    """Rows and columns for KITTI's usual size, computed by hand from the papers' shares."""
    for crop, rows, columns in (
        ("garg", (153, 371), (44, 1197)),
        ("eigen", (124, 342), (44, 1197)),
    ):
        mask = crop_mask((375, 1242), crop).numpy()
        assert (np.flatnonzero(mask.any(1))[[0, -1]] + (0, 1)).tolist() == list(rows)
        assert (np.flatnonzero(mask.any(0))[[0, -1]] + (0, 1)).tolist() == list(columns)
        assert mask.sum() == (rows[1] - rows[0]) * (columns[1] - columns[0])
    assert crop_mask((5, 7), "none").all()


def test_masked_pixels_do_not_count() -> None:
    prediction, target = (torch.from_numpy(part) for part in random_depth(5, (2, 20, 30)))
    mask = crop_mask((20, 30), "garg")
    cut = depth_totals(prediction, torch.where(mask, target, 0))
    torch.testing.assert_close(depth_totals(prediction, target, mask), cut)
    torch.testing.assert_close(depth_totals(prediction, target, mask.expand(2, -1, -1)), cut)


def test_totals_add_up_over_batches() -> None:
    prediction, target = (torch.from_numpy(part) for part in random_depth(6, (6, 9, 9)))
    bands = (0.0, 20.0, 80.0)
    parts = sum(
        depth_totals(prediction[index : index + 2], target[index : index + 2], bands=bands)
        for index in (0, 2, 4)
    )
    torch.testing.assert_close(parts, depth_totals(prediction, target, bands=bands))


def test_half_precision_predictions_are_judged_in_double() -> None:
    target = torch.full((1, 200, 300), 40.0)
    prediction = target.to(torch.bfloat16) + 0.25
    (score,) = finish(depth_totals(prediction, target))
    assert score.per_image["rmse"] == pytest.approx(0.25)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nothing_waits_for_the_device() -> None:
    prediction, target = (torch.from_numpy(part).cuda() for part in random_depth(7, (2, 20, 30)))
    mask = crop_mask((20, 30), "eigen", prediction.device)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        totals = depth_totals(prediction, target, mask, bands=(0.0, 10.0, 80.0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(
        totals.cpu(),
        depth_totals(prediction.cpu(), target.cpu(), mask.cpu(), bands=(0.0, 10.0, 80.0)),
    )
