"""Depth maps, from files or from a model, compared with the velodyne of a data set."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kd3d_core.data.frame_inputs import image_tensor
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.depth.metrics import Crop, DepthScores, crop_mask, depth_totals, finish, judged
from kd3d_core.errors import ConfigError, DataError, Kd3dError
from kd3d_core.files import files_in
from kd3d_core.geometry.points import depth_map
from kd3d_core.models.build import make_model, make_pseudo_lidar
from kd3d_core.models.chain import CmkdModel
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import CmkdModelConfig, PseudoLidarModelConfig, load_model_config

_UNITS_PER_METRE = 256
_SUFFIXES = (".png", ".npy")


@dataclass(frozen=True)
class DepthRules:
    """The pixels that are compared.

    Attributes:
        crop: part of the image, see `crop_mask`.
        cap: largest true depth, metres.
        min_depth: smallest true depth, metres.
        bands: rising borders of the depth bands, metres.
    """

    crop: Crop = "garg"
    cap: float = 80.0
    min_depth: float = 1e-3
    bands: tuple[float, ...] = (0, 10, 20, 40, 80)

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.cap < np.inf:
            raise Kd3dError(f"min depth {self.min_depth:g}, cap {self.cap:g}: need 0 < min < cap")
        if len(self.bands) == 1 or not all(near < far for near, far in pairwise(self.bands)):
            raise Kd3dError(
                f"bands {list(self.bands)}: give two or more rising distances in metres, or none"
            )

    @property
    def ranges(self) -> list[str]:
        """Keys of `DepthReport.scores`: `all`, then the bands, for example `10-20`."""
        return ["all"] + [f"{near:g}-{far:g}" for near, far in pairwise(self.bands)]


@dataclass(frozen=True)
class DepthReport:
    """Errors of the depth maps of a data set.

    Attributes:
        scores: errors by `DepthRules.ranges`.
        without_prediction: share of the compared pixels that had no predicted depth.
    """

    rules: DepthRules
    frames: int
    scores: dict[str, DepthScores]
    without_prediction: float

    @property
    def notes(self) -> list[str]:
        """Lines on what a reader of the numbers should know about the predictions."""
        if not self.without_prediction:
            return []
        return [
            f"{self.without_prediction:.2%} of the compared pixels have no predicted depth (0 or "
            f"less); they count as {self.rules.min_depth:g} m"
        ]

    def to_json(self) -> dict[str, Any]:
        """The rules, and for each range what `DepthScores` has; an undefined value is None."""
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
            "without_answer": self.without_prediction,
            "scores": scores,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DepthReport":
        """What `to_json` has made plain."""
        names = [each.name for each in fields(DepthRules)]
        rules = DepthRules(**{name: values[name] for name in names})
        scores = {
            name: DepthScores(
                score["pixels"],
                score["images"],
                _with_nan(score["per_image"]),
                _with_nan(score["per_pixel"]),
            )
            for name, score in values["scores"].items()
        }
        return cls(rules, values["frames"], scores, values["without_answer"])


def _with_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: np.nan if value is None else value for name, value in values.items()}


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def evaluate_depth(
    dataset: KittiDataset,
    predictions: Callable[[KittiFrame], np.ndarray],
    rules: DepthRules,
    advance: Callable[[], None] = lambda: None,
) -> DepthReport:
    """Compare predicted depth with the points of every frame, projected into the image.

    >>> from tempfile import TemporaryDirectory
    >>> calibration = "P2: 20 0 20 0 0 20 10 0 0 0 1 0\\nR0_rect: 1 0 0 0 1 0 0 0 1\\n"
    >>> calibration += "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\\n"
    >>> with TemporaryDirectory() as root:
    ...     for part in ("calib", "velodyne"):
    ...         Path(root, part).mkdir()
    ...     _ = Path(root, "calib", "000000.txt").write_text(calibration)
    ...     points = np.array([[10, 0, 0, 0.5], [20, 0, -5, 0.5]], np.float32)
    ...     _ = Path(root, "velodyne", "000000.bin").write_bytes(points.tobytes())
    ...     predicted = np.full((20, 40), 11.0, np.float32)
    ...     report = evaluate_depth(KittiDataset(root), lambda frame: predicted, DepthRules("none"))
    >>> report.scores["all"].pixels, round(report.scores["10-20"].per_pixel["abs_rel"], 2)
    (2, 0.1)

    Args:
        predictions: depth of a frame, `(H, W)` float32 in metres, as large as its image; 0 means
            no prediction. See `stored_depth` and `model_depth`.
        rules: the pixels to compare.

    Raises:
        DataError: a prediction or a part of a frame is missing or malformed, with its file, or no
            point falls into the compared part of any image.
    """
    totals = torch.zeros((), dtype=torch.float64)
    empty = 0
    for frame in dataset:
        prediction = predictions(frame)
        camera = frame.camera(prediction.shape)
        target = depth_map(frame.points(), camera.image_from_lidar, prediction.shape)
        part = crop_mask(prediction.shape, rules.crop)
        inside = judged(torch.from_numpy(target), part, rules.cap, rules.min_depth)
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
            f"{dataset.root}: no point of {len(dataset)} frames falls into the compared part of "
            "the image: check calibration, crop and cap"
        )
    return DepthReport(rules, len(dataset), scores, empty / scores["all"].pixels)


def stored_depth(folder: Path, dataset: KittiDataset) -> Callable[[KittiFrame], np.ndarray]:
    """A function that reads a frame's depth map from a folder with a file per frame.

    See `read_depth` for the files; their names without ending are those of the frames.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     for part in ("velodyne", "depth"):
    ...         Path(root, part).mkdir()
    ...     _ = Path(root, "velodyne", "000000.bin").write_bytes(b"")
    ...     np.save(Path(root, "depth", "000000.npy"), np.full((1, 3), 7.5))
    ...     dataset = KittiDataset(root)
    ...     stored_depth(Path(root, "depth"), dataset)(dataset[0]).tolist()
    [[7.5, 7.5, 7.5]]

    Raises:
        DataError: a frame has no file, or two. The returned function raises it as well, if a file
            is malformed or has another size than the image.
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
    """What the depth network of a model (name or YAML file) says, computed on `device`.

    It is 0 where the network's window doesn't show the image.
    """
    config = load_model_config(model)
    chain: PseudoLidar | CmkdModel
    if isinstance(config, PseudoLidarModelConfig):
        chain = make_pseudo_lidar(config, device)
    else:
        made = make_model(config, device) if isinstance(config, CmkdModelConfig) else None
        if not isinstance(made, CmkdModel):
            raise ConfigError(f"the model {model} is of type {config.type} and says no depth")
        chain = made

    @torch.inference_mode()
    def answer(frame: KittiFrame) -> np.ndarray:
        image = frame.image()
        camera = frame.camera(image.shape[:2])
        depth, _, window = chain.depth(image_tensor(image).to(device), camera)
        return window.restored(depth[None], camera)[0].cpu().numpy()

    return answer


def read_depth(path: Path | str) -> np.ndarray:
    """Depth map `(H, W)` float32 in metres; 0 means no value.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.fromarray(np.array([[0, 2560]], np.uint16)).save(f"{folder}/000000.png")
    ...     read_depth(f"{folder}/000000.png").tolist()
    [[0.0, 10.0]]

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
    for path in files_in(folder, _SUFFIXES):
        if files.setdefault(path.stem, path) != path:
            raise DataError(f"{path}: there is {files[path.stem].name} too: keep one of them")
    missing = [name for name in dataset.names if name not in files]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(dataset)} frames have no depth map, the first is "
            f"{missing[0]} (.png or .npy); --ids selects the frames to compare"
        )
    return files
