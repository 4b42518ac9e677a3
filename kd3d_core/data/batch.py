"""Samples of frames as tensors, and batches of them, as networks and losses read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from kd3d_core.data.depth_view import DepthView


@dataclass(frozen=True)
class RaggedTensor:
    """Tensors of several frames, joined along the last dimension, of which each has a length.

    One tensor however many frames there are: each that a loader's process hands over keeps a file
    open.
    """

    values: torch.Tensor
    lengths: tuple[int, ...]

    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensor of each frame."""
        return self.values.split(self.lengths, -1)


@dataclass(frozen=True)
class Batch:
    """Frames stacked for a network.

    Attributes:
        names: names of the frames.
        images: `(B, 3, H, W)` float32 RGB, 0 to 255, cut to the model's window.
        image_from_lidar: `(B, 3, 4)` float32 projections into those images.
        points: `(N, 4)` float32 of all frames.
        samples: `(N,)` int64, the frame that each point belongs to.
        boxes: `(M_b, 7)` float32 of each frame.
        labels: `(M_b,)` int64 of each frame.
        depth: `(B, H, W)` float32 true depth in metres, 0 where unknown; None if not asked for.
        teacher_points: `(K, 4)` float32, a second cloud of the same frames; None if not asked for.
        teacher_samples: `(K,)` int64, the frame that each of them belongs to.
        teacher_answers: what a teacher said about the frames, by name; None if not asked for.
        has_teacher: mask over the frames: whether it has points or answers of the teacher.
        labelled: for each frame, whether its boxes are known; if not, it has none here.
        epoch: that the frames were drawn for.
        view: what a depth network that learns sees of the frames; None if none does.
        progress: share of the run's steps that were taken before.
    """

    names: tuple[str, ...]
    images: torch.Tensor
    image_from_lidar: torch.Tensor
    points: torch.Tensor
    samples: torch.Tensor
    boxes: tuple[torch.Tensor, ...]
    labels: tuple[torch.Tensor, ...]
    depth: torch.Tensor | None = None
    teacher_points: torch.Tensor | None = None
    teacher_samples: torch.Tensor | None = None
    teacher_answers: dict[str, RaggedTensor] | None = None
    has_teacher: tuple[bool, ...] = ()
    labelled: tuple[bool, ...] = ()
    epoch: int = 0
    view: DepthView | None = None
    progress: float = 0.0

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU can copy from by itself; `DataLoader` calls it."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        def changed(value):
            if isinstance(value, torch.Tensor):
                return change(value)
            if isinstance(value, tuple):
                return tuple(changed(item) for item in value)
            if isinstance(value, RaggedTensor):
                return RaggedTensor(change(value.values), value.lengths)
            if isinstance(value, DepthView):
                return value.changed(change)
            if isinstance(value, dict):
                return {name: changed(item) for name, item in value.items()}
            return value

        return Batch(**{field.name: changed(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class Sample:
    """One frame; see `Batch` for the fields."""

    name: str
    image: torch.Tensor
    image_from_lidar: torch.Tensor
    points: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    depth: torch.Tensor | None = None
    teacher_points: torch.Tensor | None = None
    teacher_answers: dict[str, torch.Tensor] | None = None
    labelled: bool = True
    epoch: int = 0
    view: DepthView | None = None

    @property
    def has_teacher(self) -> bool:
        """Whether there is anything of a teacher."""
        return bool(self.teacher_answers) or (
            self.teacher_points is not None and len(self.teacher_points) > 0
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples."""
    depths = [sample.depth for sample in samples if sample.depth is not None]
    clouds = [sample.teacher_points for sample in samples if sample.teacher_points is not None]
    answers = [sample.teacher_answers for sample in samples if sample.teacher_answers is not None]
    views = [sample.view for sample in samples if sample.view is not None]
    return Batch(
        names=tuple(sample.name for sample in samples),
        images=torch.stack([sample.image for sample in samples]),
        image_from_lidar=torch.stack([sample.image_from_lidar for sample in samples]),
        points=torch.cat([sample.points for sample in samples]),
        samples=_owners([sample.points for sample in samples]),
        boxes=tuple(sample.boxes for sample in samples),
        labels=tuple(sample.labels for sample in samples),
        depth=torch.stack(depths) if depths else None,
        teacher_points=torch.cat(clouds) if clouds else None,
        teacher_samples=_owners(clouds) if clouds else None,
        teacher_answers=_joined(answers) if answers else None,
        has_teacher=tuple(sample.has_teacher for sample in samples),
        labelled=tuple(sample.labelled for sample in samples),
        epoch=samples[0].epoch,
        view=DepthView.stacked(views) if views else None,
    )


def _joined(answers: Sequence[dict[str, torch.Tensor]]) -> dict[str, RaggedTensor]:
    """The tensors of all frames, by name; a frame that lacks one has none of its length."""
    examples = {name: tensor for answer in answers for name, tensor in answer.items()}
    joined = {}
    for name, example in examples.items():
        parts = [answer.get(name, example[..., :0]) for answer in answers]
        joined[name] = RaggedTensor(torch.cat(parts, -1), tuple(part.shape[-1] for part in parts))
    return joined


def _owners(clouds: Sequence[torch.Tensor]) -> torch.Tensor:
    """`(N,)` int64: which of the clouds each of all their points is of."""
    return torch.cat(
        [torch.full((len(cloud),), row, dtype=torch.int64) for row, cloud in enumerate(clouds)]
    )
