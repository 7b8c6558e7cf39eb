"""Names that were given up do not come back: each had a better one (docs/architecture.md)."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OLD = [
    "answer_bag",
    "Assessment",
    "AssistantObjective",
    "AssistantSettings",
    "assisted",
    "background_fraction",
    "bag_gradient",
    "bag_metrics",
    "bag_patches",
    "BagReader",
    "batch_bags",
    "check_known",
    "ClassFigures",
    "compute_alone",
    "Curriculum",
    "device_in_words",
    "divisible",
    "FeatureSource",
    "files_read",
    "filled_by",
    "finding_cells",
    "finding_mask",
    "fit_line",
    "folded_in",
    "FURTHEST",
    "gamma_a",
    "gamma_k",
    "Gathered",
    "GridSettings",
    "halved_convolution",
    "halves_first",
    "holds_program",
    "HOW_TO_GET_ONE",
    "in_short",
    "inky",
    "InTwoParts",
    "is_nothing",
    "is_thinned",
    "judge_bag",
    "judge_kept",
    "Judged",
    "JUDGED_AT_ONCE",
    "JudgedFeatures",
    "kept_path",
    "known_patches",
    "KnownPatches",
    "LabelledMap",
    "lacks_memory",
    "lacks_room",
    "lay_patches",
    "Lesson",
    "lessons",
    "loss_assistant",
    "loss_ball",
    "loss_inherit",
    "loss_known",
    "max_bag_patches",
    "model_card",
    "model_role",
    "ModelRecipe",
    "ModelSettings",
    "MOST_OF_A_PATIENT",
    "mpp_assumed",
    "n_mpp_assumed",
    "names_of_several",
    "norm_ball",
    "NotHereError",
    "opened_if_there",
    "out_of_order",
    "own_case",
    "pale_below",
    "part_of",
    "part_of_epoch",
    "patch_um",
    "patchmap",
    "patchmap_attention",
    "patchmap_files",
    "patchmap_labels",
    "patchmap_table",
    "PatchMapper",
    "PATCHWISE",
    "polygons_of",
    "quick_settings",
    "recipe",
    "RECIPES",
    "restained",
    "ROLE_NAMES",
    "ROLES",
    "say_if_nothing_was_learnt",
    "set_role",
    "slide_mpp_assumed",
    "SlideRecipe",
    "source_for",
    "StudentObjective",
    "SupervisedObjective",
    "SUREST",
    "table_text",
    "Taught",
    "teacher_share",
    "TeacherObjective",
    "threshold_of_slides",
    "UNKNOWN",
    "unlikeliness",
    "what_counted",
    "what_did_not",
    "why_not_assess",
    "with_defaults",
    "with_encoder",
    "with_neighbours",
    "work_of_one",
    "zarr_file",
]


@pytest.fixture(scope="module")
def words() -> dict[str, set[str]]:
    """Every word of the code -> the files it is in."""
    found: dict[str, set[str]] = {}
    for folder in ("napari_distill2label", "experiments", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for word in set(re.findall(r"\w+", path.read_text("utf-8"))):
                found.setdefault(word, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_old_names_are_gone(words):
    assert {name: sorted(words[name]) for name in OLD if name in words} == {}


def test_words_of_the_code_are_found(words):
    assert "PatchMap" in words
