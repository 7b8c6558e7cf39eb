"""The frozen encoder in the window: what its JSON says is shown and used, and features follow the panel."""

import json
import shutil

import pytest
from napari.components import ViewerModel

from napari_distill2label.gui import get_session
from napari_distill2label.gui.panels.train.panel import TrainPanel
from napari_distill2label.store.maps.feature_map import FeatureMap

from ..conftest import LONG, click


@pytest.fixture
def panel(make_napari_viewer_proxy, qtbot, cohort_csv):
    made = TrainPanel(get_session(viewer := make_napari_viewer_proxy()))
    viewer.window.add_dock_widget(made, name="Train")
    made.session.read_cohort(cohort_csv)
    made.preset.textActivated.emit("wsi")
    yield made
    made.session.shutdown()
    made.disconnect_session()


def test_of_a_folder_without_an_encoder_it_says_whose_patches_count(panel, qtbot, described, feature_folder):
    panel.ask_folder = lambda *args: str(feature_folder)
    click(qtbot, panel.encoder_row.choose_folder)
    assert "in the folder" in panel.encoder_row.about.text()
    panel.session.encoder = described()
    qtbot.waitUntil(lambda: "1,536 features" in panel.encoder_row.about.text(), timeout=LONG)


def test_the_form_shows_the_encoder_s_own_patches(panel, qtbot, described):
    side, mpp = (panel.form.row_of(path) for path in ("patches.size_px", "patches.mpp"))
    panel.ask_file = lambda *args: str(described(patch_px=224, minimum_px=32, mpp=0.5))
    click(qtbot, panel.encoder_row.choose)
    qtbot.waitUntil(lambda: "1,536 features" in panel.encoder_row.about.text(), timeout=LONG)
    assert (side.editor.widget.value(), mpp.editor.widget.value()) == (224, 0.5)
    assert side.reset.isHidden()  # it is nothing that was changed
    assert panel.encoder_row.compute.isEnabled()
    panel.session.configure(patches={"size_px": 20})
    assert not panel.encoder_row.compute.isEnabled()
    assert panel.encoder_row.reason.text() == "Patches of 20 px are too small for this encoder: 32 or more."
    assert panel.reason.text() == panel.encoder_row.reason.text()
    panel.session.reset_settings("patches.size_px")
    assert side.editor.widget.value() == 224
    assert panel.encoder_row.compute.isEnabled()
    panel.preset.textActivated.emit("colon")
    assert side.editor.widget.value() == 27


def test_an_encoder_that_says_nothing_of_itself_is_told_before_work(panel, qtbot, described):
    path = described()
    path.with_suffix(".json").unlink()
    panel.session.encoder = path
    qtbot.waitUntil(lambda: "no such file" in panel.encoder_row.reason.text(), timeout=LONG)
    assert f"{path.stem}.json" in panel.reason.text()
    assert not panel.train.isEnabled()
    panel.session.encoder = None
    assert panel.encoder_row.reason.text() == "Choose the encoder's file first."


def test_another_encoder_than_the_sessions_says_its_own(described):
    viewer = ViewerModel()
    session = get_session(viewer)
    session.configure(preset="wsi")
    session.encoder = own = described(patch_px=224)
    assert session.choices.settings_with(own) == session.choices.settings_with(None) == session.settings
    assert session.settings.patches.size_px != session.choices.settings_with(described("another")).patches.size_px
    session.shutdown()


def test_a_model_brings_its_encoder_where_none_was_chosen(described):
    viewer = ViewerModel()
    session = get_session(viewer)
    session.choices.suggest_encoder(None)
    session.choices.suggest_encoder(described().with_name("moved.onnx"))
    assert session.encoder is None
    session.choices.suggest_encoder(own := described(features=7))
    assert (session.encoder, session.choices.encoder_about.features) == (own, 7)
    session.choices.suggest_encoder(other := described("another"))  # of another model
    assert session.encoder == other
    session.encoder = own  # the user's choice
    session.choices.suggest_encoder(other)
    assert session.encoder == own
    session.shutdown()


def test_features_are_of_the_panel_s_patches_and_masks(cohort_csv, data_dir, tmp_path):
    pytest.importorskip("onnxruntime", reason="features were NOT computed: onnxruntime is not installed")
    viewer = ViewerModel()
    session = get_session(viewer)
    session.read_cohort(cohort_csv)
    session.remove_slides([row.slide_id for row in session.cohort.slides[2:]])
    session.configure(preset="wsi", patches={"size_px": 40, "tissue": "none"})
    session.encoder = data_dir / "encoders" / "mobilenet_v2_imagenet.onnx"
    ring = [[0, 0], [80, 0], [80, 80], [0, 80], [0, 0]]
    (mask := tmp_path / "slide_001.geojson").write_text(
        json.dumps({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    )
    session.tissue.take({"slide_001": mask}, use=True)
    session.extract_features(out=tmp_path / "f")
    assert session.feature_folder == tmp_path / "f"
    session.read_cohort(cohort_csv)  # other slides: the features that were computed are not theirs
    assert session.feature_folder is None
    session.feature_folder = chosen = tmp_path / "chosen"
    session.read_cohort(cohort_csv)
    assert session.feature_folder == chosen
    whole, masked = (FeatureMap.open(tmp_path / "f" / f"slide_00{number}.zarr").patches for number in range(2))
    assert (whole.patch_px, int(whole.scored.sum())) == (40, 12)
    assert (masked.patch_px, int(masked.scored.sum())) == (40, 4)
    session.shutdown()


def test_features_that_are_computed_while_live_is_on_are_taken_up(cohort_csv, feature_folder, tmp_path):
    folder = shutil.copytree(feature_folder, tmp_path / "some features")
    late = shutil.move(folder / "slide_003.zarr", tmp_path / "later.zarr")
    viewer = ViewerModel()
    session = get_session(viewer)
    session.read_cohort(cohort_csv)
    session.feature_folder = folder
    session.live.enabled = True
    assert session.live.status.startswith("Up to date: trained on 7 labelled slides")
    assert session.live.status.endswith("slide_003 has no features yet: compute them with the button above.")

    def computed():
        shutil.move(late, folder / "slide_003.zarr")
        yield from ()

    session.jobs.start("features", "Computing features", computed)
    assert session.live.status.startswith("Up to date: trained on 8 labelled slides")
    assert "no features" not in session.live.status
    assert "live" in session.predictions["slide_003"]
    session.shutdown()
