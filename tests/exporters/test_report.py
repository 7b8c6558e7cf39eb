"""The report: one page, nothing outside of it, and nothing of a slide's name that a browser would run."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_distill2label.core.calibration import Calibration, FindingCalibration, Line
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.core.settings import ArchitectureSettings, PatchSettings, StudentSettings
from napari_distill2label.core.slide_info import SlideInfo
from napari_distill2label.exporters.report import write_report
from napari_distill2label.slides.registry import open_slide
from napari_distill2label.store.bundle_config import BundleConfig
from napari_distill2label.store.files.atomic import write_json
from napari_distill2label.store.files.seal import sealed

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Checks that elements are closed, and collects texts and pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.pictures = [], "", []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        assert not [name for name in attrs if name.startswith("on")]
        if tag == "img":
            self.pictures.append(attrs["src"])
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path):
    page = Page()
    page.feed(path.read_text("utf-8"))
    assert page.open == []
    return page


def write_config(folder, **about):
    """The description of a model, as its bundle has it."""
    config = BundleConfig(
        network="student", classes=("normal", "tumour"), architecture=ArchitectureSettings(encoder="colon"),
        patches=PatchSettings(size_px=10), training=StudentSettings(), instance_shape=(3, 10, 10), mean=(0.5,) * 3,
        std=(0.3,) * 3, **{"weights_sha256": "ab12"} | about,
    )  # fmt: skip
    write_json(folder / "config.json", sealed(config.model_dump(mode="json")))


@pytest.mark.parametrize("with_slide", [True, False])
@pytest.mark.parametrize("points", [True, False])
def test_the_page_holds_all_in_itself(new_map, tmp_path, with_slide, points):
    grid = PatchGrid.over((95, 123), PatchSettings(size_px=10))
    patches = PatchPoints.at([[20, 20], [2, 2], [94, 122]], (95, 123), PatchSettings(size_px=10)) if points else grid
    name = '"><img src=x onerror=alert(1)>'
    classes = ("normal", "tumour <script>alert(1)</script>")
    patch_map = new_map(patches, slide=SlideInfo(name, None, (0.5, 0.5)), classes=classes,
                        model={"network": "student", "weights_sha256": "ab12"})  # fmt: skip
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (95, 123, 3), np.uint8)).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png") if with_slide else None
    path = write_report(tmp_path / "a.html", patch_map, 0.5, slide=slide)
    page = read(path)
    assert all(source.startswith("data:image/") for source in page.pictures)
    n = min(6, int(patch_map.scored.sum()))
    assert len(page.pictures) == (2 + 3 * n if with_slide else 1)
    assert "http" not in re.sub(r"data:image/[^\"]*", "", path.read_text("utf-8"))
    for part in ("research use only", "For the methods section", "ICMLA 2019", "ab12", "0.700", "Provenance"):
        assert part in page.text, part
    assert "<script>" in page.text  # as text
    assert ("The slide was not here" in page.text) is not with_slide


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"n_train": 12, "n_corrections": 0}, "trained on the labels of 12 slides without labels of patches by"),
        (
            {"n_train": 12, "n_corrections": 5},
            "trained on the labels of 12 slides and 5 patches that a user labelled by",
        ),
        ({"n_train": 12, "weights_sha256": "of another model"}, "trained on slide labels by"),
        (None, "trained on slide labels by"),
    ],
)
def test_the_methods_claim_no_more_than_is_known(new_map, tmp_path, config, said):
    model = {"network": "student", "weights_sha256": "ab12", "path": str(tmp_path)}
    if config is not None:
        write_config(tmp_path, **config)
    patch_map = new_map(PatchGrid.over((30, 40), PatchSettings(size_px=10)), model=model)
    page = read(write_report(tmp_path / "a.html", patch_map, 0.5))
    assert said in page.text


@pytest.mark.parametrize("key", ["n_slides", "top", "reliability"])
def test_a_description_that_somebody_altered_is_not_shown(new_map, tmp_path, key):
    write_config(
        tmp_path,
        calibration=Calibration(
            findings=(FindingCalibration(prior=0.5, patch=Line(), slide=Line(), slide_range=(0, 1)),)
        ),
    )
    content = json.loads((tmp_path / "config.json").read_text())
    content["calibration"][key] = "<script>alert(1)</script>"
    (tmp_path / "config.json").write_text(json.dumps(content))
    model = {"network": "student", "weights_sha256": "ab12", "path": str(tmp_path)}
    patch_map = new_map(PatchGrid.over((30, 40), PatchSettings(size_px=10)), model=model)
    assert "its calibration is not known here" in read(write_report(tmp_path / "a.html", patch_map, 0.5)).text


def test_several_findings_have_a_map_each(new_map, tmp_path):
    grid = PatchGrid.over((30, 40), PatchSettings(size_px=10))
    patch_map = new_map(grid, np.full(grid.shape, 2), ("normal", "a", "b"), multi_label=True)
    page = read(write_report(tmp_path / "a.html", patch_map, 0.5))
    assert len(page.pictures) == 2
    assert "Labels: b" in page.text


# ---- in a browser ----------------------------------------------------------------------------------------------------

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def browse(page, *options):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="The report was NOT looked at: there is no Chromium here")
def test_a_browser_shows_and_prints_it(new_map, tmp_path):
    grid = PatchGrid.over((400, 300), PatchSettings(size_px=20))
    labels = np.where(np.arange(grid.shape[0])[:, None] < 10, 2, 1) * np.ones(grid.shape, int)
    patch_map = new_map(grid, labels, slide=SlideInfo("S-1 é", None, (0.5, 0.5)))
    tissue = np.full((400, 300, 3), (200, 120, 180), np.uint8)
    Image.fromarray(tissue).save(tmp_path / "a.png")
    red, green = (255, 0, 0), (0, 160, 0)
    with open_slide(tmp_path / "a.png") as slide:
        chosen = {patch_map.classes[0]: green, patch_map.classes[1]: red}
        page = write_report(tmp_path / "a.html", patch_map, 0.5, slide=slide, chosen=chosen)
    for width in (500, 1200):
        browse(page, f"--window-size={width},1500", f"--screenshot={tmp_path / 'a.png'}")
        shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
        assert shown.shape == (1500, width, 3)
        slides = (np.abs(shown - (200, 120, 180)) < 8).all(2)
        assert slides.sum() > 0.05 * slides.size  # the overview
        for colour in (red, green):  # in the numbers
            assert (shown == colour).all(2).sum() > 50
        tinted = (shown[..., 0] - shown[..., 2] > 60) & (shown[..., 1] < 110)
        assert tinted.sum() > 0.02 * tinted.size  # the labels of the finding
        assert (shown[:, -8:] == 255).all()  # nothing reaches over the page
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'a.pdf'}")
    printed = (tmp_path / "a.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 4
