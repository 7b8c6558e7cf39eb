"""`results.csv`: written at once, read back, never mixed."""

import pytest

from experiments.results import HEADER, Key, Results, rows_of
from napari_distill2label.core.errors import SettingsError
from napari_distill2label.core.metrics import binary_metrics

KEY = Key("colon", "teacher", "grid", 1, 0)
ABOUT = {"experiment": "colon", "quick": True}


def metrics(threshold=0.5):
    return binary_metrics([True, False, True, False], [0.9, 0.2, 0.4, 0.6], threshold)


def test_rows_are_on_disk_at_once_and_come_back(tmp_path):
    results = Results(tmp_path, ABOUT)
    results.add(rows_of(KEY, "slide", metrics()))
    assert (tmp_path / "results.csv").read_text().splitlines()[0] == ",".join(HEADER)
    again = Results(tmp_path, ABOUT)
    assert again.rows == results.rows
    assert again.done == {KEY}
    again.add(rows_of(Key("colon", "mil", "grid", 1, 0), "slide", metrics()))
    assert len(Results(tmp_path, ABOUT).frame()) == 2 * len(results.rows)


def test_only_what_a_threshold_changes_is_said_of_it():
    half, chosen = rows_of(KEY, "slide", metrics()), rows_of(KEY, "slide", metrics(0.3), "bags")
    assert {row.metric: row.threshold for row in half}["auroc"] == ""
    assert {row.metric for row in chosen} == {"accuracy", "f1"}
    assert {row.threshold for row in chosen} == {"bags"}


def test_undefined_metrics_have_no_row():
    one_class = binary_metrics([True, True], [0.9, 0.8])
    assert "auroc" not in {row.metric for row in rows_of(KEY, "slide", one_class)}


def test_another_experiment_in_the_folder_is_refused(tmp_path):
    Results(tmp_path, ABOUT)
    with pytest.raises(SettingsError, match="other quick"):
        Results(tmp_path, {**ABOUT, "quick": False})


@pytest.mark.parametrize("damage", ["colon,teacher,grid,1,0,ba", "colon,teacher,grid,one,0,bag,f1,0.5,.5"])
def test_a_damaged_line_is_named(tmp_path, damage):
    Results(tmp_path, ABOUT).add(rows_of(KEY, "slide", metrics()))
    with (tmp_path / "results.csv").open("a") as file:
        file.write(damage)
    with pytest.raises(SettingsError, match=r"results\.csv: line \d+ is damaged"):
        Results(tmp_path, ABOUT)


def test_rows_of_a_later_version_are_added_to_what_the_folder_is_about(tmp_path):
    Results(tmp_path, {"quick": False, "mean": {"epochs": 2}})
    Results(tmp_path, {"quick": False, "mean": {"epochs": 2}, "max": {"epochs": 3}})
    with pytest.raises(SettingsError, match="other max"):
        Results(tmp_path, {"quick": False, "mean": {"epochs": 2}, "max": {"epochs": 4}})


def test_settings_of_a_later_version_are_added_and_a_setting_that_went_is_not_ignored(tmp_path):
    Results(tmp_path, {"paper": {"teacher": {"epochs": 2}}})
    Results(tmp_path, {"paper": {"teacher": {"epochs": 2, "known": 0.0}}})
    for other in ({"epochs": 2, "known": 1.0}, {"epochs": 3, "known": 0.0}, {"known": 0.0}):
        with pytest.raises(SettingsError, match="other paper"):
            Results(tmp_path, {"paper": {"teacher": other}})


def test_another_csv_is_refused(tmp_path):
    Results(tmp_path, ABOUT)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"no results\.csv of an experiment"):
        Results(tmp_path, ABOUT)


@pytest.mark.parametrize("name", ["results.csv", "colon.md", "notes.txt", "experiment.json"])
def test_a_folder_with_files_of_others_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(SettingsError, match=str(tmp_path)):
        Results(tmp_path, {"experiment": "colon"})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
