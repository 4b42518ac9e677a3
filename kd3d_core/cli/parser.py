"""Parser that gives typed functions the options which users of a shell expect."""

from typing import Any

from jsonargparse import ArgumentParser


class CommandParser(ArgumentParser):
    """jsonargparse's parser, with flags, lists and dashes as other commands have them.

    - a bool that is False by default is a flag: `--loop`, not `--loop true`;
    - a `list[str]` is a row of words: `--topics /a /b`, not `--topics '["/a", "/b"]'`; an option
      that is empty by default may be given several times, and means all of them;
    - an option is spelled with dashes: `--wait-for`, not `--wait_for`.
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
