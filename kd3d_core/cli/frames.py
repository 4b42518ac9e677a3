"""Which frames of a data set or bag: `--frames a:b`."""

from kd3d_core.errors import Kd3dError


def frame_slice(text: str) -> slice:
    """The slice that `a:b`, `a:` or `:b` stands for; `Kd3dError` for anything else."""
    try:
        start, stop = (int(part) if part else None for part in text.split(":"))
    except ValueError:
        raise Kd3dError(f"--frames {text}: write a:b, for example 0:10") from None
    return slice(start, stop)
