"""Parser that gives typed functions the options which users of a shell expect."""

import re
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from kd3d_core.errors import shown


class CommandParser(ArgumentParser):
    """jsonargparse's parser, with flags, lists, dashes and errors as other commands have them.

    - a bool that is False by default is a flag: `--loop`, not `--loop true`;
    - a `list[str]` is a row of words: `--topics /a /b`, not `--topics '["/a", "/b"]'`; an option
      that is empty by default may be given several times, and means all of them;
    - an option is spelled with dashes: `--wait-for`, not `--wait_for`;
    - the help of a subcommand ends with its own of the command's examples;
    - an error is one line, with exit status 2.
    """

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        is_option = bool(args) and args[0].startswith("--")
        kind = kwargs.get("type", getattr(kwargs.get("action"), "_typehint", None))
        if is_option and kind is bool and kwargs.get("default") is False:
            del kwargs["type"]
            kwargs["action"] = "store_true"
        elif kind == list[str]:
            kwargs.pop("action", None)
            kwargs |= {"type": str, "nargs": "*" if is_option else "+"}
            if is_option and not kwargs.get("default"):
                kwargs["action"] = "extend"
        if args[:1] == ("--config",):
            kwargs["help"] = "YAML file with options of this command line"
        if is_option and args[0] != "--print_config" and "." not in args[0]:
            args = tuple(name.replace("_", "-") for name in args)
        return super().add_argument(*args, **kwargs)

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        parent = getattr(self, "parent_parser", None)
        name = getattr(self, "subcommand", None)
        lines = (parent.epilog or "").splitlines() if parent else []
        own = [line for line in lines if line.split()[1:2] == [name]]
        examples = "\n".join(["\nexamples:", *own, ""]) if own else ""
        return super().format_help(*args, **kwargs) + examples

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        prog = parser.prog.replace(" [options]", "")
        text = _in_a_line(message, set(parser._option_string_actions))
        self.exit(2, f"{prog}: {shown(text, 400)}; see {prog} --help\n")


def _in_a_line(message: str, options: set[str]) -> str:
    """What jsonargparse says, without the words of its own workings."""

    def spelled(key: re.Match[str]) -> str:
        name = key[1].replace("_", "-")
        return f"--{name}: " if f"--{name}" in options else f"{name}: "

    text = re.sub(r'Parser key "([^"]+)": ', spelled, " ".join(message.split()))
    text = re.sub(r"Expected an? <class '(\w+)'>\. Got value:", r"expected \1, got", text)
    text = re.sub(r"Expected an? typing\.Literal\[(.*)\]\. Got value:", r"expected \1, got", text)
    return text.removesuffix(".")
