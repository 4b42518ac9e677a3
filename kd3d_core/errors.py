"""The one exception family of kd3d.

Every message is one line that says what is wrong, where, and what to do about it. Commands print
it as it is and exit with status 1; the ROS node logs it once per kind.
"""

from collections.abc import Callable, Iterable


class Kd3dError(Exception):
    """Base of every error that kd3d raises on purpose."""


def shown(text: object, limit: int = 80) -> str:
    """A text from outside (a frame, a topic, an encoding) as messages may show it: cut to a line.

    >>> shown("camera"), shown("a\\nb"), shown("a" * 1000, limit=8)
    ('camera', 'a?b', 'aaaaaaa…')
    """
    words = str(text)
    words = words if len(words) <= limit else f"{words[: limit - 1]}…"
    return words if words.isprintable() else "".join(c if c.isprintable() else "?" for c in words)


def listed(texts: Iterable[object], limit: int = 12) -> str:
    """Texts from outside in a line, the first ones if there are many; `none` if there are none.

    >>> listed(["a", "b"]), listed([]), listed("abcde", limit=2)
    ('a, b', 'none', 'a, b and 3 more')
    """
    words = list(texts)
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return (", ".join(map(shown, words[:limit])) or "none") + more


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, in a line; its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return shown(lines[0], 300) if lines else type(error).__name__


class Once:
    """Passes on what it is told for the first time, so that an oddity isn't said of every frame.

    >>> warn = Once(print)
    >>> warn("images have no stamp")
    images have no stamp
    >>> warn("images have no stamp")
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._known: set[str] = set()

    def __call__(self, text: str, kind: str = "") -> None:
        """Say `text`, unless one of its `kind` has been said; without a kind, the same text."""
        kind = kind or text
        if kind not in self._known:
            self._known.add(kind)
            self._say(text)


class CalibrationError(Kd3dError):
    """A camera's intrinsics or extrinsics are missing, not finite or inconsistent."""


class ImageError(Kd3dError):
    """An image cannot be used: wrong encoding, step, size or length."""


class ConfigError(Kd3dError):
    """A configuration file has an unknown key, a wrong type or an impossible value."""


class WeightsError(Kd3dError):
    """Weights are missing, damaged or do not fit the model."""


class DataError(Kd3dError):
    """A data set, label file or bag is missing or malformed."""
