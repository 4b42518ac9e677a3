"""The filter of all tracks at once beside the textbook's for one, and its honesty about errors."""

import numpy as np

from kd3d_core.tracking import TrackerConfig
from kd3d_core.tracking.kalman import BOX, YAW, box_noise, predict, start, update

CONFIG = TrackerConfig()
DETECTOR = np.zeros(3)


def some_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    places = rng.uniform([5, -20, -2], [60, 20, -1], (count, 3))
    return np.column_stack([places, rng.uniform(1, 5, (count, 3)), rng.uniform(-1, 1, count)])


def test_many_tracks_at_once_are_as_each_alone():
    """One step of predicting and updating, by explicit inverses as Kalman (1960) has them."""
    rng = np.random.default_rng(0)
    boxes, seen = some_boxes(rng, 6), some_boxes(rng, 6)
    noise = box_noise(boxes, DETECTOR, CONFIG)
    mean, covariance = start(boxes, noise, 5.0)
    mean[:, 7:] = rng.normal(0, 5, (6, 3))
    mean, covariance = predict(mean, covariance, 0.3, CONFIG)
    better, sharper = update(mean, covariance, seen, noise)
    observe = np.eye(7, 10)
    for index in range(6):
        p, r = covariance[index], noise[index]
        gain = p @ observe.T @ np.linalg.inv(observe @ p @ observe.T + r)
        expected = mean[index] + gain @ (seen[index] - observe @ mean[index])
        np.testing.assert_allclose(better[index], expected, atol=1e-9)
        np.testing.assert_allclose(sharper[index], (np.eye(10) - gain @ observe) @ p, atol=1e-9)


def test_a_long_prediction_is_many_short_ones():
    rng = np.random.default_rng(1)
    boxes = some_boxes(rng, 3)
    once = many = start(boxes, box_noise(boxes, DETECTOR, CONFIG), 5.0)
    once[0][:, 7:] = 3.0
    once = predict(*once, 1.0, CONFIG)
    for _ in range(10):
        many = predict(*many, 0.1, CONFIG)
    np.testing.assert_allclose(many[0], once[0], atol=1e-9)
    np.testing.assert_allclose(many[1], once[1], atol=1e-9)


def test_errors_are_as_large_as_the_covariance_says():
    """Normalised squared errors of objects that move as the model says; their mean is 10."""
    rng, dt_s, count = np.random.default_rng(2), 0.1, 400
    truth = np.column_stack([some_boxes(rng, count), rng.normal(0, 5, (count, 3))])
    noise = box_noise(truth[:, BOX], DETECTOR, CONFIG)
    root = np.linalg.cholesky(noise)

    def seen() -> np.ndarray:
        return truth[:, BOX] + np.einsum("nij,nj->ni", root, rng.normal(size=(count, 7)))

    mean, covariance = start(seen(), noise, 5.0)
    _, step_noise = predict(np.zeros((1, 10)), np.zeros((1, 10, 10)), dt_s, CONFIG)
    step_root = np.linalg.cholesky(step_noise[0])
    for _ in range(15):
        truth, _ = predict(truth, np.zeros((count, 10, 10)), dt_s, CONFIG)
        truth += rng.normal(size=(count, 10)) @ step_root.T
        mean, covariance = predict(mean, covariance, dt_s, CONFIG)
        mean, covariance = update(mean, covariance, seen(), noise)
    error = truth - mean
    error[:, YAW] = (error[:, YAW] + np.pi) % (2 * np.pi) - np.pi
    squared = np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error)
    assert abs(squared.mean() - 10) < 3 * np.sqrt(20 / count)


def test_noise_lies_along_the_line_of_sight():
    config = TrackerConfig(position_noise=0.1, depth_noise=0.1)
    boxes = np.array([[30.0, 40.0, -1.7, 4, 2, 2, 0]])
    ground = box_noise(boxes, DETECTOR, config)[0, :2, :2]
    along, across = np.array([0.6, 0.8]), np.array([-0.8, 0.6])
    np.testing.assert_allclose(along @ ground @ along, 0.1**2 + 5.0**2)
    np.testing.assert_allclose(across @ ground @ across, 0.1**2)


def test_range_that_is_not_known_leaves_heights_alone():
    """A box far below the detector: it stands on the ground, whatever its range."""
    boxes = np.array([[30.0, 40.0, -12.0, 4, 2, 2, 0]])
    noise = box_noise(boxes, DETECTOR, TrackerConfig(position_noise=0.1, depth_noise=0.1))
    np.testing.assert_allclose(noise[0, 2, :3], [0, 0, 0.1**2], atol=1e-12)
