"""The report of `evaluate` as files: JSON with every digit, a CSV row per slide, Markdown for people, and a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..core.evaluation import LEVELS
from ..core.network_names import in_words
from ..store.files.atomic import Writing, atomic_path, write_json, write_text
from ..store.tables.csv_table import escape_formula

Reports = Mapping[str, Mapping[str, Any]]  # by network, see `core.evaluation.Evaluation.report`
SUFFIXES = (".json", ".csv", ".md", ".png")
NOT_FIGURES = ("n", "low", "high", "low_mm2", "high_mm2")
PANEL, MARGIN, HEAD = 300, 56, 34  # px
INK, PALE, LINE, BARS = (38, 43, 48), (190, 196, 202), (0, 90, 160), (150, 185, 215)
AREA_INK = (200, 90, 20)
LONGEST_SHARE = 0.05  # shares of the picture's axis beyond the largest value


def files_of_evaluation(path: str | Path) -> list[Path]:
    """Return the files that `write_evaluation` writes: `path`, and the others with its name beside it."""
    path = Path(path)
    stem = path.name.removesuffix(".json")
    return [path, *(path.with_name(stem + suffix) for suffix in SUFFIXES[1:])]


def write_evaluation(path: str | Path, reports: Reports, writing: Writing = atomic_path) -> list[Path]:
    """Write the report of all networks as JSON (`path`), and beside it as CSV, Markdown and PNG."""
    as_json, as_csv, as_markdown, as_picture = files = files_of_evaluation(path)
    write_json(as_json, reports, writing)
    write_text(as_csv, slides_csv(reports), writing)
    write_text(as_markdown, evaluation_markdown(reports), writing)
    with writing(as_picture) as temporary:
        evaluation_picture(reports).save(temporary, format="PNG")
    return files


def slides_csv(reports: Reports) -> str:
    """Return a table with a row for each network and slide (`Evaluation.slide_rows`)."""
    rows = [{"network": network, **row} for network, report in reports.items() for row in report["slides"]]
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else ["network"], lineterminator="\n")
    table.writeheader()
    table.writerows(
        {key: escape_formula(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows
    )
    return text.getvalue()


def evaluation_markdown(reports: Reports) -> str:
    """Return the figures with their intervals, the operating points and the reliability of every network."""
    parts = ["# Evaluation\n\nIntervals: 95 %, by a bootstrap over patients. For research use only.\n"]
    for network, report in reports.items():
        n = len(report["slides"])
        parts.append(f"## {in_words(network).capitalize()}\n\n{n} slides. Labels from {report['threshold']:.3f} on.\n")
        parts.append(_table(("level", "figure", "value", "interval", "n"), _figure_rows(report)))
        points = [
            [
                own["name"] + ("\\*" if own["chosen_here"] else ""),
                *(
                    _number(own[name])
                    for name in (
                        "threshold", "sensitivity", "specificity", "precision", "called", "called_negative_slides",
                    )
                ),
            ]
            for own in report["operating_points"]
        ]  # fmt: skip
        head = ("threshold", "value", "sensitivity", "specificity", "precision", "called", "called on negative slides")
        parts.append("Labels of patches at some thresholds (\\* chosen by the ground truth of these very slides):\n")
        parts.append(_table(head, points))
        for level, bins in report["reliability"].items():
            rows = [[_number(own["predicted"]), _number(own["observed"]), str(own["n"])] for own in bins]
            parts.append(f"Reliability, {level}:\n")
            parts.append(_table(("predicted", "observed", "n"), rows))
    return "\n".join(parts)


def _figure_rows(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for level in (name for name in LEVELS if name in report):
        figures, intervals = report[level], report["intervals"].get(level, {})
        for name, value in figures.items():
            if name in NOT_FIGURES or value is None:
                continue
            own = intervals.get(name)
            text = f"{_number(own[0])} to {_number(own[1])}" if own else "–"
            rows.append([f"`{level}`", name, _number(value), text, str(figures["n"])])
        if figures.get("low") is not None:
            limits = f"{_number(figures['low'])} to {_number(figures['high'])}"
            rows.append([f"`{level}`", "limits of agreement", limits, "–", str(figures["n"])])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


# ---- the picture ----------------------------------------------------------------------------------------------------


def evaluation_picture(reports: Reports) -> Image.Image:
    """Draw for each network: reliability of patches and of slides, and the areas (Bland & Altman 1986)."""
    size = PANEL + 2 * MARGIN
    picture = Image.new("RGB", (3 * size, max(1, len(reports)) * (size + HEAD)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for row, (network, report) in enumerate(reports.items()):
        top = row * (size + HEAD)
        title = f"{in_words(network)}, labels from {report['threshold']:.3f} on"
        draw.text((MARGIN, top + 10), title, INK, ImageFont.load_default(17))
        for column, level in enumerate(("patch", "slide")):
            _draw_reliability(draw, font, (column * size + MARGIN, top + HEAD + MARGIN), level, report)
        _draw_areas(draw, font, (2 * size + MARGIN, top + HEAD + MARGIN), report)
    return picture


def _frame(draw: ImageDraw.ImageDraw, font: Any, corner: tuple[int, int], title: str, x: str, y: str) -> None:
    left, top = corner
    draw.rectangle((left, top, left + PANEL, top + PANEL), outline=PALE)
    draw.text((left, top - 20), title, INK, font)
    draw.text((left, top + PANEL + 22), x, INK, font)
    draw.text((left - MARGIN + 4, top - 40), y, INK, font)


def _draw_reliability(
    draw: ImageDraw.ImageDraw, font: Any, corner: tuple[int, int], level: str, report: Mapping[str, Any]
) -> None:
    left, top = corner
    bins = report["reliability"][level]
    ece = report[level]["ece"]
    title = f"{level}: ECE {_number(ece)}, {sum(own['n'] for own in bins)} {level.replace('patch', 'patche')}s"
    _frame(draw, font, corner, title, "predicted probability", "observed")
    most = max((own["n"] for own in bins), default=1)
    width = PANEL / max(len(bins), 1) / 2
    for own in bins:  # how many there are, at the bottom
        x = left + own["predicted"] * PANEL
        height = 0.25 * PANEL * own["n"] / most
        draw.rectangle(
            (max(left, x - width / 2), top + PANEL - height, min(left + PANEL, x + width / 2), top + PANEL), BARS
        )
    draw.line((left, top + PANEL, left + PANEL, top), PALE)
    points = [(left + own["predicted"] * PANEL, top + PANEL - own["observed"] * PANEL) for own in bins]
    if len(points) > 1:
        draw.line(points, LINE, 2)
    for x, y in points:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), LINE)
    for share in (0, 0.5, 1):
        draw.text((left + share * PANEL - 8, top + PANEL + 5), f"{share:g}", INK, font)
        draw.text((left - 26, top + PANEL - share * PANEL - 7), f"{share:g}", INK, font)


def _draw_areas(draw: ImageDraw.ImageDraw, font: Any, corner: tuple[int, int], report: Mapping[str, Any]) -> None:
    left, top = corner
    slides = [row for row in report["slides"] if row["true_share"] is not None]
    area = report["area"]
    title = f"area: error {_number(area['error'])}, bias {_number(area['bias'])}"
    _frame(draw, font, corner, title, "mean of true and called share", "called - true share")
    off = [row["called_share"] - row["true_share"] for row in slides]
    limits = [area[name] for name in ("low", "bias", "high") if area.get(name) is not None]
    reach = max([0.1, *map(abs, off), *map(abs, limits)]) + LONGEST_SHARE

    def height(value: float) -> float:
        return float(top + PANEL / 2 - value / reach * PANEL / 2)

    draw.line((left, height(0), left + PANEL, height(0)), PALE)
    for value in limits:
        draw.line((left, height(value), left + PANEL, height(value)), AREA_INK, 1 + (value == area["bias"]))
        draw.text((left + PANEL + 4, height(value) - 7), _number(value), AREA_INK, font)
    for row, value in zip(slides, off, strict=True):
        x = left + (row["called_share"] + row["true_share"]) / 2 * PANEL
        draw.ellipse((x - 3, height(value) - 3, x + 3, height(value) + 3), LINE)
    for share in (0, 0.5, 1):
        draw.text((left + share * PANEL - 8, top + PANEL + 5), f"{share:g}", INK, font)
