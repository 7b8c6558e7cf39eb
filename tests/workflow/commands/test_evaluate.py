"""`evaluate`: the figures are those anyone gets by hand from the exported tables and the truth."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from sklearn import metrics as sk

from napari_distill2label.core.errors import BundleError, CohortError, SettingsError
from napari_distill2label.core.evaluation import LEVELS
from napari_distill2label.core.events import ItemFailed, drain
from napari_distill2label.core.inputs import Inputs
from napari_distill2label.core.notices import Notice
from napari_distill2label.store.cohort import Cohort
from napari_distill2label.store.maps.patch_map import PatchMap
from napari_distill2label.store.run import Run
from napari_distill2label.workflow.commands.evaluate import evaluate, metrics_table

PARTS = ["threshold", "intervals", "reliability", "operating_points", "slides"]
MEASURES = ["accuracy", "f1", "auroc", "auprc", "prevalence", "ece", "n"]


@pytest.fixture
def truth(cohort_csv):
    return cohort_csv.with_name("truth.csv")


def by_hand(truth, score, threshold=0.5) -> dict:
    """accuracy, f1, auroc, auprc and ece by sklearn and a plain loop."""
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    called = score >= threshold
    both = len(set(truth.tolist())) == 2
    ece = 0.0
    for low in range(10):
        chosen = (np.minimum((score * 10).astype(int), 9)) == low
        if chosen.any():
            ece += chosen.mean() * abs(score[chosen].mean() - truth[chosen].mean())
    return {
        "accuracy": sk.accuracy_score(truth, called),
        "f1": sk.f1_score(truth, called) if (truth | called).any() else None,
        "auroc": sk.roc_auc_score(truth, score) if both else None,
        "auprc": sk.average_precision_score(truth, score) if both else None,
        "prevalence": truth.mean(),
        "ece": ece,
        "n": len(truth),
    }


def joined(pairs: list) -> tuple[list, list]:
    return list(chain(*(truth for truth, _ in pairs))), list(chain(*(score for _, score in pairs)))


def assert_same(found: dict, expected: dict):
    assert list(found) == list(expected)
    for name in expected:
        assert (found[name] is None) == (expected[name] is None), name
        if found[name] is not None:
            # Tables have six digits, in which nearly equal scores of an untrained network tie.
            assert found[name] == pytest.approx(expected[name], abs=2e-3 if name.startswith("au") else 2e-6), name


@pytest.mark.parametrize("way", ["grid", "ignore empty", "centres"])
def test_figures_equal_a_computation_by_hand(trained, cohort_csv, truth, tmp_path, cli, table, way):
    all_rows = Cohort.read(cohort_csv)
    cohort_csv = all_rows.with_slides(list(all_rows)[:6]).write(tmp_path / "six.csv")
    centres = ["--centres", truth.with_name("centres.csv")] if way == "centres" else []
    empty = ["--missing-truth", "ignore"] if way == "ignore empty" else []
    file = tmp_path / "Maße.json"
    status, out, err = cli(
        "evaluate", trained, cohort_csv, "--truth", truth, "--split", "all", "-o", file, *centres, *empty
    )
    assert status == 0, err
    figures = json.loads(file.read_text("utf-8"))
    assert list(figures) == ["baseline", "teacher", "student"]
    assert all(list(figures[network]) == [*LEVELS, *PARTS] for network in figures)
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        [network, level] for network in figures for level in LEVELS
    ]

    points = table(truth)
    slides = {row["slide_id"]: row["label"] == "tumour" for row in table(cohort_csv)}
    for network in ("baseline", "student") if way == "grid" else ("student",):
        folder = tmp_path / network
        status, _, _ = cli(
            "predict", trained, cohort_csv, "-o", folder, "--network", network, "--format", "csv", *centres
        )
        assert status == 0
        kept = [PatchMap.open(trained / "predictions" / f"{slide_id}.{network}.zarr") for slide_id in slides]
        bags = [1 - patch_map.bag_probability[0] for patch_map in kept]
        (own_threshold,) = {patch_map.threshold for patch_map in kept}
        pooled: dict[str, tuple[list, list]] = {}
        for slide_id in slides:
            own = [point for point in points if point["slide_id"] == slide_id]
            answers = pooled[slide_id] = ([], [])
            for row in table(folder / f"{slide_id}.csv"):
                left, top = int(row["minx"]), int(row["miny"])
                inside = [
                    point["label"] for point in own
                    if left <= float(point["x"]) + 0.5 < left + 27 and top <= float(point["y"]) + 0.5 < top + 27
                ]  # fmt: skip
                if way == "centres":
                    inside = [
                        p["label"] for p in own if np.hypot(float(p["x"]) - left - 13, float(p["y"]) - top - 13) <= 1
                    ]
                    assert len(inside) == 1
                if inside or way == "grid":
                    answers[0].append("tumour" in inside)
                    answers[1].append(float(row["prob_tumour"]))
        found = figures[network]
        assert_same(found["slide"], by_hand(list(slides.values()), bags))
        every = list(pooled.values())
        assert_same(found["patch"], by_hand(*joined(every), own_threshold))
        positive = [pooled[slide_id] for slide_id in slides if slides[slide_id]]
        assert_same(found["patch_positive_slides"], by_hand(*joined(positive), own_threshold))
        each = [by_hand(*pair, own_threshold) for pair in every]
        means = {
            name: np.mean(values) if (values := [row[name] for row in each if row[name] is not None]) else None
            for name in MEASURES
            if name != "f1"
        }
        assert_same(found["patch_mean_over_slides"], means | {"n": len(each)})
        called = [np.array(score) >= own_threshold for _, score in every]
        of_negative = np.concatenate([own for own, has in zip(called, slides.values(), strict=True) if not has])
        assert found["negative_slides"]["called"] == pytest.approx(of_negative.mean())
        assert found["negative_slides"]["n"] == len(of_negative)
        off = [own.mean() - np.mean(true) for own, (true, _) in zip(called, every, strict=True) if true]
        assert found["area"]["error"] == pytest.approx(np.abs(off).mean())
        assert found["area"]["bias"] == pytest.approx(np.mean(off))
        limits = np.mean(off) - 1.96 * np.std(off, ddof=1), np.mean(off) + 1.96 * np.std(off, ddof=1)
        assert (found["area"]["low"], found["area"]["high"]) == pytest.approx(limits)
        assert found["area"]["n"] == len(off)


def notices(events):
    return [str(event) for event in events if isinstance(event, Notice)]


def test_the_test_split_is_the_default_and_new_slides_belong_to_it(trained, cohort_csv, truth, png, collect):
    cohort = Cohort.read(cohort_csv)
    tested = {slide.slide_id for slide in Run.open(trained).cohort.in_split("test")}
    assert 0 < len(tested) < 5
    test, every = (collect(evaluate(trained, cohort, truth, split=split))[1]["student"] for split in ("test", "all"))
    assert (test["slide"]["n"], every["slide"]["n"]) == (len(tested), 10)
    new = [type(slide)(f"new {slide.slide_id}", png(slide.slide_id), slide.label, mpp=0.5) for slide in cohort][:4]
    events, figures = collect(evaluate(trained, cohort.with_slides([*cohort, *new]), truth))
    assert figures["student"]["slide"]["n"] == len(tested) + 4
    assert f"{10 - len(tested)} of 14 slides are left out" in notices(events)[0]
    assert figures["student"]["left_out"] == {"n": 10 - len(tested)}  # also where nobody reads notices
    assert "left_out" not in every
    assert "left_out" in metrics_table(figures)
    assert f"The ground truth has no entry for 4 of {len(tested) + 4} slides" in notices(events)[1]
    assert figures["student"]["patch"]["n"] == test["patch"]["n"]


def learnt_rows(trained):
    return [slide for slide in Run.open(trained).cohort.labelled if slide.split != "test"]


def test_training_slides_under_other_ids_are_left_out(trained, cohort_csv, truth, tmp_path, collect):
    """The same files, copies of them, and other slides of the same patients."""
    learnt, cohort = learnt_rows(trained), Cohort.read(cohort_csv)
    copy = shutil.copy(learnt[1].path, tmp_path / "copy.ome.tif")
    again = [
        replace(learnt[0], slide_id="same file", case_id="X", split=None),
        replace(learnt[1], slide_id="copy", case_id="Y", path=copy, split=None),
    ]
    own = list(Run.open(trained).cohort.in_split("test"))
    events, figures = collect(evaluate(trained, cohort.with_slides([*own, *again]), truth))
    assert figures["student"]["slide"]["n"] == len(own)
    said = notices(events)[0]
    assert f"2 of {len(own) + 2} slides are left out" in said
    assert "2 with the file of a training slide under another id: same file, copy" in said
    with pytest.raises(CohortError, match=r"training or validation slides of it .* Set split='all'"):
        drain(evaluate(trained, cohort.with_slides(again), truth))
    events, figures = collect(evaluate(trained, cohort.with_slides([*own, *again]), truth, split="all"))
    assert figures["student"]["slide"]["n"] == len(own) + 2
    assert f"2 of {len(own) + 2} slides were trained on" in notices(events)[0]
    assert "too good" in notices(events)[0]


def test_training_patients_are_left_out(trained, cohort_csv, truth, png, collect):
    learnt = learnt_rows(trained)[0]
    case = learnt.case_id
    assert case != learnt.slide_id
    of_case = replace(learnt, slide_id="later", path=png(), split=None)
    other = replace(of_case, slide_id="other", path=png("another"), case_id="new")
    events, figures = collect(evaluate(trained, Cohort((of_case, other)), truth_of(truth, other="later")))
    assert figures["student"]["slide"]["n"] == 1
    assert "1 of a patient of a training slide: later" in notices(events)[0]


def truth_of(truth, **names):
    """The truth with slides called otherwise; of each the points of some slide."""
    rows = truth.read_text().splitlines()
    out = truth.parent.parent / f"{'-'.join(names)}.csv"
    own = [row.partition(",")[2] for row in rows[1:] if row.startswith("slide_000")]
    out.write_text("\n".join([rows[0], *(f"{name},{row}" for name in names for row in own)]))
    return out


def test_slides_with_the_same_ids_are_new_if_they_are_of_other_patients(trained, cohort_csv, truth, png, collect):
    """They were left out without a word."""
    learnt = learnt_rows(trained)[:2]
    others = [replace(row, path=png(f"other {i}"), case_id=f"other {i}", split=None) for i, row in enumerate(learnt)]
    events, figures = collect(evaluate(trained, Cohort(tuple(others)), truth))
    assert figures["student"]["slide"]["n"] == 2
    assert "2 slides have the id of a training slide, but another file of another patient" in notices(events)[0]
    untold = replace(others[0], case_id=others[0].slide_id)
    events, figures = collect(evaluate(trained, Cohort((untold, others[1])), truth))
    assert figures["student"]["slide"]["n"] == 1
    said = f"1 with the id of a training slide, and not known to be of another patient: {untold.slide_id}"
    assert said in notices(events)[0]


def test_a_run_without_a_record_is_compared_by_what_is_left(trained, cohort_csv, truth, png, collect):
    (trained / "slides.json").unlink()
    learnt = learnt_rows(trained)
    gone = Run.open(trained).cohort
    moved = gone.with_slides(
        replace(row, path=row.path.with_name(f"gone {row.path.name}")) if row.split != "test" else row for row in gone
    )
    moved.write(trained / "cohort.csv")
    same_id = replace(learnt[0], path=png("x"), case_id="x", split=None)
    new = replace(same_id, slide_id="new")
    events, figures = collect(evaluate(trained, Cohort((same_id, new)), truth_of(truth, new="")))
    assert figures["student"]["slide"]["n"] == 1
    assert "1 with the id of a training slide" in notices(events)[0]
    assert f"{len(learnt)} of {len(learnt)} training slides are known by id and patient alone" in notices(events)[1]


def test_unlabelled_slides_have_no_part(trained, cohort_csv, truth, collect):
    cohort = Cohort.read(cohort_csv)
    some = [
        type(slide)(slide.slide_id, slide.path, slide.label if i else None, mpp=0.5) for i, slide in enumerate(cohort)
    ]
    assert collect(evaluate(trained, cohort.with_slides(some), truth, split="all"))[1]["baseline"]["slide"]["n"] == 9


def relabelled(truth, tmp_path, old, new):
    path = tmp_path / f"{new or 'none'}.csv"
    path.write_text(truth.read_text().replace(f",{old}", f",{new}"))
    return path


def test_a_truth_label_that_is_no_class_is_counted_aloud(trained, cohort_csv, truth, tmp_path, collect, table):
    """It does not say that there is no finding; that is for the user to say."""
    cohort, other = Cohort.read(cohort_csv), relabelled(truth, tmp_path, "normal", "fibroblast")
    expected = collect(evaluate(trained, cohort, truth))[1]
    assert collect(evaluate(trained, cohort, other, inputs=Inputs(label_map={"*": "normal"})))[1] == expected
    events, found = collect(evaluate(trained, cohort, other))
    known, of_all = found["student"]["patch"], expected["student"]["patch"]
    assert known["n"] < of_all["n"]
    assert round(known["prevalence"] * known["n"]) == round(of_all["prevalence"] * of_all["n"])
    assert found["student"]["slide"] == expected["student"]["slide"]
    tested = {slide.slide_id for slide in Run.open(trained).cohort.in_split("test")}
    n = sum(row["label"] == "fibroblast" and row["slide_id"] in tested for row in table(other))
    said = next(line for line in notices(events) if "no class of the model" in line)
    assert (
        f"{n} marks of the ground truth have a label that is no class of the model (fibroblast {n}). They are" in said
    )
    assert "label_map={'fibroblast': 'normal'}" in said


@pytest.mark.parametrize("way", ["centres", "ignore"])
def test_what_is_no_class_is_unknown_unless_the_map_says_otherwise(
    trained, cohort_csv, truth, tmp_path, collect, refused, way
):
    cohort, other = Cohort.read(cohort_csv), relabelled(truth, tmp_path, "normal", "fibroblast")
    centres = truth.with_name("centres.csv") if way == "centres" else None
    missing = {} if way == "centres" else {"missing_truth": "ignore"}
    flags = ["--centres", centres] if way == "centres" else ["--missing-truth", "ignore"]

    def evaluated(table, **labels):
        inputs = Inputs(centres=centres, **labels)
        return collect(evaluate(trained, cohort, table, inputs=inputs, **missing))[1]

    line = refused("evaluate", trained, cohort_csv, "--truth", other, *flags)
    assert "no label says 'normal', and fibroblast is no class of the model (normal, tumour)" in line
    assert "--map fibroblast=normal" in line
    expected = evaluated(truth)
    for label_map in ({"fibroblast": "normal"}, {"*": "normal"}):
        assert evaluated(other, label_map=label_map) == expected
    left_out = evaluated(other, label_map={"fibroblast": ""})["student"]["patch"]
    assert left_out["prevalence"] == 1
    assert left_out["n"] == round(expected["student"]["patch"]["prevalence"] * expected["student"]["patch"]["n"])


@pytest.mark.parametrize(("label", "said"), [("Tumour", "--map Tumour=tumour"), ("tumor", "--map tumor=tumour"),
                                             ("metastasis", "--map metastasis=tumour")])  # fmt: skip
def test_findings_under_another_name_are_an_error_that_offers_the_map(
    trained, cohort_csv, truth, tmp_path, cli, refused, label, said
):
    other, out = relabelled(truth, tmp_path, "tumour", label), tmp_path / "m.json"
    assert said in refused("evaluate", trained, cohort_csv, "--truth", other)
    figures = []
    for path, more in ((truth, []), (other, ["--map", f"{label}=tumour"])):
        assert cli("evaluate", trained, cohort_csv, "--truth", path, "-o", out, *more)[0] == 0
        figures.append(json.loads(out.read_text()))
    assert figures[0] == figures[1]


def test_slides_that_the_truth_does_not_mention_are_unknown(trained, cohort_csv, truth, tmp_path, collect):
    cohort = Cohort.read(cohort_csv)
    rows = truth.read_text().splitlines()
    one = tmp_path / "one.csv"
    one.write_text("\n".join([rows[0], *(row for row in rows if row.startswith("slide_001"))]))
    events, found = collect(evaluate(trained, cohort, one, split="all"))
    own = cohort.with_slides([cohort["slide_001"]])
    expected = collect(evaluate(trained, own, truth, split="all"))[1]
    for network in found:
        assert found[network]["patch"] == expected[network]["patch"]
        assert found[network]["slide"]["n"] == 10
    assert any("The ground truth has no entry for 9 of 10 slides (slide_000, " in line for line in notices(events))
    one.write_text("\n".join([rows[0], *(row for row in rows if row.startswith("slide_001")), "slide_000,,,"]))
    mentioned = collect(evaluate(trained, cohort, one, split="all"))[1]["student"]["patch"]
    assert mentioned["n"] == 2 * expected["student"]["patch"]["n"]  # a slide without a finding


@pytest.mark.parametrize("split", ["all"])
def test_areas_of_qupath(trained, cohort_csv, tmp_path, collect, split):
    """Half of the slide is a finding; the other slides have no file."""
    square = [[0, 0], [54, 0], [54, 112], [0, 112], [0, 0]]
    data = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square]},
            "properties": {"classification": {"names": ["tumour"]}}}  # fmt: skip
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "slide_001.ome.tif.geojson").write_text(json.dumps(data))
    cohort = Cohort.read(cohort_csv)
    events, figures = collect(evaluate(trained, cohort, tmp_path / "truth", split=split))
    found = figures["student"]["patch"]
    assert (found["n"], found["prevalence"]) == (20, 8 / 20)  # 2 of 5 columns, 4 rows
    assert "The ground truth labels 12 normal, 8 tumour patches (from tumour 1 area on 8 patches)." in notices(events)
    strict = collect(evaluate(trained, cohort, tmp_path / "truth", split=split, missing_truth="ignore"))[1]["student"]
    assert strict["patch"]["n"] == 8


def moved(truth, tmp_path, change):
    path = tmp_path / "moved.csv"
    with truth.open() as old, path.open("w", newline="") as new:
        writer = csv.writer(new)
        header, *rows = csv.reader(old)
        writer.writerow(header)
        writer.writerows([row[0], *change(float(row[1]), float(row[2])), row[3]] for row in rows)
    return path


def test_points_that_lie_elsewhere_are_counted_and_nothing_left_is_an_error(
    trained, cohort_csv, truth, tmp_path, collect, refused
):
    far = moved(truth, tmp_path, lambda x, y: (x + 90_000, y))
    assert "outside of the slide. Level-0 pixels are needed" in refused("evaluate", trained, cohort_csv, "--truth", far)
    centres = ["--centres", truth.with_name("centres.csv")]
    for change, said in (
        (lambda x, y: (x * 0.5, y * 0.5), "Are they in µm?"),
        (lambda x, y: (y, x), "Are x and y swapped?"),
        (lambda x, y: (x / 4, y / 4), "Are they of a level reduced 4 times?"),
    ):
        line = refused("evaluate", trained, cohort_csv, "--truth", moved(truth, tmp_path, change), *centres)
        assert "has no entry for any patch" in line
        assert said in line
    half = moved(truth, tmp_path, lambda x, y: (x + 90_000 * (x > 64), y))
    events, _ = collect(evaluate(trained, Cohort.read(cohort_csv), half))
    assert any("marks of the ground truth lie outside of the slide" in line for line in notices(events))
    in_micrometres = moved(truth, tmp_path, lambda x, y: (x * 0.5, y * 0.5))
    events, _ = collect(evaluate(trained, Cohort.read(cohort_csv), in_micrometres))
    assert any("if they were in µm" in line for line in notices(events))


def test_coverage_is_a_share(trained, cohort_csv, truth, refused):
    for wrong in ("0", "1.5", "nan"):
        assert "A share of a patch is" in refused(
            "evaluate", trained, cohort_csv, "--truth", truth, "--coverage", wrong
        )


def test_what_does_not_fit_is_one_line(trained, cohort_csv, truth, tmp_path, cohort_of, slides, refused):
    elsewhere = tmp_path / "wahr ß.csv"
    elsewhere.write_text("slide_id,x,y,label\nSLIDE_000,1,1,tumour\n")
    line = refused("evaluate", trained, cohort_csv, "--truth", elsewhere)
    assert str(elsewhere) in line
    assert "Check the slide ids" in line
    for content, said in (
        ("", "is empty"),
        ("slide_id,x,y\na,1,1\n", "no column 'label'"),
        ("slide_id,x,y,label\na,b,1,c\n", "is no position"),
    ):
        elsewhere.write_text(content)
        assert said in refused("evaluate", trained, cohort_csv, "--truth", elsewhere)
    assert "no such file" in refused("evaluate", trained, cohort_csv, "--truth", tmp_path / "gone.csv")
    assert "is no run" in refused("evaluate", trained / "student", cohort_csv, "--truth", truth)
    unknown = cohort_of([("slide_000", slides[0], "normal"), ("slide_001", slides[1], "metastasis")])
    assert "unknown label 'metastasis'" in refused("evaluate", trained, unknown, "--truth", truth, "--split", "all")
    learnt = list(Run.open(trained).cohort.in_split("train"))
    trainset = cohort_of([(slide.slide_id, slide.path, slide.label) for slide in learnt])
    assert "Use --split all." in refused("evaluate", trained, trainset, "--truth", truth)


def test_a_run_without_a_model_is_an_error(cohort_csv, truth, tmp_path, tiny):
    from napari_distill2label.workflow.commands.train import train

    work = train(Cohort.read(cohort_csv), tmp_path / "run", tiny())
    next(event for event in work if getattr(event, "epoch", None) == 1)
    work.close()
    with pytest.raises(BundleError, match="no trained model"):
        drain(evaluate(tmp_path / "run", Cohort.read(cohort_csv), truth))


def test_a_slide_that_fails_is_told_once_and_left_out(trained, cohort_csv, truth, tmp_path, cli, collect):
    cohort = Cohort.read(cohort_csv)
    rows = [type(s)(s.slide_id, s.path, s.label, mpp=0.5) for s in list(cohort)[:3]]
    rows[1] = type(rows[1])("slide_001", tmp_path / "gone.png", "tumour")
    events, figures = collect(evaluate(trained, cohort.with_slides(rows), truth, split="all"))
    assert [event.item for event in events if isinstance(event, ItemFailed)] == ["slide_001"]
    assert {figures[network]["slide"]["n"] for network in figures} == {2}
    table = cohort.with_slides(rows).write(tmp_path / "cohort.csv")
    assert cli("evaluate", trained, table, "--truth", truth, "--split", "all")[0] == 1


def test_python_checks_its_choices(trained, cohort_csv, truth):
    for wrong in ({"split": "train"}, {"missing_truth": "positive"}):
        with pytest.raises(SettingsError):
            drain(evaluate(trained, Cohort.read(cohort_csv), truth, **wrong))
    with pytest.raises(CohortError):
        drain(evaluate(trained, Cohort.read(cohort_csv), truth.with_name("gone.csv")))


def test_nothing_is_changed_or_written(trained, cohort_csv, truth, collect):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    collect(evaluate(trained, Cohort.read(cohort_csv), truth))
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_undefined_figures_are_null_and_shown_as_a_dash(trained, cohort_csv, tmp_path, truth, cohort_of, slides, cli):
    """All slides negative, no positive point: nothing to rank."""
    quiet = tmp_path / "truth.csv"
    with quiet.open("w", newline="") as file:
        csv.writer(file).writerows([("slide_id", "x", "y", "label"), ("slide_000", 5, 5, "normal")])
    cohort = cohort_of([("slide_000", slides[0], "normal")])
    out = tmp_path / "m.json"
    status, said, _ = cli("evaluate", trained, cohort, "--truth", quiet, "--split", "all", "-o", out)
    assert status == 0
    student = json.loads(out.read_text())["student"]
    assert student["patch"]["auroc"] is None
    assert student["patch"]["n"] == 20
    assert student["patch_positive_slides"] == dict.fromkeys(MEASURES[:-1]) | {"n": 0}
    assert " - " in said
    assert metrics_table({}) == said.splitlines()[0]


def test_masks_may_be_the_truth(trained, cohort_csv, slides, tmp_path, cli, collect, refused):
    """A model's own masks agree with it on every patch; what they do not show is negative, or ignored."""
    masks = tmp_path / "Masken ü"
    assert cli("predict", trained, *slides[:2], "-o", masks, "--format", "ome-tiff,png,csv")[0] == 0
    cohort = Cohort.read(cohort_csv)
    two = cohort.with_slides(list(cohort)[:2])
    student = collect(evaluate(trained, two, masks, split="all", missing_truth="ignore"))[1]["student"]["patch"]
    assert (student["accuracy"], student["n"]) == (1, 40)
    three = cohort.with_slides(list(cohort)[:3])
    found = {
        missing_truth: collect(evaluate(trained, three, masks, split="all", missing_truth=missing_truth))[1]["student"]
        for missing_truth in ("ignore", "negative")
    }
    assert (found["ignore"]["patch"]["n"], found["negative"]["patch"]["n"]) == (40, 40)  # it has two masks
    assert found["ignore"]["slide"]["n"] == 3
    line = refused("evaluate", trained, cohort_csv, "--truth", masks, "--split", "all", "--map", "tumour=x")
    assert "is mapped to 'x', which is no class of the model" in line
    (tmp_path / "none").mkdir()
    assert "holds no mask image" in refused("evaluate", trained, cohort_csv, "--truth", tmp_path / "none")
