"""The three tables of commands: what is listed, what runs, what is asked for."""

from napari_distill2label.cli import main as command_line
from napari_distill2label.cli.arguments import ARGUMENTS
from napari_distill2label.cli.commands import COMMANDS


def test_every_command_is_listed_runs_and_has_arguments():
    assert list(command_line.COMMANDS) == list(COMMANDS) == list(ARGUMENTS)


def test_each_runs_what_it_is_called():
    parsers = command_line.build_parser().commands
    for name, parser in parsers.items():
        assert parser.complete().get_default("run") is COMMANDS[name]
