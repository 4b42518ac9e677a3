"""How every kd3d command starts: typed arguments from a function, one-line errors, exit codes."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jsonargparse import DefaultHelpFormatter, auto_cli

from kd3d_core.cli.parser import CommandParser
from kd3d_core.errors import Kd3dError
from kd3d_core.memory import keep_freed_memory


def run(
    command: Callable[..., Any] | dict[str, Any],
    *,
    prog: str,
    description: str,
    examples: Sequence[str],
    args: Sequence[str] | None = None,
    settings: Callable[[], str] | None = None,
) -> int:
    """Parse `args` (default: the process's) for `command`, call it, and return an exit status.

    Args:
        command: a function whose annotated parameters become options, or a dict of them
            (`{"get": get, "list": list_}`) for subcommands. An int that it returns is the status.
        prog: the command's name.
        description: what it does, in a sentence or two.
        examples: command lines shown at the end of `--help`.
        settings: what `--settings` prints, for commands that read a YAML file.

    Returns:
        0, the command's own int, 1 for a `Kd3dError` (printed as one line), or 130 on Ctrl-C.
    """
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_StderrHandler()])
    epilog = "examples:\n" + "\n".join(f"  {example}" for example in examples)
    if settings is not None:
        epilog += "\n\n--settings prints all that the YAML file may say: meaning, type, default"
        if "--settings" in (sys.argv[1:] if args is None else args):
            print(settings())
            return 0
    try:
        status = auto_cli(
            command,
            args=None if args is None else list(args),
            parser_class=CommandParser,
            formatter_class=_HelpFormatter,
            as_positional=True,
            fail_untyped=True,
            prog=prog,
            description=description,
            epilog=epilog,
        )
        sys.stdout.flush()
    except Kd3dError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads the output, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    return status if isinstance(status, int) else 0


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, so that nothing half done is left behind."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class _StderrHandler(logging.StreamHandler):
    """Logs to whatever `sys.stderr` is at the time: rich puts lines above its bars only there."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """What the base class remembers is of no use."""


class _HelpFormatter(DefaultHelpFormatter):
    """Help that keeps the line breaks of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())
