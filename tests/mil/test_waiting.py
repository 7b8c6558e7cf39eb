"""Threads of a program that trains sleep while they wait: in real processes, since OpenMP reads this once."""

import json
import os
import subprocess
import sys

import pytest

SAID = "import json, os, sys; print(json.dumps([{}, os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules]))"


def said(before: str, call: str, **environment: str) -> list:
    """[what `call` gives, the policy, whether torch is loaded], in a process of its own."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    code = f"{before}\n{SAID.format(call)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**own, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


IMPORT = "from napari_distill2label.mil.waiting import wait_passively"


def test_it_is_set_before_torch_is_there():
    assert said(IMPORT, "wait_passively()") == [True, "PASSIVE", False]


def test_what_the_user_has_set_stays():
    assert said(IMPORT, "wait_passively()", OMP_WAIT_POLICY="active") == [False, "active", False]


def test_it_is_not_claimed_when_it_is_too_late():
    assert said(f"import torch\n{IMPORT}", "wait_passively()") == [False, None, True]


@pytest.mark.parametrize("arguments", [["doctor"], ["--version"]])
def test_the_command_line_sets_it_before_torch_is_imported(arguments):
    start = "import contextlib, sys\nfrom napari_distill2label.cli.main import main\nassert 'torch' not in sys.modules"
    call = f"{start}\nwith contextlib.suppress(SystemExit):\n    main({arguments})"
    assert said(call, "1")[1] == "PASSIVE"
