"""A report on one slide: an HTML page with its pictures inside, for a screen and for paper.

Overview, map, the patches that say most, numbers, model and settings, calibration, and a paragraph for the methods
section of a paper.
"""

import base64
import html
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..core.classes import RGB, colours_of
from ..core.errors import BundleError
from ..core.geometry import PatchGrid
from ..core.text import count_of, printable
from ..store.bundle_config import BundleConfig, read_config
from ..store.files.atomic import Writing, atomic_path, write_text
from ..store.maps.patch_map import PatchMap
from .png import draw_picture, overview
from .provenance import RESEARCH_USE, provenance
from .slide_summary import SlideSummary, summarise

SHOWN_PATCHES = 6  # of each kind
PATCH_PX = 150  # px, side of the picture of a patch in the page
LEAST_SHOWN = 96  # px of the slide in such a picture
OVERVIEW_PX = 900
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#26303a;max-width:60rem;margin:2rem auto;padding:0 1.5rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid #d6dade}
.notice{background:#fff4e0;border-left:4px solid #c8860a;padding:.5rem .8rem;margin:1rem 0}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #e4e7ea}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.wide{width:45%}
img{max-width:100%;display:block}.slide{max-height:30rem}.labels{max-height:52rem}
.tall{display:grid;grid-template-columns:1fr 1fr;gap:0 1.5rem}.tall .slide,.tall .labels{max-height:none}
.patches img{width:100%}
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:.15em;margin-right:.4em;print-color-adjust:exact}
.patches{display:grid;grid-template-columns:repeat(6,1fr);gap:.8rem}figure{margin:0}figcaption{font-size:.8rem;color:#5c6670}
.bar{display:block;height:.7em;background:#5a8fc0;print-color-adjust:exact}
code{font-size:.85em;overflow-wrap:anywhere}
@media print{body{margin:0;padding:0;max-width:none;font-size:10pt}h2,h3{break-after:avoid}
figure,table,img,.patches,p{break-inside:avoid}.slide{max-height:6.5cm}.labels{max-height:10.5cm}
.tall .slide,.tall .labels{max-height:14cm}
.notice{print-color-adjust:exact}}
"""


def write_report(
    path: str | Path,
    patch_map: PatchMap,
    threshold: float,
    corrections: np.ndarray | None = None,
    slide: Any = None,
    chosen: Mapping[str, RGB] | None = None,
    writing: Writing = atomic_path,
) -> Path:
    """Write the report of a finished map. Without the slide it has no pictures of tissue, and says so."""
    summary = summarise(patch_map, threshold, corrections)
    config = _config_of(patch_map)
    parts = [
        _head(patch_map),
        _pictures(patch_map, threshold, corrections, slide, chosen),
        _numbers(patch_map, summary, chosen),
        _patches(patch_map, threshold, slide),
        _model(patch_map, summary, config),
        _calibration(config),
        _methods(patch_map, summary, config),
        _provenance(patch_map, threshold, summary),
    ]
    title = _text(f"{patch_map.slide_id}: patch labels")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        f"{''.join(parts)}</body></html>\n"
    )
    return write_text(path, page, writing)


def _text(value: object) -> str:
    return html.escape(printable(str(value)))


def _image(picture: Image.Image, alt: str, kind: str = "PNG", style: str = "") -> str:
    data = io.BytesIO()
    picture.save(data, format=kind, **({"quality": 90} if kind == "JPEG" else {}))
    code = base64.b64encode(data.getvalue()).decode("ascii")
    named = f' class="{style}"' if style else ""
    return f'<img{named} src="data:image/{kind.lower()};base64,{code}" alt="{html.escape(alt)}">'


def _rows(rows: Mapping[str, object]) -> str:
    lines = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{lines}</table>\n"


def _head(patch_map: PatchMap) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<h1>{_text(patch_map.slide_id)}</h1><p>Patch labels by napari-distill2label, {date}</p>\n"
        f'<p class="notice"><strong>{_text(RESEARCH_USE)}</strong></p>\n'
    )


def _pictures(
    patch_map: PatchMap,
    threshold: float,
    corrections: np.ndarray | None,
    slide: Any,
    chosen: Mapping[str, RGB] | None,
) -> str:
    parts, (height, width) = [], patch_map.patches.slide_shape
    if slide is None:
        parts.append("<p>The slide was not here when the report was written: labels lie on white.</p>")
    else:
        scale = OVERVIEW_PX / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        parts.append(f"<div><h2>Slide</h2>{_image(overview(slide, size), 'the slide', 'JPEG', 'slide')}</div>")
    for name, labels in patch_map.label_layers(threshold, corrections).items():
        names = dict(enumerate(("not scored", *patch_map.classes)))
        if patch_map.multi_label:
            index = patch_map.classes.index(name) + 1
            names = {0: "not scored", 1: f"no {name}", index: name}
        picture = draw_picture(
            labels, patch_map.patches, names, slide, patch_map.slide_id, threshold, patch_map.slide.mpp, chosen
        )
        picture.thumbnail((1600, 1600))
        heading = "Labels" if not patch_map.multi_label else f"Labels: {_text(name)}"
        parts.append(f"<div><h2>{heading}</h2>{_image(picture, 'labels over the slide', style='labels')}</div>")
    side_by_side = "tall" if slide is not None and height >= width else ""
    return f'<div class="{side_by_side}">\n' + "\n".join(parts) + "\n</div>\n"


def _numbers(patch_map: PatchMap, summary: SlideSummary, chosen: Mapping[str, RGB] | None) -> str:
    rows = []
    for own, colour in zip(summary.classes, colours_of(patch_map.classes, chosen), strict=True):
        swatch = f'<span class="swatch" style="background:rgb{colour}"></span>'
        cells = (
            _number(own.slide_probability, ".3f"), f"{own.n_patches:,}", _number(own.area_mm2, ".3g"),
            _number(own.share, ".1%"),
        )  # fmt: skip
        columns = "".join(f'<td class="n">{cell}</td>' for cell in cells)
        rows.append(f"<tr><td>{swatch}{_text(own.name)}</td>{columns}</tr>")
    heads = "".join(f'<th class="n">{name}</th>' for name in ("slide’s probability", "patches", "mm²", "share"))
    more = [f"{summary.n_scored:,} patches scored"]
    more += [f"{summary.n_corrected:,} corrected by a person"] if summary.n_corrected else []
    more += [f"{summary.n_unreadable:,} could not be read"] if summary.n_unreadable else []
    if summary.unlikeness is not None and summary.unlikeness > 1:
        more += ["the slide is unlike the slides that the model was trained on"]
    return (
        f"<h2>Numbers</h2><table><tr><th>class</th>{heads}</tr>{''.join(rows)}</table>"
        f"<p>{', '.join(more)}. Labels from a probability of {summary.threshold:.3g} on. The share is of the scored "
        "area.</p>\n"
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _patches(patch_map: PatchMap, threshold: float, slide: Any) -> str:
    """Show the patches of the highest probability, of the most attention, and those nearest to the threshold."""
    if slide is None:
        return ""
    scored = patch_map.scored
    finding = patch_map.probability[scored][:, 1:].max(1)
    attention = patch_map.attention[scored]
    patches = patch_map.patches
    cells = np.argwhere(scored)
    corners = patches.corners_of(cells) if isinstance(patches, PatchGrid) else patches.corners[cells[:, 0]]
    kinds = {
        "Highest probability of a finding": np.argsort(-finding, kind="stable"),
        "Most attention": np.argsort(-attention, kind="stable"),
        "Nearest to the threshold": np.argsort(np.abs(finding - threshold), kind="stable"),
    }
    margin = _margin(patches.side)
    framed = "<p>The frame is the patch, in what lies around it.</p>" if margin else ""
    parts = [f"<h2>Patches that say most</h2>{framed}"]
    for title, order in kinds.items():
        figures = []
        for index in order[:SHOWN_PATCHES].tolist():
            y, x = corners[index].tolist()
            picture = _image(_cut(slide, y, x, patches.side, margin), f"patch at x {x}, y {y}", "JPEG")
            caption = f"p {finding[index]:.3f}<br>attention {attention[index]:.2g}<br>x {x}, y {y}"
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        parts.append(f'<h3>{title}</h3><div class="patches">{"".join(figures)}</div>')
    return "\n".join(parts) + "\n"


def _margin(side: int) -> int:
    """Return how much is shown around a patch, in px: of a small one too little is seen to know what it is."""
    return max(0, min(LEAST_SHOWN, 3 * side) - side) // 2


def _cut(slide: Any, y: int, x: int, side: int, margin: int) -> Image.Image:
    """Return a patch, with a frame in what lies around it, as a picture of `PATCH_PX`; beyond the border is white."""
    y, x, side = y - margin, x - margin, side + 2 * margin
    top, left = max(0, y), max(0, x)
    bottom, right = min(slide.shape[0], y + side), min(slide.shape[1], x + side)
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[top - y : bottom - y, left - x : right - x] = slide.read(0, top, left, bottom - top, right - left)
    picture = Image.fromarray(pixels).resize((PATCH_PX, PATCH_PX), Image.Resampling.LANCZOS)
    if margin:
        edge = round(margin * PATCH_PX / side)
        for grown, colour in ((1, "black"), (0, "white")):  # seen on dark and on light tissue
            ends = edge - grown, PATCH_PX - 1 - edge + grown
            ImageDraw.Draw(picture).rectangle((ends[0], ends[0], ends[1], ends[1]), outline=colour)
    return picture


def _config_of(patch_map: PatchMap) -> BundleConfig | None:
    """Return the description of the model, if its bundle is where it was, unaltered and the same; else None."""
    try:
        config, is_whole = read_config(Path(str(patch_map.model["path"])) / "config.json")
    except (KeyError, BundleError):
        return None
    return config if is_whole and config.weights_sha256 == patch_map.model.get("weights_sha256") else None


def _model(patch_map: PatchMap, summary: SlideSummary, config: BundleConfig | None) -> str:
    patches = patch_map.patches
    scale = "µm/px unknown" if patch_map.slide.mpp is None else f"{np.mean(patch_map.slide.mpp):.4g} µm/px"
    given = " (given by a user)" if patch_map.slide.mpp_from_user else ""
    at = f" at {patches.mpp:g} µm/px" if patches.mpp else ""
    rows: dict[str, object] = {
        "Network": summary.network,
        "Weights (SHA-256)": summary.weights_sha256,
        "Slide": f"{patches.slide_shape[1]} × {patches.slide_shape[0]} px, {scale}{given}",
        "Patch": f"{patches.patch_px} px{at}; {patches.side} px of the slide",
    }
    if isinstance(patches, PatchGrid):
        rows["Stride"] = f"{patches.stride} px of the slide"
    if config is not None:
        rows |= {
            "Kind of images, method": f"{config.preset}, {config.method}",
            "Trained on": f"{count_of(config.n_train, config.bag)}, {config.n_valid} for validation",
            "Patches corrected by a user in training": config.n_corrections,
            "Data signature": config.data_signature,
            "Seed": config.seed,
            "Versions": ", ".join(f"{name} {number}" for name, number in config.versions.items()),
        }
    return f"<h2>Model and settings</h2>{_rows(rows)}"


def _calibration(config: BundleConfig | None) -> str:
    if config is None:
        return "<h2>Calibration</h2><p>The model is no longer where it was: its calibration is not known here.</p>\n"
    if config.calibration is None:
        return "<h2>Calibration</h2><p>This model has no calibration: its probabilities are scores.</p>\n"
    found = config.calibration.reliability
    rows = "".join(
        f'<tr><td class="n">{predicted:.2f}</td><td class="n">{observed:.2f}</td><td class="wide">'
        f'<span class="bar" style="width:{100 * observed:.0f}%"></span></td><td class="n">{count}</td></tr>'
        for predicted, observed, count in zip(found.predicted, found.observed, found.count, strict=True)
    )
    table = (
        '<table><tr><th class="n">predicted</th><th class="n">observed</th><th></th><th class="n">slides</th></tr>'
        f"{rows}</table>"
    )
    return (
        f"<h2>Calibration</h2><p>The probability of the slide, on the {config.calibration.n_slides} training slides, "
        f"each scored by a classifier that had not seen it:</p>{table}<p>On slides of another kind it can be off.</p>\n"
    )


def _methods(patch_map: PatchMap, summary: SlideSummary, config: BundleConfig | None) -> str:
    """Return a paragraph for the methods section of a paper."""
    patches = patch_map.patches
    at = f" at {patches.mpp:g} µm/px" if patches.mpp else ""
    trained = " on slide labels"
    if config is not None:  # else it is not known whether a user corrected patches
        trained = f" on the labels of {count_of(config.n_train, config.bag)}"
        n = config.n_corrections
        trained += f" and {n} patches that a user labelled" if n else " without labels of patches"
    context = (
        " Probabilities were calibrated on slides that the scoring classifier had not seen, and take neighbouring "
        "patches and the slide as a whole into account."
        if config is not None and config.calibration is not None
        else ""
    )
    corrected = f" {summary.n_corrected} patches were corrected by hand." if summary.n_corrected else ""
    version = provenance(patch_map, summary.threshold)["program"]
    text = (
        f"Patches of {patches.patch_px} × {patches.patch_px} pixels{at} were labelled with {version} (network "
        f"“{summary.network}”, weights {summary.weights_sha256[:12]}), trained{trained} by "
        f"Distill-to-Label (Thiagarajan et al., ICMLA 2019).{context} A patch was labelled with a finding from a "
        f"probability of {summary.threshold:.3g} on.{corrected} {summary.n_scored:,} patches were scored."
    )
    return f"<h2>For the methods section</h2><p>{_text(text)}</p>\n"


def _provenance(patch_map: PatchMap, threshold: float, summary: SlideSummary) -> str:
    about = json.dumps(provenance(patch_map, threshold, summary.n_corrected), indent=1, ensure_ascii=False)
    code = f"<pre><code>{_text_lines(about)}</code></pre>"
    return f"<h2>Provenance</h2><details><summary>as JSON</summary>{code}</details>\n"


def _text_lines(text: str) -> str:
    return html.escape(printable(text, keep="\n"))
