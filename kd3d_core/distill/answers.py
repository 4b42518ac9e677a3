"""A teacher's answers to a frame as tensors to store, and as batches of them are read.

Of each map only the cells are stored that differ from those of an empty street, which are the same
in every frame and stored once. That few do relies on networks whose cells see their surroundings
alone, and on equal arithmetic for equal maps: the empty street is computed on the device that
computes the frames, one frame at a time as they are. Where arithmetic differs none the less
(another cuDNN or `torch.backends.cudnn.benchmark`), more cells are stored, and none is wrong. Of
the boxes and headings that the head says, only those of cells in which it is confident are kept:
nothing else is compared.
"""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from kd3d_core.data.batch import Batch
from kd3d_core.detectors.anchor_detector import AnchorDetector, BevFeatures
from kd3d_core.detectors.decode import BoxSlots, HeadMaps
from kd3d_core.distill.cells import filled_cells
from kd3d_core.distill.teacher import feature_shapes

Tensors = dict[str, torch.Tensor]
HEAD = ("logits", "deltas", "directions")
"""Names of the head's maps."""
BOXES = ("boxes", "scores", "labels")
"""Names of what the boxes are made of."""


def answers_of(detector: AnchorDetector, batch: Batch, threshold: float) -> dict[str, Tensors]:
    """What a detector says about the points of a frame, as `_storable`, and its boxes."""
    features = detector.forward_features(
        batch.points, batch.samples, batch.images, batch.image_from_lidar
    )
    maps = detector.head_maps(features.neck)
    answers = _storable(features, maps, threshold)
    slots = detector.boxes(maps)
    valid = slots.valid[0]
    answers["head"] |= {name: getattr(slots, name)[0][valid].t() for name in BOXES}
    return answers


@torch.inference_mode()
def answers_of_empty_street(detector: AnchorDetector, threshold: float) -> dict[str, Tensors]:
    """What a detector says where there are no points at all."""
    canvas = detector.empty_canvas()
    if canvas is None:
        (shape,) = feature_shapes(detector)["voxels"]
        canvas = next(detector.parameters()).new_zeros(shape)
    scales = detector.backbone(canvas)
    nothing = torch.zeros_like(canvas[:, :1], dtype=torch.bool)
    features = BevFeatures((canvas,), tuple(scales), tuple(detector.neck(scales)), filled=nothing)
    return _storable(features, detector.head_maps(features.neck), threshold)


def _storable(features: BevFeatures, maps: HeadMaps, threshold: float) -> dict[str, Tensors]:
    """By part and name, a frame's maps `(C, h, w)` in half precision.

    Features are bf16, which has the range of float32. What the head says is small, and float16
    is finer there.
    """
    logits = maps.logits[0].half()
    sure = (logits.float().sigmoid() > threshold).any(0)
    return {
        place: {
            f"{place}.{level}": map_[0].bfloat16()
            for level, map_ in enumerate(getattr(features, place))
        }
        for place in ("voxels", "backbone", "neck")
    } | {
        "head": {
            "logits": logits,
            "deltas": torch.where(sure, maps.deltas[0].half(), 0),
            "directions": torch.where(sure, maps.directions[0].half(), 0),
            "filled": filled_cells(features)[0].to(torch.uint8),
        }
    }


def packed(tensors: Tensors, empty: Tensors) -> Tensors:
    """Of each map the cells that differ from an empty street's: which, and `(C, K)` values."""
    packed: Tensors = {}
    for name, value in tensors.items():
        if name not in empty:
            packed[name] = value.cpu()
            continue
        map_ = value.cpu().flatten(1)
        cells = (map_ != empty[name].flatten(1)).any(0).nonzero()[:, 0]
        packed |= {f"{name}.cells": cells.int(), f"{name}.values": map_[:, cells]}
    return packed


def stacked(
    empty: torch.Tensor, cells: Sequence[torch.Tensor], values: Sequence[torch.Tensor]
) -> torch.Tensor:
    """`(B, C, h, w)` of a map, from what `packed` left of it in each frame."""
    stacked = empty.expand(len(cells), *empty.shape).clone()
    for map_, where, what in zip(stacked.flatten(2), cells, values, strict=True):
        map_.index_copy_(1, where.long(), what)
    return stacked


def box_slots(
    boxes: Sequence[torch.Tensor], scores: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> BoxSlots:
    """The boxes of each frame, as many slots as the frame with most of them has."""
    padded = pad_sequence([part.t() for part in boxes], batch_first=True)
    counts = torch.tensor([len(part) for part in scores], device=padded.device)
    return BoxSlots(
        padded,
        pad_sequence(list(scores), batch_first=True),
        pad_sequence(list(labels), batch_first=True),
        torch.arange(padded.shape[1], device=padded.device) < counts[:, None],
    )
