"""Loading networks from transformers folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError
from torch import nn

from kd3d_core.errors import WeightsError, first_line

_UNREADABLE = (SafetensorError, UnpicklingError, EOFError)
"""What damaged files of tensors raise."""


@contextmanager
def pretrained(source: Path | str, files: str) -> Iterator[None]:
    """Around transformers' `from_pretrained`: errors in a line, and no bar for what takes a moment.

    Args:
        source: a transformers folder, or a name on the hub.
        files: what such a folder holds, for the error's text.

    Raises:
        WeightsError: the source can't be loaded.
    """
    from transformers.utils import logging

    quiet = Path(source).is_dir() and logging.is_progress_bar_enabled()  # a download has its bar
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    except (*_UNREADABLE, OSError, ValueError, RuntimeError, ImportError) as error:
        raise WeightsError(
            f"depth weights {source} can't be loaded: {first_line(error)}; "
            f"give a transformers folder ({files})"
        ) from None
    finally:
        if quiet:
            logging.enable_progress_bar()


def whole_network(loaded: Any, source: Path | str, kind: str) -> nn.Module:
    """The network that `from_pretrained(..., output_loading_info=True)` gave.

    Args:
        loaded: the network, and what became of its tensors.
        source: where it is from, for the error's text.
        kind: the architecture, for the error's text.

    Raises:
        WeightsError: the file lacks some of the network's tensors.
    """
    network, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise WeightsError(
            f"{source} lacks {len(missing)} of the tensors of {kind}, {missing[0]} first: "
            "it is another architecture or a damaged file"
        )
    return network
