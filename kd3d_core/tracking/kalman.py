"""The Kalman filter of the tracker, for all tracks at once.

State `(N, 10)`: x, y, z, length, width, height, yaw, as in `kd3d_core.geometry.boxes`, and the
velocity of x, y and z; the model is constant velocity, that of AB3DMOT (Weng et al., IROS 2020),
with noise by time instead of by frame.
"""

import numpy as np

from kd3d_core.geometry.boxes import wrap_angle
from kd3d_core.tracking.config import TrackerConfig

BOX, PLACE, SIZE, YAW, VELOCITY = slice(0, 7), slice(0, 3), slice(3, 6), 6, slice(7, 10)


def start(
    boxes: np.ndarray, noise: np.ndarray, start_speed: float
) -> tuple[np.ndarray, np.ndarray]:
    """States `(N, 10)` and covariances `(N, 10, 10)` of objects seen for the first time.

    >>> boxes, noise = np.array([[10.0, 0, -1.7, 4, 1.6, 1.5, 0]]), np.eye(7)[None]
    >>> mean, covariance = start(boxes, noise, 5.0)
    >>> mean[0, VELOCITY].tolist(), covariance[0].diagonal()[VELOCITY].tolist()
    ([0.0, 0.0, 0.0], [25.0, 25.0, 25.0])

    Args:
        boxes: `(N, 7)`.
        noise: `(N, 7, 7)` covariance of the boxes, from `box_noise`.
        start_speed: standard deviation of each component of the velocity, metres per second.
    """
    count = len(boxes)
    mean = np.concatenate([boxes, np.zeros((count, 3))], 1)
    covariance = np.zeros((count, 10, 10))
    covariance[:, BOX, BOX] = noise
    covariance[:, VELOCITY, VELOCITY] = start_speed**2 * np.eye(3)
    return mean, covariance


def predict(
    mean: np.ndarray, covariance: np.ndarray, dt_s: float, config: TrackerConfig
) -> tuple[np.ndarray, np.ndarray]:
    """States and covariances a time later.

    >>> mean, covariance = start(np.zeros((1, 7)), np.eye(7)[None], 5.0)
    >>> mean[0, VELOCITY] = 10, 0, 0
    >>> later, _ = predict(mean, covariance, 0.5, TrackerConfig())
    >>> later[0, PLACE].tolist()
    [5.0, 0.0, 0.0]
    """
    step = np.eye(10)
    step[PLACE, VELOCITY] = dt_s * np.eye(3)
    # White noise as acceleration: Bar-Shalom et al., Estimation with Applications, 6.2.2.
    noise = np.zeros((10, 10))
    strength = config.acceleration**2 * np.eye(3)
    noise[PLACE, PLACE] = strength * dt_s**3 / 3
    noise[PLACE, VELOCITY] = noise[VELOCITY, PLACE] = strength * dt_s**2 / 2
    noise[VELOCITY, VELOCITY] = strength * dt_s
    noise[SIZE, SIZE] = config.size_change**2 * dt_s * np.eye(3)
    noise[YAW, YAW] = config.yaw_change**2 * dt_s
    return mean @ step.T, step @ covariance @ step.T + noise


def update(
    mean: np.ndarray, covariance: np.ndarray, boxes: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States and covariances after the objects have been seen, each as one of the boxes.

    >>> mean, covariance = start(np.zeros((1, 7)), np.eye(7)[None], 5.0)
    >>> better, sharper = update(mean, covariance, np.ones((1, 7)), np.eye(7)[None])
    >>> better[0, :7].tolist(), sharper[0, 0, 0].item()
    ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], 0.5)

    Args:
        boxes: `(N, 7)`, whose yaw may be turned by any number of turns, but not half ones.
        noise: `(N, 7, 7)` their covariance.
    """
    innovation = boxes - mean[:, BOX]
    innovation[:, YAW] = wrap_angle(innovation[:, YAW])
    # P and S are symmetric, so K = P H' / S is the transpose of S \ (H P).
    gain = np.linalg.solve(covariance[:, BOX, BOX] + noise, covariance[:, BOX, :])
    mean = mean + np.einsum("nki,nk->ni", gain, innovation)
    mean[:, YAW] = wrap_angle(mean[:, YAW])
    covariance = covariance - np.einsum("nki,nkj->nij", gain, covariance[:, BOX, :])
    return mean, (covariance + covariance.transpose(0, 2, 1)) / 2


def box_noise(boxes: np.ndarray, detector: np.ndarray, config: TrackerConfig) -> np.ndarray:
    """Covariances `(M, 7, 7)` of detected boxes `(M, 7)`.

    >>> noise = box_noise(np.array([[0.0, 50, 0, 4, 2, 2, 0]]), np.zeros(3), TrackerConfig())
    >>> noise[0].diagonal()[PLACE].round(2).tolist()  # 0.3 m, and 3 % of 50 m along y
    [0.09, 2.34, 0.09]

    Args:
        detector: `(3,)`, where they are seen from.
    """
    noise = np.zeros((len(boxes), 7, 7))
    sight = boxes[:, PLACE] - detector
    sight[:, 2] = 0  # what is seen stands on the ground: its height is known better than its range
    depth = config.depth_noise * sight
    noise[:, PLACE, PLACE] = depth[:, :, None] * depth[:, None, :]
    steady = [config.position_noise] * 3 + [config.size_noise] * 3 + [config.yaw_noise]
    noise += np.diag(np.square(steady))
    return noise
