"""Depth maps, on disk or of a model, against the velodyne of a data set."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.samples import windowed
from kd3d_core.depth.build import make_depth
from kd3d_core.depth.metrics import Crop, DepthScores, crop_mask, depth_totals, finish, judged
from kd3d_core.errors import DataError, Kd3dError
from kd3d_core.geometry.points import depth_map
from kd3d_core.runtime.model_config import load_model_config

_UNITS_PER_METRE = 256
_SUFFIXES = (".png", ".npy")


@dataclass(frozen=True)
class DepthRules:
    """Which pixels count.

    Attributes:
        crop: part of the image, see `crop_mask`.
        cap: farthest distance, metres.
        min_depth: nearest distance, metres.
        bands: rising borders of the bands of distance, metres.
    """

    crop: Crop = "garg"
    cap: float = 80.0
    min_depth: float = 1e-3
    bands: tuple[float, ...] = (0, 10, 20, 40, 80)

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.cap < np.inf:
            raise Kd3dError(f"min depth {self.min_depth:g}, cap {self.cap:g}: need 0 < min < cap")
        if len(self.bands) == 1 or not all(near < far for near, far in pairwise(self.bands)):
            raise Kd3dError(f"bands {list(self.bands)}: give two or more rising distances, or none")

    @property
    def ranges(self) -> list[str]:
        """Names of what scores are given for: `all`, then the bands as `10-20`."""
        return ["all"] + [f"{near:g}-{far:g}" for near, far in pairwise(self.bands)]


@dataclass(frozen=True)
class DepthReport:
    """Scores of a data set.

    Attributes:
        rules: which pixels counted.
        frames: number of frames.
        scores: `all` and the bands, for example `10-20`, to their scores.
        without_answer: share of the compared pixels that had no predicted depth.
    """

    rules: DepthRules
    frames: int
    scores: dict[str, DepthScores]
    without_answer: float

    def to_json(self) -> dict[str, Any]:
        """Settings, and for each range of distance what `DepthScores` has; no value is null."""
        scores = {
            name: {
                "pixels": score.pixels,
                "images": score.images,
                "per_image": _without_nan(score.per_image),
                "per_pixel": _without_nan(score.per_pixel),
            }
            for name, score in self.scores.items()
        }
        return {
            **asdict(self.rules),
            "frames": self.frames,
            "without_answer": self.without_answer,
            "scores": scores,
        }


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def evaluate_depth(
    dataset: KittiDataset,
    predictions: Callable[[KittiFrame], np.ndarray],
    rules: DepthRules,
    advance: Callable[[], None] = lambda: None,
) -> DepthReport:
    """Compare predictions with the points of every frame, projected into the image.

    Args:
        dataset: frames with points and calibration.
        predictions: depth of a frame, `(H, W)` float32 in metres, as large as its image; 0 has no
            value. See `stored_depth` and `model_depth`.
        rules: which pixels count.
        advance: called after every frame.

    Raises:
        DataError: a prediction or a part of a frame is missing or malformed; the file is named.
    """
    totals = torch.zeros((), dtype=torch.float64)
    empty = 0
    for name in dataset.names:
        frame = dataset.frame(name)
        prediction = predictions(frame)
        target = _true_depth(frame, prediction.shape)
        height, width = target.shape
        inside = judged(
            torch.from_numpy(target),
            crop_mask((height, width), rules.crop),
            rules.cap,
            rules.min_depth,
        )
        # Of a frame, 4 % of the pixels have truth: the others can be left out here.
        answer, truth = torch.from_numpy(prediction)[inside], torch.from_numpy(target)[inside]
        empty += int((answer <= 0).sum())
        totals = totals + depth_totals(
            answer[None, None],
            truth[None, None],
            cap=rules.cap,
            min_depth=rules.min_depth,
            bands=rules.bands,
        )
        advance()
    scores = dict(zip(rules.ranges, finish(totals), strict=True))
    if not scores["all"].pixels:
        raise DataError(
            f"{dataset.root}: no point of {len(dataset)} frames falls into the judged part of the "
            "image: check calibration, crop and cap"
        )
    return DepthReport(rules, len(dataset), scores, empty / scores["all"].pixels)


def stored_depth(folder: Path, dataset: KittiDataset) -> Callable[[KittiFrame], np.ndarray]:
    """Depth from a folder with a file per frame, see `read_depth`.

    Raises:
        DataError: a frame has no file, or two; from the returned function too, if a file is
            malformed or has another size than the image.
    """
    files = _prediction_files(folder, dataset)

    def answer(frame: KittiFrame) -> np.ndarray:
        depth = read_depth(files[frame.name])
        if "image_2" in frame.files and depth.shape != frame.image_size():
            (height, width), (image_height, image_width) = depth.shape, frame.image_size()
            raise DataError(
                f"{files[frame.name]}: {width} x {height} pixels, but the image has "
                f"{image_width} x {image_height}"
            )
        return depth

    return answer


def model_depth(model: str, device: torch.device) -> Callable[[KittiFrame], np.ndarray]:
    """What the depth network of a model says; 0 where its window doesn't show the image.

    Args:
        model: a name in `config/models` or `weights`, or a YAML file.
        device: where to compute.

    Raises:
        Kd3dError: the model can't be loaded.
    """
    config = load_model_config(model)
    network, depth_config = make_depth(config.depth, config.seed)
    network.to(device)
    assert depth_config.window is not None, "make_depth says which window the model wants"
    window_config = depth_config.window

    @torch.inference_mode()
    def answer(frame: KittiFrame) -> np.ndarray:
        image, _ = windowed(frame, window_config)
        camera = frame.camera()
        depth = network(image[None].to(device) / 255).float()
        return window_config.window(camera).restored(depth, camera)[0].cpu().numpy()

    return answer


def read_depth(path: Path | str) -> np.ndarray:
    """Depth map `(H, W)` float32 in metres; 0 has no value.

    Args:
        path: 16-bit PNG with 256 units per metre (KITTI's depth format), or `.npy` with metres.

    Raises:
        DataError: names the file and what is wrong.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            depth = np.load(path, allow_pickle=False)
        else:
            with Image.open(path, formats=("PNG",)) as image:  # an EPS would start Ghostscript
                depth = np.array(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: depth cannot be read: {error}") from None
    if path.suffix != ".npy":
        if depth.dtype not in (np.uint16, np.int32) or depth.ndim != 2:
            raise DataError(
                f"{path}: {depth.dtype} pixels of shape {depth.shape}: a depth map is a grey "
                "16-bit PNG with 256 units per metre"
            )
        return depth.astype(np.float32) / _UNITS_PER_METRE
    if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
        raise DataError(
            f"{path}: {depth.dtype} array of shape {depth.shape}: a depth map is (height, width), "
            "floating, in metres"
        )
    broken = depth.size - np.count_nonzero(np.isfinite(depth))
    if broken:
        raise DataError(f"{path}: {broken} of {depth.size} depths are not finite")
    return depth.astype(np.float32)


def _prediction_files(folder: Path, dataset: KittiDataset) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder of depth maps")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _SUFFIXES and files.setdefault(path.stem, path) != path:
            raise DataError(f"{path}: there is {files[path.stem].name} too: keep one of them")
    missing = [name for name in dataset.names if name not in files]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(dataset)} frames have no depth map, the first is "
            f"{missing[0]} (.png or .npy); --ids says which frames to judge"
        )
    return files


def _true_depth(frame: KittiFrame, size: tuple[int, ...]) -> np.ndarray:
    height, width = size
    camera = frame.camera((height, width))
    return depth_map(frame.points(), camera.image_from_lidar, (height, width))
