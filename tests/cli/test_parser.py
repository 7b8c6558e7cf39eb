"""The parser adds a command's arguments when they are needed, once."""

import pytest

from napari_distill2label.cli.parser import CommandParser


@pytest.fixture
def parser():
    parser = CommandParser(prog="p")
    parser.add_subparsers(dest="command", required=True).add_parser("run", add_arguments=add)
    return parser


def add(parser):
    parser.add_argument("--speed", help="how fast")


def test_arguments_are_added_when_they_are_needed(parser):
    command = parser.commands["run"]
    assert len(command._actions) == 1  # --help
    assert parser.parse_args(["run", "--speed", "3"]).speed == "3"
    assert parser.parse_args(["run"]).speed is None
    assert len(command.complete()._actions) == 2


def test_help_names_them(parser, capsys):
    assert "how fast" in parser.commands["run"].format_help()
    assert "how fast" not in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["run", "--help"])
    assert "how fast" in capsys.readouterr().out


def test_the_option_that_was_meant_is_suggested(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["run", "--sped=3"])
    assert "Did you mean --speed?" in capsys.readouterr().err
