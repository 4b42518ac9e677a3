"""A teacher's answers on disk, so that training doesn't run it again and again.

A file's name is a digest of everything that the answers depend on: the teacher's weights and
settings, its points, the image, the calibration, and of the code `CACHE_FORMAT`. Whatever changes,
another file is read or made; none is ever stale. Features, answers of the head and so on lie in
files of their own: runs that compare at other places share what they have in common.

CPU and GPU have files of their own. How maps are stored, `distill/answers.py` says.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from kd3d_core.config import settings_digest
from kd3d_core.data.batch import Batch, collate
from kd3d_core.data.frame_inputs import PointSource
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.pseudo_cache import weights_digest
from kd3d_core.data.samples import FrameSamples
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.decode import HeadMaps
from kd3d_core.distill.answers import (
    BOXES,
    HEAD,
    Tensors,
    answers_of,
    answers_of_empty_street,
    box_slots,
    packed,
    stacked,
)
from kd3d_core.distill.config import DistillConfig, Needs
from kd3d_core.distill.teacher import TeacherOutputs
from kd3d_core.errors import DataError
from kd3d_core.files import write_whole
from kd3d_core.paths import CACHE_FORMAT

_MARGIN = 0.9
"""Of the threshold of confidence, so that rounding takes no anchor that counts."""


class TeacherCache:
    """Answers of one teacher; an `AnswerSource` once filled."""

    def __init__(
        self,
        folder: Path,
        detector: AnchorDetector,
        config: DetectorConfig,
        points: PointSource,
        settings: DistillConfig,
        device: torch.device,
    ) -> None:
        """
        Args:
            folder: where the answers of all teachers lie.
            detector: the teacher, with its weights; not kept.
            config: what it was built from.
            points: what it reads; a frame of which there are none has no answers.
            settings: say what is compared.
            device: where `fill` computes.
        """
        settings_of_it = replace(config, weights="")
        digest = settings_digest(
            [CACHE_FORMAT, settings_of_it, weights_digest(detector), device.type]
        )
        self._device = device
        self._folder = folder / digest[:16]
        self._window = config.window
        self._points = points
        self._needs = settings.needs
        self._threshold = _MARGIN * settings.answer_threshold
        self._head = f"head_{settings.answer_threshold:g}"
        self._parts = (*self._needs.places, self._head)

    def __call__(self, frame: KittiFrame) -> Tensors | None:
        """A frame's answers as they are stored, if `fill` has seen it; None without points."""
        digest = self._digest(frame)
        if digest is None:
            return None
        return self._read(digest)

    def teacher(self) -> "CachedTeacher":
        """What a batch's answers are read by, once `fill` is done."""
        return CachedTeacher(self._read("empty"), self._needs)

    @torch.inference_mode()
    def fill(
        self,
        frames: KittiDataset,
        detector: AnchorDetector,
        processes: int = 1,
        on_frame: Callable[[], None] = lambda: None,
    ) -> int:
        """Make the answers that aren't there yet; the number of frames asked about.

        `detector`, that of `__init__`, is put into eval mode and moved to the device. So many
        `processes` fill the same disk at the same time, each with such a share. `DataError` if
        it has too little space.
        """
        self._fill_empty(detector.eval().to(self._device))
        empty = self._read("empty")
        samples = FrameSamples(frames, self._window, self._points)
        lacking = []
        for index, frame in enumerate(frames):
            digest = self._digest(frame)
            if digest is not None and self._lacking(digest):
                lacking.append((index, digest))
            else:
                on_frame()
        for index, digest in lacking:
            batch = collate([samples[index]]).to(self._device)
            answers = answers_of(detector, batch, self._threshold)
            stored = {part: packed(tensors, empty) for part, tensors in self._by_part(answers)}
            if index == lacking[0][0]:
                self._check_space(stored, [digest for _, digest in lacking], processes)
            for part, tensors in stored.items():
                self._write(digest, part, tensors)
            on_frame()
        return len(lacking)

    def _fill_empty(self, detector: AnchorDetector) -> None:
        if self._lacking("empty"):
            answers = answers_of_empty_street(detector, self._threshold)
            for part, tensors in self._by_part(answers):
                self._write("empty", part, {name: value.cpu() for name, value in tensors.items()})

    def _by_part(self, answers: Mapping[str, Tensors]) -> list[tuple[str, Tensors]]:
        """What of all answers is stored, and where."""
        return [(part, answers["head" if part == self._head else part]) for part in self._parts]

    def _check_space(
        self, stored: Mapping[str, Tensors], names: Sequence[str], processes: int
    ) -> None:
        """Refuse to begin what can't be ended, as far as one frame's files tell of the others'."""
        sizes = {part: sum(v.nbytes for v in tensors.values()) for part, tensors in stored.items()}
        needed = processes * sum(sizes[part] for name in names for part in self._lacking(name))
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DataError(
                f"{self._folder}: the teacher's answers to {processes * len(names)} frames need "
                f"about {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: set KD3D_CACHE to "
                "a larger disk, compare at fewer places, or set teacher.cache to false"
            )

    def _digest(self, frame: KittiFrame) -> str | None:
        points = self._points(frame)
        if not len(points):
            return None
        digest = hashlib.sha256(points.tobytes())
        for part in ("image_2", "calib"):
            digest.update(frame.path(part).read_bytes())
        return digest.hexdigest()[:32]

    def _path(self, name: str, part: str) -> Path:
        return self._folder / f"{name}.{part}.safetensors"

    def _lacking(self, name: str) -> list[str]:
        return [part for part in self._parts if not self._path(name, part).is_file()]

    def _write(self, name: str, part: str, tensors: Tensors) -> None:
        path = self._path(name, part)
        if not path.is_file():
            write_whole(path, save({key: value.contiguous() for key, value in tensors.items()}))

    def _read(self, name: str) -> Tensors:
        tensors: Tensors = {}
        for part in self._parts:
            path = self._path(name, part)
            try:
                tensors |= load_file(path)
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"a teacher's answer can't be read from {path}: {error}; delete the file and "
                    "start again"
                ) from None
        return tensors


class CachedTeacher:
    """Stands for a teacher whose answers come with the batches; like it, no submodule."""

    def __init__(self, empty: Tensors, needs: Needs) -> None:
        """`empty` has `(C, h, w)` of each map, that of an empty street; `needs` is what is read."""
        self._needs = needs
        self._empty = {
            name: map_
            for name, map_ in empty.items()
            if (needs.answers or name not in HEAD) and (needs.filled or name != "filled")
        }

    def __deepcopy__(self, _: dict[int, Any]) -> "CachedTeacher":
        """Itself: what never changes needs no copy."""
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherOutputs:
        """The answers that a batch brought along, on its device."""
        assert batch.teacher_answers is not None
        device = batch.images.device
        parts = {name: joined.parts() for name, joined in batch.teacher_answers.items()}
        self._empty = {name: value.to(device) for name, value in self._empty.items()}
        maps = {
            name: stacked(base, parts[f"{name}.cells"], parts[f"{name}.values"])
            for name, base in self._empty.items()
        }
        features: dict[str, tuple[torch.Tensor, ...]] = {
            place: tuple(maps[name] for name in sorted(maps) if name.startswith(f"{place}."))
            for place in self._needs.places
        }
        return TeacherOutputs(
            features,
            HeadMaps(*(maps[name] for name in HEAD)) if self._needs.answers else None,
            maps["filled"].bool() if "filled" in maps else None,
            None if all(batch.labelled) else box_slots(*(parts[name] for name in BOXES)),
        )
