"""An ONNX part in whole numbers of 8 bits, by what flows through it in some images."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = ["Conv", "ConvTranspose", "Add", "Concat", "Resize", "MaxPool", "Relu", "Clip"]
"""What computes in them; products of attention and what makes depth from logits don't."""


def in_int8(model: bytes, inputs: Sequence[np.ndarray]) -> bytes:
    """The model, quantised after training: weights per channel, activations by their extremes.

    Args:
        model: the ONNX file.
        inputs: what the part is given in images like those that it will see.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        path, prepared, done = (Path(folder) / f"{name}.onnx" for name in ("in", "mid", "out"))
        path.write_bytes(model)
        # Shapes are known already; the symbolic inference would need another package.
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            done,
            _reader(prepared, inputs),
            quant_format=QuantFormat.QDQ,  # both engines read it
            op_types_to_quantize=_KINDS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return done.read_bytes()


def _reader(path: Path, inputs: Sequence[np.ndarray]) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    name = onnx.load(path).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._rows: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self._rows, None)
            return None if row is None else {name: row}

    return Reader()
