"""Light and camera as augmentation: what each setting does, by numbers."""

import numpy as np
import pytest
import torch

from kd3d_core.data.augment import Augmentation, draw_augmentation
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.photometric import change_light
from kd3d_core.data.photometric_config import PhotometricConfig
from kd3d_core.errors import ConfigError

STRONG = PhotometricConfig(
    shadow=1, dapple=1, glare=1, exposure=1, gamma=0.3, white_balance=0.1, blur=1, noise=10, jpeg=40
)
GREY = torch.full((3, 40, 60), 100.0)
SEEDS = range(30)


def linear(image: torch.Tensor) -> torch.Tensor:
    return (image / 255) ** 2.2


def test_the_default_changes_nothing():
    assert change_light(GREY, PhotometricConfig(), 3) is GREY


def test_a_seed_makes_a_change_and_leaves_the_global_one_alone():
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0)) * 255
    kept, state = image.clone(), torch.get_rng_state()
    first, again, other = (change_light(image, STRONG, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(image, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == image.shape
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 255


def test_exposure_is_in_stops_and_cuts_off_what_is_too_bright():
    config = PhotometricConfig(exposure=1.0)
    gains = [float((linear(change_light(GREY, config, s)) / linear(GREY)).mean()) for s in SEEDS]
    assert 0.5 <= min(gains) < 0.7
    assert 1.5 < max(gains) <= 2.0
    assert max(float(change_light(GREY * 2.5, config, s).max()) for s in SEEDS) == 255


def test_gamma_bends_between_black_and_white():
    config = PhotometricConfig(gamma=0.5)
    for seed in SEEDS:
        ends = change_light(torch.tensor([0.0, 255.0]).expand(3, 1, 2), config, seed)
        torch.testing.assert_close(ends, torch.tensor([0.0, 255.0]).expand(3, 1, 2))
    middles = [float(change_light(GREY, config, s).mean()) for s in SEEDS]
    # 255 (100 / 255)^1.5 and ^(1 / 1.5)
    assert 62.6 <= min(middles) < 75
    assert 125 < max(middles) <= 136.7


def test_white_balance_is_a_gain_of_each_colour():
    config = PhotometricConfig(white_balance=0.2)
    gains = torch.stack([linear(change_light(GREY, config, s)) / linear(GREY) for s in range(200)])
    assert torch.allclose(gains.amax((2, 3)), gains.amin((2, 3)), rtol=1e-3)
    logs = gains[:, :, 0, 0].log()
    assert float(logs.std()) == pytest.approx(0.2, abs=0.03)
    assert float(logs.mean()) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("name", ["shadow", "dapple"])
def test_shadows_darken_some_of_the_image_and_are_bluer(name):
    config = PhotometricConfig(**{name: 1.0})
    shares, kept = [], []
    for seed in SEEDS:
        factor = linear(change_light(GREY, config, seed)) / linear(GREY)
        assert factor.max() < 1.01
        shares.append(float((factor[1] < 0.7).float().mean()))
        kept.append(float(factor[1].min()))
        darkest = factor.flatten(1)[:, factor[1].argmin()]
        assert darkest[0] < darkest[2]
    assert 0.05 < np.mean(shares) < 0.95
    assert 0.13 < min(kept) < 0.7


def test_shadows_come_with_their_probability():
    config = PhotometricConfig(shadow=0.3)
    changed = [not torch.allclose(change_light(GREY, config, s), GREY) for s in range(300)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.08)


def test_glare_is_strongest_above():
    bright = linear(change_light(GREY, PhotometricConfig(glare=1.0), 4)) - linear(GREY)
    rows = bright.mean((0, 2))
    assert (rows.diff() < 0).all()
    assert rows[0] > 0.02


def test_noise_has_its_deviation_and_blur_takes_it_away():
    noisy = [change_light(GREY, PhotometricConfig(noise=20.0), s) - GREY for s in SEEDS]
    deviations = [float(n.std()) for n in noisy]
    assert 14 < max(deviations) < 20
    assert all(abs(float(n.mean())) < 1 for n in noisy)
    checks = ((torch.arange(40)[:, None] + torch.arange(60)[None]) % 2 * 255.0).expand(3, -1, -1)
    blurred = [change_light(checks, PhotometricConfig(blur=2.0), s) for s in SEEDS]
    assert min(float(b[:, 8:-8, 8:-8].std()) for b in blurred) < 1


def test_jpeg_moves_colours_a_little_and_swaps_none():
    image = torch.zeros(3, 32, 32)
    image[0] = 200.0
    image[1, :16] = 60.0
    changed = change_light(image, PhotometricConfig(jpeg=30), 1)
    assert not torch.equal(changed, image)
    assert (changed - image).abs().mean() < 12


def test_the_samples_change_follows_seed_epoch_and_index():
    config = AugmentConfig(photometric=STRONG)
    places = {(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)}
    seeds = {draw_augmentation(config, *place).light_seed for place in places}
    assert len(seeds) == 4
    image = torch.full((3, 20, 30), 90.0)
    change = Augmentation(flip=True, photometric=STRONG, light_seed=5)
    changed, matrix = change.image_only(image)
    torch.testing.assert_close(changed, change_light(image, STRONG, 5))
    assert matrix[0, 0] == -1


@pytest.mark.parametrize(
    "wrong",
    [{"shadow": 1.2}, {"glare": -0.1}, {"exposure": -1.0}, {"noise": 200.0}, {"jpeg": 0},
     {"blur": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PhotometricConfig(**wrong)
