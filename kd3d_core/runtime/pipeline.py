"""CameraDetector: one image and its camera in, pseudo-LiDAR points and 3D boxes out.

The node, the offline tools and the benchmarks all go through it. On a GPU the image is uploaded
once as bytes, everything else happens there, and one copy comes back.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from kd3d_core.detectors.decode import BoxSlots
from kd3d_core.devices import Precision, usable_device
from kd3d_core.errors import ConfigError, ImageError
from kd3d_core.geometry.camera import PinholeCamera, rectification_grid
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.build import load_model
from kd3d_core.models.camera_notices import camera_notices
from kd3d_core.models.chain import Model
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.timing import StageTimer


class CameraDetector:
    """Detects objects in single images.

    Attributes:
        model: what detects.
        class_names: names of the labels.
        trained: False if any weights are random; then nothing it says means anything.
        description: model, weights, device and precision in one line.
        card: what it was trained on.
    """

    def __init__(self, model: Model, device: str = "cpu") -> None:
        """Use a model that exists already; `from_config` makes one.

        Args:
            model: on `device` already.
            device: where it runs.

        Raises:
            ConfigError: the model reads what a camera doesn't have.
        """
        if model.reads_points:
            raise ConfigError(
                f"the model ({model.description}) reads the points of a LiDAR, and here is only a "
                "camera: use it as a teacher in kd3d-train, and a model of type pseudo_lidar or "
                "cmkd here"
            )
        self.model = model
        self.device = torch.device(device)
        self.class_names = model.config.detector.classes
        self.trained = model.trained
        self.description = f"{model.description}, {self.device}, {model.precision}" + (
            "" if self.trained else ", UNTRAINED"
        )
        self.card = model.config.card
        self._noticed: tuple[PinholeCamera, dict[str, str]] | None = None
        self._upload_buffer: torch.Tensor | None = None
        self._rectify_grid: tuple[PinholeCamera, torch.Tensor] | None = None

    @classmethod
    def from_config(
        cls, model: Path | str, device: str = "auto", precision: Precision = "auto"
    ) -> "CameraDetector":
        """Load the model of a configuration.

        Args:
            model: a YAML file, or a name in `config/models` or `weights`.
            device: a torch device, or `auto`: CUDA if there is one, else the CPU.
            precision: of the networks; `auto` suits the device.

        Raises:
            ConfigError: the configuration is wrong.
            WeightsError: weights are missing or don't fit; says which command gets them.
        """
        device = usable_device(device)
        return cls(load_model(model, torch.device(device), precision), device)

    def notices(self, camera: PinholeCamera) -> dict[str, str]:
        """How a camera differs from those of the training; see `camera_notices`."""
        if self._noticed is None or self._noticed[0] is not camera:
            self._noticed = (
                camera,
                camera_notices(self.card.camera, camera, self.model.depth_window),
            )
        return self._noticed[1]

    @property
    def sampling_ratio(self) -> float:
        """Share of the depth map's pixels that become points; may be set between two images."""
        return self.model.cloud.keep_fraction

    @sampling_ratio.setter
    def sampling_ratio(self, ratio: float) -> None:
        self.model.cloud = replace(self.model.cloud, keep_fraction=ratio)

    def warm_up(self) -> None:
        """Run once on a blank image, so that the first real one isn't held up by set-up work."""
        height, width = 375, 1242
        projection = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
        camera = PinholeCamera(projection, width, height, virtual_lidar_from_camera(1.65))
        self(np.zeros((height, width, 3), np.uint8), camera)

    def __call__(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        """Detect in one image.

        Args:
            image: `(H, W, 3)` uint8 RGB, any strides.
            camera: of that image; if it has a `distortion`, the image is raw and is rectified.

        Raises:
            ImageError: the image has another type or shape, or not the camera's size.
        """
        _check_image(image, camera)
        # CUDA's current device belongs to the thread, and events and pinned memory ask for it.
        current = torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()
        with torch.inference_mode(), current:
            return self._detect(image, camera)

    def _detect(self, image: np.ndarray, camera: PinholeCamera) -> Detections:
        timer = StageTimer(self.device)
        pixels = self._upload(image)
        if camera.distortion is not None:
            pixels = self._rectify(pixels, camera)
        timer.mark("upload")
        output = self.model(pixels, camera, mark=timer.mark)
        host_points, boxes, scores, labels = _download(output.points, output.valid, output.boxes)
        timer.mark("download")
        seen = self.model.depth_window
        window = None if seen is None else seen.window(camera)
        return Detections(
            host_points, boxes, scores, labels, output.depth, window, timer.milliseconds()
        )

    def _upload(self, image: np.ndarray) -> torch.Tensor:
        """The image as `(1, 3, H, W)` float32, 0 to 255, on the device; bytes travel."""
        if self._upload_buffer is None or self._upload_buffer.shape != image.shape:
            self._upload_buffer = torch.empty(
                image.shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda"
            )
        np.copyto(self._upload_buffer.numpy(), image)
        pixels = self._upload_buffer.to(self.device, non_blocking=True)
        return pixels.permute(2, 0, 1)[None].float()

    def _rectify(self, pixels: torch.Tensor, camera: PinholeCamera) -> torch.Tensor:
        if self._rectify_grid is None or not camera.has_lens_of(self._rectify_grid[0]):
            grid = torch.as_tensor(rectification_grid(camera), device=self.device)
            self._rectify_grid = (camera, grid)
        return functional.grid_sample(pixels, self._rectify_grid[1][None], align_corners=True)


def _check_image(image: np.ndarray, camera: PinholeCamera) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"the image is {image.dtype} {image.shape}: (height, width, 3) uint8 RGB is needed"
        )
    if image.shape[:2] != (camera.height, camera.width):
        raise ImageError(
            f"the image is {image.shape[1]} x {image.shape[0]} pixels and its calibration is for "
            f"{camera.width} x {camera.height}: give the calibration of images of this size"
        )


def _download(
    points: torch.Tensor, valid: torch.Tensor, slots: BoxSlots
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points `(N, 4)`, boxes, scores and labels on the host, in a single copy."""
    columns = [slots.boxes[0], slots.scores[0, :, None], slots.labels[0, :, None]]
    boxes = torch.cat([*columns, slots.valid[0, :, None]], 1)
    cloud = torch.cat([points, valid[:, None]], 1)
    flat = torch.cat([cloud.flatten(), boxes.flatten()]).cpu().numpy()
    cloud_host = flat[: cloud.numel()].reshape(cloud.shape)
    boxes_host = flat[cloud.numel() :].reshape(boxes.shape)
    boxes_host = boxes_host[boxes_host[:, -1] > 0]
    return (
        np.ascontiguousarray(cloud_host[cloud_host[:, 4] > 0, :4]),
        boxes_host[:, :7].copy(),
        boxes_host[:, 7].copy(),
        boxes_host[:, 8].astype(np.int64),
    )
