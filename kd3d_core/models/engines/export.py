"""From a model to a folder with the same model in an engine, if both find the same boxes."""

import hashlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kd3d_core.errors import ConfigError, DataError, first_line
from kd3d_core.files import write_all
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.models.build import make_model
from kd3d_core.models.chain import Model, PseudoLidarModel
from kd3d_core.models.config import ExportableConfig, ModelConfig
from kd3d_core.models.engines.config import EngineConfig, EngineName, check_can_export
from kd3d_core.models.engines.int8 import in_int8
from kd3d_core.models.engines.load import fingerprint
from kd3d_core.models.engines.parity import (
    MAX_CORNER_ERROR_M,
    MAX_SCORE_ERROR,
    Found,
    Parity,
    compare,
)
from kd3d_core.models.engines.parts import detector_parts, put_detector_parts
from kd3d_core.models.pack import pack_model

Frame = tuple[np.ndarray, PinholeCamera]
"""An image `(H, W, 3)` uint8 RGB, rectified, and its camera."""

_OPSET = 20  # both engines take it
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Int8:
    """Which parts are to compute in whole numbers of 8 bits.

    Attributes:
        frames: images by which their ranges are chosen.
        keep_fp32: parts that stay in single precision.
    """

    frames: Sequence[Frame]
    keep_fp32: Sequence[str] = ()


def export_model(
    config: ExportableConfig,
    engine: EngineName,
    frames: Sequence[Frame],
    out: Path,
    int8: Int8 | None = None,
) -> Parity:
    """Write `out`: the packed model with the parts of fixed shapes as ONNX files for an engine.

    Args:
        config: the model; its weights must be there.
        engine: inference engine that is to compute it.
        frames: images in which torch and the engine must find the same boxes.
        out: a folder that isn't there yet.
        int8: makes the parts smaller and faster, and boxes differ: by what is for the caller to
            judge then.

    Raises:
        ConfigError: a package is missing, `out` is there, the model has random weights or a part
            that can't be exported, torch finds no box, or the engine other ones; nothing is written
            then.
        DataError: `out` can't be written, or the disk is full.
    """
    check_can_export(engine, out, int8 is not None)
    with _folder_beside(out) as folder:
        model = make_model(replace(config, engine=None), _CPU, "fp32")
        recorders = _put_recorders(model)
        expected = [_boxes(model, frame) for frame in frames]
        parts = {name: _onnx(name, recorder) for name, recorder in recorders.items()}
        quantised = _quantise(model, recorders, parts, int8) if int8 else ()
        exported = _with_parts(model.config, engine, parts, quantised, folder / "parts")
        in_engine = make_model(exported, _CPU)
        found = [_boxes(in_engine, frame) for frame in frames]
        parity = compare(expected, found, config.detector.decoding.score_threshold)
        _check(parity, engine, bool(quantised))
        pack_model(exported, folder / "model", half=False)
        (folder / "model").rename(out)
    return parity


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """Of what isn't whole yet; errors of files there are `DataError`s."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise DataError(f"{out} can't be written: {error}") from None


def _check(parity: Parity, engine: EngineName, int8: bool) -> None:
    if not parity.total:
        raise ConfigError(
            "torch finds no box in these images, so that nothing can be compared: give others by "
            "--data"
        )
    if not parity.equal and not int8:
        raise ConfigError(
            f"{engine} and torch differ by more than {MAX_CORNER_ERROR_M} m or {MAX_SCORE_ERROR} "
            f"of a score: {parity}; nothing was written"
        )


def _quantise(
    model: Model, recorders: Mapping[str, "_Recorder"], parts: dict[str, bytes], int8: Int8
) -> tuple[str, ...]:
    """Replace parts by those in int8; their names."""
    names = tuple(name for name in parts if name not in int8.keep_fp32)
    for recorder in recorders.values():
        recorder.inputs.clear()
    for frame in int8.frames:
        _boxes(model, frame)
    for name in names:
        with _quiet():
            parts[name] = in_int8(parts[name], [x.numpy() for x in recorders[name].inputs])
    return names


def _with_parts(
    config: ModelConfig,
    engine: EngineName,
    parts: Mapping[str, bytes],
    int8: tuple[str, ...],
    folder: Path,
) -> ExportableConfig:
    """The model with these ONNX files, which are written to `folder`."""
    assert isinstance(config, ExportableConfig)
    write_all({folder / f"{name}.onnx": data for name, data in parts.items()})
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    made = EngineConfig(engine, str(folder), fingerprint(config), digests, int8)
    return replace(config, engine=made)


def _boxes(model: Model, frame: Frame) -> Found:
    image, camera = frame
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        slots = model(pixels, camera).boxes
    valid = slots.valid[0]
    boxes, scores, labels = (
        each[0, valid].numpy() for each in (slots.boxes, slots.scores, slots.labels)
    )
    return Found(boxes, scores, labels)


def _put_recorders(model: Model) -> dict[str, "_Recorder"]:
    parts = {name: _Recorder(part) for name, part in detector_parts(model.detector).items()}
    put_detector_parts(model.detector, parts)
    if isinstance(model, PseudoLidarModel):
        parts["depth"] = model.pseudo_lidar.network = _Recorder(model.pseudo_lidar.network)
    return parts


def _onnx(name: str, part: "_Recorder") -> bytes:
    """A part as an ONNX file for inputs of the shape that it was given."""
    import onnx

    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                part.module,
                (part.inputs[0].clone(),),
                dynamo=True,
                opset_version=_OPSET,
                verbose=False,
            )
        except Exception as error:  # the exporter's own family, and whatever a network raises
            raise ConfigError(
                f"the {name} part can't be exported to ONNX: {first_line(error)}"
            ) from None
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:  # where in which source file it stood, on this machine
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    return model.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that it could use, and of its own steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


class _Recorder(nn.Module):
    """A part that keeps what it was given."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        self.inputs.append(x.contiguous().clone())
        return self.module(x)
