"""CameraDetector: one image and its camera in, pseudo-LiDAR points and 3D boxes out.

The node, the offline tools and the benchmarks all go through it. On a GPU the image is uploaded
once as bytes, everything else happens there, and one copy comes back.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from kd3d_core.depth.build import make_depth
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.build import load_detector, random_detector
from kd3d_core.detectors.decode import BoxSlots
from kd3d_core.errors import ConfigError, ImageError
from kd3d_core.geometry.camera import (
    PinholeCamera,
    rectification_grid,
    virtual_lidar_from_camera,
)
from kd3d_core.geometry.points import matching
from kd3d_core.pseudo_lidar import pseudo_lidar
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.model_config import ModelConfig, load_model_config
from kd3d_core.runtime.timing import StageTimer
from kd3d_core.weights import resolve

Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

DepthFunction = Callable[[torch.Tensor], torch.Tensor]


class CameraDetector:
    """Detects objects in single images.

    Attributes:
        class_names: names of the labels.
        trained: False if any weights are random; then nothing it says means anything.
        description: model, weights, device and precision in one line.
    """

    def __init__(
        self,
        config: ModelConfig,
        depth: DepthFunction,
        detector: AnchorDetector,
        device: str = "cpu",
        precision: Precision = "auto",
    ) -> None:
        """Use models that exist already; `from_config` makes them.

        Args:
            config: the settings of every stage.
            depth: maps `(1, 3, h, w)` RGB in [0, 1] to depth `(1, h, w)` in metres.
            detector: on `device` already.
            device: where to run.
            precision: of the networks; `auto` is bf16 on CUDA where the GPU knows it, else fp16,
                and fp32 elsewhere.
        """
        assert config.depth.window is not None, "make_depth says which window the model wants"
        self.config = config
        self.device = torch.device(device)
        self._depth_window = config.depth.window
        if precision == "auto":
            precision = best_precision(self.device)
        self._dtype = _DTYPES[precision]
        self._depth = depth
        self._detector = detector
        self.class_names = config.detector.classes
        self.trained = "random" not in (config.depth.weights, config.detector.weights)
        self.description = (
            f"depth {config.depth.weights}, {config.detector.type} {config.detector.weights}, "
            f"{self.device}, {precision}" + ("" if self.trained else ", UNTRAINED")
        )
        self._upload_buffer: torch.Tensor | None = None
        self._rectify_grid: tuple[PinholeCamera, torch.Tensor] | None = None

    @classmethod
    def from_config(
        cls, model: Path | str, device: str = "auto", precision: Precision = "auto"
    ) -> "CameraDetector":
        """Load the models of a configuration.

        Args:
            model: a YAML file, or a name in `config/models` or `weights`.
            device: a torch device, or `auto`: CUDA if there is one, else the CPU.
            precision: see `__init__`.

        Raises:
            ConfigError: the configuration is wrong.
            WeightsError: weights are missing or don't fit; says which command gets them.
        """
        config = load_model_config(model)
        device = usable_device(device)
        depth, depth_config = make_depth(config.depth, config.seed)
        config = replace(config, depth=depth_config)
        if config.detector.weights == "random":
            detector = random_detector(config.detector, config.seed)
        else:
            detector = load_detector(resolve(config.detector.weights), config.detector)
        return cls(config, depth.to(device), detector.to(device), device, precision)

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

        depth_window = self._depth_window.window(camera)
        depth_image = depth_window.extract(pixels)
        with self._autocast():
            depth = self._depth(depth_image / 255)[0].float()
        timer.mark("depth")

        points, valid = pseudo_lidar(
            depth,
            depth_window.camera(camera),
            self.config.pseudo_lidar,
            depth_window.inside(camera),
        )
        timer.mark("pseudo_lidar")

        window = self.config.detector.window.window(camera)
        detector_image = depth_image if window == depth_window else window.extract(pixels)
        projection = matching(window.camera(camera).image_from_lidar, points)
        samples = torch.zeros(len(points), dtype=torch.int64, device=self.device)
        with self._autocast():
            maps = self._detector(points, samples, detector_image, projection[None], valid)
        slots = self._detector.boxes(maps)
        timer.mark("detect")

        host_points, boxes, scores, labels = _download(points, valid, slots)
        timer.mark("download")
        return Detections(host_points, boxes, scores, labels, depth, timer.milliseconds())

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
        if self._rectify_grid is None or self._rectify_grid[0] is not camera:
            grid = torch.as_tensor(rectification_grid(camera), device=self.device)
            self._rectify_grid = (camera, grid)
        return functional.grid_sample(pixels, self._rectify_grid[1][None], align_corners=True)

    def _autocast(self) -> torch.autocast:
        enabled = self._dtype != torch.float32
        return torch.autocast(self.device.type, self._dtype if enabled else None, enabled)


def best_precision(device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What the networks should compute with on a device."""
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


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


def usable_device(device: str) -> str:
    """The torch device that a user asked for; `auto` is CUDA if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ConfigError(f"device {device!r} is unknown: use auto, cpu, cuda or cuda:1") from None
    if kind not in ("cpu", "cuda"):
        raise ConfigError(f"device {device!r}: only cpu and cuda are supported")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {device!r}: torch finds {torch.cuda.device_count()} CUDA devices here; "
            "use auto or cpu"
        )
    return device


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
