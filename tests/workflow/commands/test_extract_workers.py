"""`extract-features` on several processes: the same features to the bit, whatever is killed on the way."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from napari_distill2label.core.errors import BundleError, SettingsError
from napari_distill2label.core.events import ItemDone, ItemFailed, Progress, drain
from napari_distill2label.core.inputs import Compute, Encoder, Inputs
from napari_distill2label.core.settings import PatchSettings
from napari_distill2label.inference import engine
from napari_distill2label.inference.encoder import FrozenEncoder
from napari_distill2label.inference.specs import EncoderSpec
from napari_distill2label.slides.synthetic import draw_slide, write_image
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.feature_map import FeatureMap
from napari_distill2label.workflow.commands.extract_features import extract_features

pytest.importorskip("onnxruntime", reason="frozen encoders were NOT tested: onnxruntime is not installed")
pytest.importorskip("distributed", reason="workers were NOT tested: distributed is not installed")

GRID = PatchSettings(size_px=32, tissue="none")


@pytest.fixture
def encoder(data_dir) -> Encoder:
    return Encoder(data_dir / "encoders" / "mobilenet_v2_imagenet.onnx")


@pytest.fixture
def cohort(slides, tmp_path) -> Cohort:
    """A slide of 289 patches, a file that is missing, and two slides of 12."""
    write_image(tmp_path / "large.ome.tif", draw_slide(5, True, (540, 540)).image)
    rows = [tmp_path / "large.ome.tif", tmp_path / "gone.png", *slides[:2]]
    with_files = Cohort.of_files([path for path in rows if path.exists()])
    gone = type(with_files.slides[0])("gone", tmp_path / "gone.png")
    return with_files.with_slides([with_files.slides[0], gone, *with_files.slides[1:]])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_PIXELS", 16 * 32**2)


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the maps in a folder -> its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.zarr/**/*") if path.is_file()
    }


def assert_same(folder: Path, other: Path, slide_ids: list[str]) -> None:
    for slide_id in slide_ids:
        one, two = (FeatureMap.open(each / f"{slide_id}.zarr") for each in (folder, other))
        assert one.is_complete
        assert one.readable.all()
        np.testing.assert_array_equal(one.instances(), two.instances())
        assert one.signature == two.signature


@pytest.mark.long
def test_four_workers_say_what_one_process_says_killed_and_resumed_too(cohort, encoder, tmp_path):
    inputs, ids = Inputs(encoder=encoder), ["large", "slide_000", "slide_001"]
    drain(extract_features(cohort, tmp_path / "one", GRID, inputs=inputs))
    work = extract_features(cohort, tmp_path / "four", GRID, inputs=inputs, compute=Compute(workers=4))
    killed, ended = False, []
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            written = stop.value
            break
        ended += [event] if isinstance(event, ItemDone | ItemFailed) else []
        if not killed and isinstance(event, Progress) and event.item == "large" and event.step >= 32:
            assert event.step < event.total / 2
            workers = [each for each in psutil.Process().children() if "spawn_main" in " ".join(each.cmdline())]
            assert len(workers) > 1  # a busy machine may still be starting the others
            os.kill(workers[0].pid, signal.SIGKILL)
            killed = True
    assert killed
    assert [event.item for event in ended if isinstance(event, ItemFailed)] == ["gone"]
    assert [path.name for path in written] == [f"{slide_id}.zarr" for slide_id in ids]
    assert_same(tmp_path / "one", tmp_path / "four", ids)

    # Stopped in the middle of the first slide, and resumed by two workers: what was finished is not computed again.
    work = extract_features(cohort, tmp_path / "again", GRID, inputs=inputs)
    next(event for event in work if isinstance(event, Progress) and event.item == "large" and event.step >= 100)
    work.close()
    begun = next(
        event
        for event in extract_features(cohort, tmp_path / "again", GRID, inputs=inputs, compute=Compute(workers=2))
        if isinstance(event, Progress) and event.item == "large" and event.step
    )
    assert begun.step >= 16
    drain(extract_features(cohort, tmp_path / "again", GRID, inputs=inputs, compute=Compute(workers=2)))
    assert_same(tmp_path / "one", tmp_path / "again", ids)
    assert len(before := content(tmp_path / "again")) > 9
    drain(extract_features(cohort, tmp_path / "again", GRID, inputs=inputs))
    assert content(tmp_path / "again") == before


def test_features_at_centres_from_the_command_line(encoder, slides, cli, tmp_path):
    (tmp_path / "centres.csv").write_text("slide_id,x,y\nS,20,30\nS,60,50\nS,64,90\n")
    (cohort := tmp_path / "one.csv").write_text(f"slide_id,path,label\nS,{slides[0]},normal\n")
    options = ["--patches.size_px", "32", "--centres", tmp_path / "centres.csv", "--workers", "1"]
    status, _, err = cli("extract-features", cohort, "--encoder", encoder.path, "-o", tmp_path / "f", *options)
    assert status == 0, err
    found = FeatureMap.open(tmp_path / "f" / "S.zarr")
    np.testing.assert_array_equal(found.patches.centres, [[30, 20], [50, 60], [90, 64]])


def test_what_cannot_be_had_is_said_before_anything_is_done(cohort, encoder, tmp_path, refused):
    rest = ["extract-features", tmp_path / "none.csv", "--encoder", encoder.path, "-o", tmp_path / "f"]
    (tmp_path / "none.csv").write_text(f"slide_id,path,label\nS,{cohort.slides[0].path},normal\n")
    assert "Only one of them can be used. Leave out --workers. Or leave out --scheduler." in refused(
        *rest, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"
    )
    with pytest.raises(SettingsError, match="float32"):
        drain(
            extract_features(cohort, tmp_path / "f", inputs=Inputs(encoder=encoder), compute=Compute(precision="auto"))
        )
    assert not (tmp_path / "f").exists()


def test_a_worker_does_not_compute_with_another_encoder(encoder):
    spec = EncoderSpec.of(encoder, FrozenEncoder(encoder.path), "cpu")
    assert spec.load().identity == spec.identity
    other = EncoderSpec(spec.encoder, spec.identity.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(BundleError, match="another encoder"):
        other.load()
