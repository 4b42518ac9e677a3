"""Lens models: where rays fall in a raw image."""

from dataclasses import dataclass

import numpy as np

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.checks import check_intrinsics, check_rotation, finite

_PINHOLE_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8,)}
_FISHEYE_MODELS = {"equidistant": (4,), "fisheye": (4,)}


@dataclass(frozen=True, eq=False)
class Distortion:
    """The lens of a raw image, and how its rays turn into those of the rectified camera.

    Attributes:
        model: `plumb_bob`, `rational_polynomial` or `equidistant` (ROS names).
        coefficients: `(C,)`, in OpenCV's order.
        intrinsics: 3x3 of the raw image.
        rectified_from_raw: 3x3 rotation of rays, CameraInfo's R.
    """

    model: str
    coefficients: np.ndarray
    intrinsics: np.ndarray
    rectified_from_raw: np.ndarray

    def __post_init__(self) -> None:
        counts = (_PINHOLE_MODELS | _FISHEYE_MODELS).get(self.model)
        if counts is None:
            known = ", ".join(_PINHOLE_MODELS | _FISHEYE_MODELS)
            raise CalibrationError(
                f"distortion model {self.model[:40]!r} is unknown: use one of {known}, "
                "or publish a rectified image"
            )
        coefficients = finite("D", self.coefficients, None)
        if len(coefficients) not in counts:
            raise CalibrationError(
                f"D has {len(coefficients)} coefficients, {self.model} has "
                f"{' or '.join(map(str, counts))}"
            )
        object.__setattr__(self, "coefficients", coefficients)
        intrinsics = finite("K", self.intrinsics, (3, 3))
        check_intrinsics("K", intrinsics)
        object.__setattr__(self, "intrinsics", intrinsics)
        rotation = finite("R", self.rectified_from_raw, (3, 3))
        check_rotation("R", rotation)
        object.__setattr__(self, "rectified_from_raw", rotation)

    def is_identity(self, projection: np.ndarray) -> bool:
        """Whether the raw image is the rectified one of a 3x4 projection already."""
        return (
            not self.coefficients.any()
            and np.allclose(self.intrinsics, projection[:, :3], rtol=1e-6)
            and np.allclose(self.rectified_from_raw, np.eye(3), atol=1e-9)
        )

    def raw_pixels(self, rays: np.ndarray) -> np.ndarray:
        """Pixels `(..., 2)` of the raw image where rays `(..., 3)` of the rectified camera fall.

        >>> intrinsics = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
        >>> lens = Distortion("plumb_bob", np.array([-0.1, 0, 0, 0]), intrinsics, np.eye(3))
        >>> lens.raw_pixels(np.array([1.0, 0, 2])).tolist()  # 570 without distortion
        [563.75, 240.0]
        """
        rays = rays @ self.rectified_from_raw  # its transpose, applied to rows
        x, y = rays[..., 0] / rays[..., 2], rays[..., 1] / rays[..., 2]
        c = self.coefficients
        r2 = x * x + y * y
        if self.model in _FISHEYE_MODELS:
            r = np.sqrt(r2)
            theta = np.arctan(r)
            t2 = theta * theta
            bent = theta * (1 + t2 * (c[0] + t2 * (c[1] + t2 * (c[2] + t2 * c[3]))))
            scale = np.divide(bent, r, out=np.ones_like(r), where=r > 1e-9)
            x, y = x * scale, y * scale
        else:
            k = np.zeros(8)
            k[: len(c)] = c
            radial = (1 + r2 * (k[0] + r2 * (k[1] + r2 * k[4]))) / (
                1 + r2 * (k[5] + r2 * (k[6] + r2 * k[7]))
            )
            x, y = (
                x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x),
                y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y,
            )
        matrix = self.intrinsics
        return np.stack(
            [matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 1] * y + matrix[1, 2]],
            -1,
        )
