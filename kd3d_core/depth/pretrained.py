"""Loading networks from transformers folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd3d_core.errors import Kd3dError, WeightsError, listed, shown
from kd3d_core.weights.tensors import read_tensors


def load_network(kind: Any, folder: Path, config: Any) -> nn.Module:
    """A network in eval mode with the weights of a folder; every tensor must fit.

    Args:
        kind: transformers' class of the network.
        folder: with `model*.safetensors`, or `pytorch_model*.bin`.
        config: of transformers, for `kind`.

    Raises:
        WeightsError: there are no weights, or their tensors are damaged or not the network's.
    """
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise WeightsError(
            f"{folder} can't be loaded: it has neither model.safetensors nor pytorch_model.bin"
        )
    tensors = {name: value for file in files for name, value in read_tensors(file).items()}
    with errors_in_a_line(folder):
        network, loading = kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )  # fmt: skip
    problems = [f"{name} is missing" for name in sorted(loading["missing_keys"])]
    problems += [f"{name} is unknown" for name in sorted(loading["unexpected_keys"])]
    problems += [
        f"{name} is {tuple(found)}, not {tuple(wanted)}"
        for name, found, wanted in sorted(loading["mismatched_keys"])
    ]
    if problems:
        raise WeightsError(
            f"{folder}: weights and config.json aren't of one {config.model_type} network, "
            f"{len(problems)} tensors differ: {listed(problems, 5)}"
        )
    return network


def read_config(folder: Path) -> Any:
    """The transformers configuration in a folder.

    Raises:
        WeightsError: there is no such folder, or its config.json has wrong values.
    """
    from transformers import AutoConfig

    if not folder.is_dir():
        raise WeightsError(
            f"{folder} can't be loaded: it is no folder; give one of transformers, with "
            "config.json and model.safetensors"
        )
    with errors_in_a_line(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


@contextmanager
def errors_in_a_line(folder: Path) -> Iterator[None]:
    """Around transformers' calls: they print nothing, and whatever they raise is a line.

    Raises:
        WeightsError: in place of an error of transformers.
    """
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)  # it prints tables of keys
    logging.disable_progress_bar()
    try:
        yield
    except Kd3dError:
        raise
    except Exception as error:  # a wrong value in config.json ends in any kind
        text = " ".join(str(error).split())
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise WeightsError(f"{folder} can't be loaded: {kind}{shown(text, 300)}") from None
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
