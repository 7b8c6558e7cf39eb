"""The description of a network; what of a folder is refused is tried in `test_bundle.py`, on whole bundles."""

import subprocess
import sys

from napari_distill2label.store.bundle_config import is_bundle, versions


def test_reading_a_description_needs_no_torch():
    code = "import sys, napari_distill2label.store.bundle_config; print(*(name in sys.modules for name in ['torch']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_versions_are_those_of_what_decides_a_result():
    import torch

    assert set(versions()) == {"python", "napari-distill2label", "torch", "numpy"}
    assert versions()["torch"] == torch.__version__.partition("+")[0] or versions()["torch"] == torch.__version__


def test_a_folder_with_one_file_of_a_bundle_looks_like_one(tmp_path):
    assert not is_bundle(tmp_path)
    (tmp_path / "config.json").touch()
    assert is_bundle(tmp_path)
