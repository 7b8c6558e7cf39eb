"""The manifest in a real napari: open, sample data, save, menus."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from napari.utils import DirectLabelColormap
from npe2 import PluginManager, PluginManifest
from PIL import Image

import napari_distill2label
from napari_distill2label.core.errors import BundleError, OutputError, SettingsError
from napari_distill2label.core.events import drain
from napari_distill2label.core.geometry import PatchGrid
from napari_distill2label.exporters.mask import Mask
from napari_distill2label.exporters.ome_tiff import write_mask
from napari_distill2label.gui import get_session
from napari_distill2label.gui.canvas import layers
from napari_distill2label.gui.canvas.ownership import KEY
from napari_distill2label.gui.plugin.preferences import Preferences, preferences, remember
from napari_distill2label.gui.plugin.reader import get_reader
from napari_distill2label.gui.plugin.writer import write_labels, write_several
from napari_distill2label.slides.registry import SUFFIXES

NAME = "napari-distill2label"
MANIFEST = Path(napari_distill2label.__file__).with_name("napari.yaml")


@pytest.fixture
def manifest():
    return PluginManifest.from_file(MANIFEST)


@pytest.fixture
def viewer(make_napari_viewer_proxy, manifest):
    made = make_napari_viewer_proxy()
    if NAME not in PluginManager.instance():
        PluginManager.instance().register(manifest)
    return made


def test_every_command_can_be_imported(manifest):
    manifest.validate_imports()


def test_the_reader_takes_what_the_registry_reads(manifest):
    patterns = {pattern for reader in manifest.contributions.readers for pattern in reader.filename_patterns}
    assert {f"*{suffix}" for suffix in SUFFIXES} <= patterns
    assert "*" not in patterns
    assert get_reader("a.docx") is None
    assert get_reader(["a.svs", "b.docx"]) is None
    assert get_reader(["a.SVS", "b.ome.tif"]) is not None


def test_widget_is_in_the_menus(manifest):
    assert set(manifest.contributions.menus) == {"napari/layers/annotate", "napari/layers/classify"}


def test_open_a_slide(viewer, cohort_csv):
    path = cohort_csv.parent / "slides" / "slide_001.ome.tif"
    (layer,) = viewer.open(path, plugin=NAME)
    assert layer.multiscale
    assert layer.scale.tolist() == [0.5, 0.5]
    assert layer.source.reader_plugin == NAME
    # The panel, opened afterwards, knows it.
    session = get_session(viewer)
    assert [row.slide_id for row in session.cohort] == ["slide_001"]
    assert session.shown == "slide_001"


def test_samples(viewer, monkeypatch, tmp_path):
    monkeypatch.setattr("napari_distill2label.gui.plugin.sample_data.samples_folder", lambda: tmp_path)
    monkeypatch.setattr("napari_distill2label.gui.plugin.sample_data.SHAPE", (128, 128))
    session = get_session(viewer)
    viewer.open_sample(NAME, "drawn_tumour")
    viewer.open_sample(NAME, "drawn_normal")
    assert {row.slide_id: row.label for row in session.cohort} == {"drawn_tumour": "tumour", "drawn_normal": "normal"}


def test_save_as_in_the_panels_export(viewer, run_folder, tmp_path):
    session = get_session(viewer)
    session.load_model(run_folder)
    session.show("slide_001")
    session.predict("slide_001")
    session.set_threshold(0.3)
    (labels,) = layers.find(viewer, layers.LABELS)
    for suffix in (".ome.tif", ".ome.zarr", ".geojson", ".csv", ".png"):
        path = tmp_path / f"saved by me{suffix}"
        assert labels.save(str(path), plugin=NAME) == [str(path)]
        assert path.stat().st_size > 0
    assert sorted(file.name for file in tmp_path.glob("[!.]*")) == sorted(
        f"saved by me{s}" for s in (".ome.tif", ".ome.zarr", ".geojson", ".csv", ".png")
    )
    mask = tifffile.imread(tmp_path / "saved by me.ome.tif")
    np.testing.assert_array_equal(zarr.open_group(tmp_path / "saved by me.ome.zarr", mode="r")["0"][:], mask)
    (opened,) = viewer.open(tmp_path / "saved by me.ome.zarr", plugin=NAME)
    np.testing.assert_array_equal(opened.data, mask)
    assert type(opened).__name__ == "Labels"
    assert list(opened.features["class"]) == ["not scored", "normal", "tumour"]
    viewer.layers.remove(opened)
    assert mask.shape == (135, 162)
    table = pd.read_csv(tmp_path / "saved by me.csv")
    assert len(table) == labels.data.size
    expected = np.array(["normal", "tumour"])[labels.data.ravel() - 1]
    assert table["label"].tolist() == expected.tolist()
    assert json.loads((tmp_path / "saved by me.geojson").read_text())


def test_saved_colours_are_those_of_the_layer(viewer, qtbot, run_folder, tmp_path):
    session = get_session(viewer)
    session.load_model(run_folder)
    session.predict("slide_001")
    session.show("slide_001")
    session.set_threshold(0.0)
    qtbot.waitUntil(lambda: bool(layers.find(viewer, layers.LABELS)), timeout=60_000)
    (labels,) = layers.find(viewer, layers.LABELS)
    shown = {None: "transparent", 0: "transparent", 1: (0.0, 0.0, 1.0, 0.5), 2: (0.2, 0.4, 0.6, 1.0)}
    labels.colormap = DirectLabelColormap(color_dict=shown)
    labels.save(str(tmp_path / "a.geojson"), plugin=NAME)
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert {tuple(each["properties"]["classification"]["color"]) for each in features} == {(51, 102, 153)}
    # The panel's Export takes the colours of the classes.
    session.set_colour("tumour", (1, 2, 3))
    session.export(tmp_path, ["geojson", "png"])
    features = json.loads((tmp_path / "slide_001.geojson").read_text())["features"]
    assert {tuple(each["properties"]["classification"]["color"]) for each in features} == {(1, 2, 3)}
    assert (1, 2, 3) in {
        colour for _, colour in Image.open(tmp_path / "slide_001.png").getcolors(1 << 24)
    }  # the legend


def test_corrections_are_saved_elsewhere(tmp_path):
    noted = {"name": "yours", "metadata": {layers.KEY: {"role": "corrections", "slide_id": "a"}}}
    with pytest.raises(BundleError, match="step Review"):
        write_labels(str(tmp_path / "a.csv"), np.zeros((3, 3)), noted)


def test_the_preferences_are_those_of_the_manifest(manifest):
    (section,) = manifest.contributions.configurations.values()
    assert set(manifest.contributions.configurations) == {"general"}
    declared = {name: prop.default for name, prop in section.properties.items()}
    assert declared == asdict(Preferences())
    for name, prop in section.properties.items():
        assert prop.title, name
        assert prop.description, name


def test_preferences_are_read_from_napari(plugin_settings, npe2pm, manifest):
    from napari.settings import get_plugin_settings

    remember(colour_negatives=True)
    assert preferences() == Preferences()  # the plugin is not known to napari: a script on a bare `ViewerModel`
    npe2pm.register(manifest)
    assert preferences() == Preferences()
    section = get_plugin_settings(NAME).general
    section.threshold, section.autosave = 0.7, False
    assert preferences() == Preferences(threshold=0.7, autosave=False)
    remember(colour_negatives=True)
    assert preferences() == Preferences(threshold=0.7, autosave=False, colour_negatives=True)
    with pytest.raises(ValueError, match="less than or equal to 1"):
        section.threshold = 7.0


STRANGERS = np.zeros((60, 80), np.int32)
STRANGERS[10:20, 30:50], STRANGERS[40:50, 5:15], STRANGERS[0, 0] = 1, 300, 1


def test_labels_of_others_are_written_as_the_mask_they_are(viewer, tmp_path):
    layer = viewer.add_labels(STRANGERS, name="cells", scale=(0.5, 0.25), translate=(7, 9), units=("um", "um"))
    for suffix in (".ome.tif", ".png", ".geojson", ".csv"):
        assert layer.save(str(tmp_path / f"cells{suffix}"), plugin=NAME) == [str(tmp_path / f"cells{suffix}")]
    with tifffile.TiffFile(tmp_path / "cells.ome.tif") as tiff:
        assert np.array_equal(tiff.asarray(), STRANGERS)
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.25, 0.5)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "cells.png")), STRANGERS)
    (again,) = viewer.open(str(tmp_path / "cells.ome.tif"), plugin=NAME)
    assert np.array_equal(again.data, STRANGERS)
    assert (again.scale.tolist(), again.translate.tolist()) == ([0.5, 0.25], [7, 9])
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    assert [each["properties"]["classification"]["name"] for each in features] == ["1", "1", "300"]
    x, y = np.array(features[1]["geometry"]["coordinates"][0]).T
    assert (x.min(), x.max(), y.min(), y.max()) == (30 + 36, 50 + 36, 10 + 14, 20 + 14)  # px, moved by 9 and 7 µm
    assert features[1]["properties"]["measurements"] == {"Area µm^2": 200 * 0.125}
    table = pd.read_csv(tmp_path / "cells.csv")
    assert table["area_px"].tolist() == [201, 100]
    assert table["area_um2"].tolist() == [201 / 8, 100 / 8]
    assert (table.loc[1, "x"], table.loc[1, "y"]) == (9.5, 44.5)


def test_several_layers_are_a_file_each(viewer, tmp_path):
    for name in ("cells", "a/b", "A_b"):
        viewer.add_labels(STRANGERS, name=name)
    written = viewer.layers.save(str(tmp_path / "mine.png"), plugin=NAME)
    assert written == sorted(map(str, tmp_path.glob("*.png")), key=written.index)
    assert len(set(written)) == 3
    assert str(tmp_path / "mine_cells.png") in written
    for path in written:
        assert np.array_equal(np.asarray(Image.open(path)), STRANGERS)
    corrections = (STRANGERS, {"name": "mine", "metadata": {KEY: {"role": "corrections"}}}, "labels")
    with pytest.raises(BundleError, match="step Review"):
        write_several(str(tmp_path / "more.png"), [(STRANGERS, {"name": "cells"}, "labels"), corrections])
    assert not list(tmp_path.glob("more*"))


def test_labels_of_others_that_no_mask_can_be(tmp_path):
    with pytest.raises(SettingsError, match="one plane of whole numbers"):
        write_labels(str(tmp_path / "a.ome.tif"), np.zeros((2, 3, 3), int), {"name": "volume", "metadata": {}})
    assert list(tmp_path.iterdir()) == []


def test_a_patch_map_opens_as_its_layers_and_is_saved_with_its_patches(viewer, run_folder, tmp_path):
    session = get_session(viewer)
    session.load_model(run_folder)
    session.show("slide_001")
    session.predict("slide_001")
    (patch_map,) = session.predictions["slide_001"].values()
    path, expected = patch_map.path, patch_map.to_labels()
    viewer.layers.clear()
    opened = viewer.open(str(path), plugin=NAME)
    labels = opened[-1]
    assert [layer.as_layer_data_tuple()[2] for layer in opened] == ["image", "image", "image", "labels"]
    assert np.array_equal(labels.data, expected)
    assert labels.save(str(tmp_path / "a.csv"), plugin=NAME) == [str(tmp_path / "a.csv")]
    assert len(pd.read_csv(tmp_path / "a.csv")) == expected.size


def test_our_own_mask_opens_as_labels_in_its_place_not_as_a_slide(viewer, tmp_path):
    labels = np.zeros((600, 700), np.uint8)
    labels[100:200, 300:400] = 2
    labels[0, 0] = 1
    grid = PatchGrid(slide_shape=(600, 700), side=1, stride=1, patch_px=1, rows=600, cols=700)
    names = {0: "not scored", 1: "normal", 2: "tumour"}
    path = drain(write_mask(tmp_path / "a.ome.tif", Mask(labels, grid), names, (0.25, 0.25)))
    (layer,) = viewer.open(str(path), plugin=NAME)
    assert layer.as_layer_data_tuple()[2] == "labels"
    assert np.array_equal(layer.data, labels)
    assert tuple(layer.scale) == (0.25, 0.25)
    assert layer.features["class"].tolist() == ["not scored", "normal", "tumour"]
    assert not np.array_equal(layer.get_color(1), layer.get_color(2))
    assert len(get_session(viewer).cohort) == 0


def test_saving_a_layer_loses_nothing_of_others(viewer, run_folder, tmp_path):
    session = get_session(viewer)
    session.load_model(run_folder)
    session.show("slide_001")
    session.predict("slide_001")
    (labels,) = layers.find(viewer, layers.LABELS)
    path = tmp_path / "a.geojson"
    path.write_text("mine")
    for _ in range(2):  # the second time it is ours
        assert labels.save(str(path), plugin=NAME) == [str(path)]
    assert sorted(file.name for file in tmp_path.glob("[!.]*")) == ["a.geojson", "a.geojson.bak"]
    assert (tmp_path / "a.geojson.bak").read_text() == "mine"
    slide = session.cohort["slide_001"].path
    before = slide.read_bytes()
    with pytest.raises(OutputError, match="read here"):
        labels.save(str(slide), plugin=NAME)
    assert slide.read_bytes() == before
