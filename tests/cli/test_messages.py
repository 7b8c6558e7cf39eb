"""Errors and notices in the words of the command line."""

import pytest

from napari_distill2label.cli.messages import command_line_messages, option_of
from napari_distill2label.core.messages import Remedy
from napari_distill2label.gui.messages import window_messages


@pytest.mark.parametrize(
    ("remedy", "command_line", "window"),
    [
        (Remedy("set", "patches.size_px", 32), "Use --patches.size_px 32.",
         "Set ‘Patch size (px)’ to ‘32 px’ in step 2."),
        (Remedy("set", "patches.tissue", "none"), "Use --patches.tissue none.",
         "Set ‘Tissue method’ to ‘keep all’ in step 2."),
        (Remedy("set", "cohort.mpp", None, Remedy("set", "inputs.mpp")),
         "Set the column mpp of cohort.csv. Or set it with --mpp.", "Set it with ‘µm/px…’ in step 1."),
        (Remedy("set", "inputs.label_map", {"a b": "c", "d": "e"}), "Use --map 'a b=c' --map d=e.",
         "Write ‘a b=c,d=e’ under ‘Labels mean’."),
        (Remedy("clear", "inputs.label_map", {"a": ""}), "Leave it out with --map a=.",
         "Leave it out with ‘a=’ under ‘Labels mean’."),
        (Remedy("set", "classes", ("a", "b")), "Use --classes a,b.", "Set it with ‘Classes and colours’ in step 1."),
        (Remedy("set", "teacher.epochs"), "Change --teacher.epochs.", "Change ‘Teacher epochs’ in step 2."),
        (Remedy("clear", "compute.workers"), "Leave out --workers.", ""),
        (Remedy("resume"), "Resume the run with --resume.", "Resume it with ‘Resume’ in step 2."),
    ],
)  # fmt: skip
def test_a_remedy_names_what_the_interface_has(remedy, command_line, window):
    assert command_line_messages.remedy(remedy) == command_line
    assert window_messages.remedy(remedy) == window


@pytest.mark.parametrize(
    ("field", "option"),
    [
        ("inputs.mpp", "--mpp"),
        ("compute.device", "--device"),
        ("patches.size_px", "--patches.size_px"),
        ("missing_truth", "--missing-truth"),
        ("inputs.label_map", "--map"),
    ],
)
def test_options_follow_a_rule(field, option):
    assert option_of(field) == option
