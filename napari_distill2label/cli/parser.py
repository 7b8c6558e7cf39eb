"""The parser: what `distill2label` understands. It loads nothing that only a command needs."""

import argparse
import re
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

from ..core.events import Event
from ..core.text import did_you_mean, shown

RESEARCH_USE = "For research use only: not a medical device, not for diagnosis."
Drain = Callable[[Generator[Event, None, Any]], Any]
Run = Callable[[argparse.Namespace, Drain], None]


class CommandParser(argparse.ArgumentParser):
    """A parser that never abbreviates options, and suggests the command or the option that was meant.

    `add_arguments` is called when the arguments are first needed: a list of commands needs those of none.
    """

    def __init__(
        self, *args: Any, add_arguments: "Callable[[CommandParser], None] | None" = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs | {"allow_abbrev": False})
        self.commands: dict[str, CommandParser] = {}
        self._add_arguments = add_arguments

    def complete(self) -> "CommandParser":
        """Add the arguments that were left for later. Return the parser."""
        add, self._add_arguments = self._add_arguments, None
        if add is not None:
            add(self)
        return self

    def format_help(self) -> str:
        self.complete()
        return super().format_help()

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        self.complete()
        return super().parse_known_args(*args, **kwargs)

    def add_subparsers(self, **kwargs: Any) -> Any:
        made = super().add_subparsers(**kwargs)
        self.commands = made.choices
        return made

    def parse_args(  # type: ignore[override]  # argparse has an overload for namespaces of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        args = sys.argv[1:] if args is None else list(args)
        command = next((word for word in args if not word.startswith("-")), None)
        if self.commands and command is not None and command not in self.commands:
            self.error(f"There is no command {shown(command)}.{did_you_mean(command, self.commands)}")
        options: argparse.Namespace
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.commands.get(command or "", self)
            option = unknown[0].partition("=")[0]
            known = re.findall(r"(?<![\w-])--[\w.-]*\w", parser.format_help())
            if option.startswith("-"):
                parser.error(f"There is no option {shown(option)}.{did_you_mean(option, known)}")
            parser.error(f"There is one argument too many: {shown(option)}.")
        return options


class ShowVersion(argparse.Action):
    """Print the version and end. The metadata of the installed package is read only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from .. import __version__

        print(__version__)
        parser.exit()
