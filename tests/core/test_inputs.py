"""What commands read and compute on: values that can be saved, and compared with those of a run."""

from pathlib import Path

import pytest

from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.inputs import Encoder, Inputs, TissueRegions


@pytest.fixture
def inputs():
    return Inputs(
        centres="points.csv", tissue=TissueRegions({"a": "a.geojson"}), corrections="known.csv", coverage=0.3,
        label_map={"Tumor": "tumour"}, encoder=Encoder("e.onnx"), features="features",
    )  # fmt: skip


def test_absolute_paths_hold_in_every_folder(inputs, monkeypatch, tmp_path):
    own = inputs.absolute()
    paths = [own.centres, own.corrections, own.features, own.encoder.path, own.tissue.source["a"]]
    assert all(isinstance(path, Path) and path.is_absolute() for path in paths)
    monkeypatch.chdir(tmp_path)
    assert own.absolute() == own
    assert inputs.absolute() != own
    assert Inputs().absolute() == Inputs()
    assert TissueRegions("tissue").absolute() == TissueRegions(tmp_path / "tissue")


def test_only_what_is_given_can_differ(inputs):
    assert Inputs().differences(inputs) == []
    assert inputs.differences(inputs.absolute()) == []
    every = ["centres", "corrections", "label_map", "coverage", "tissue"]
    assert inputs.differences(Inputs()) == [f"inputs.{name}" for name in every]
    assert Inputs(coverage=0.7).differences(inputs) == ["inputs.coverage"]


def test_files_may_have_moved(inputs):
    assert Inputs(encoder=Encoder("elsewhere/e.onnx"), features="elsewhere").differences(inputs) == []
    moved = Inputs(centres="elsewhere/c.csv", corrections="elsewhere/k.csv", tissue=TissueRegions("elsewhere"))
    assert moved.differences(inputs) == []


def test_a_file_that_can_hold_a_program_is_known_by_its_suffix():
    assert Encoder("e.pt").may_run_code
    assert not Encoder("e.onnx").may_run_code
    assert not Encoder().may_run_code


@pytest.mark.parametrize(
    ("name", "value", "kind"), [("encoder", "e.onnx", "Encoder"), ("tissue", "t.json", "TissueRegions")]
)
def test_a_path_in_place_of_a_value_is_refused_with_what_to_write(name, value, kind):
    with pytest.raises(SettingsError, match=rf"Write {name}={kind}\('{value}'\)"):
        Inputs(**{name: value})


def test_what_a_command_cannot_use_is_not_ignored(inputs):
    Inputs().check_only("Exporting")
    inputs.check_only("All", *(name for name in vars(inputs)))
    with pytest.raises(SettingsError, match=r"^Exporting has no use for label map\. Leave out label_map\.$"):
        Inputs(label_map={"a": "b"}).check_only("Exporting", "corrections")
