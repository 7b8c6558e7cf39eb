from pathlib import Path

import pytest

from napari_distill2label.core.paths import free_path, is_url, slide_name, why_not_url


@pytest.mark.parametrize(
    "url", [f"{scheme}://host/a.zarr" for scheme in ("http", "https", "s3", "gs", "az", "abfs", "S3")]
)
def test_urls_of_servers_and_stores_are_opened(url):
    assert is_url(url)
    assert why_not_url(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("reference:///etc/passwd", "protocol reference:// is not opened"),
        ("file:///etc/passwd", "file:// is not opened: give the path"),
        ("github://user:repo@main/a.zarr", "protocol github://"),
        ("local:///etc", "protocol local://"),
        ("ftp://host/a.zarr", "protocol ftp://"),
        ("zip::s3://bucket/a.zip", "chained protocols"),
        ("simplecache::file:///etc/passwd", "chained protocols"),
        ("https://host/a.zarr::file:///etc/passwd", "chained protocols"),
        ("reference://::https://host/x.json", "chained protocols"),
        ("filecache::reference://::file:///x", "chained protocols"),
    ],
)
def test_other_protocols_are_not(url, why):
    assert is_url(url)
    assert why in why_not_url(url)


@pytest.mark.parametrize("path", ["a.svs", "C:\\slides\\a.svs", "a::b.svs", "x/a.svs", Path("s3://b/a.svs")])
def test_paths_are_no_urls(path):
    assert not is_url(path)


def test_a_url_is_named_by_its_file():
    assert slide_name("https://host/x/B-1.ome.zarr?sig=a.b/c") == "B-1"
    assert slide_name("s3://bucket/ward 3/a.zarr/") == "a"


def test_a_free_path_is_one_where_nothing_is_and_that_nobody_has_been_given(tmp_path):
    assert free_path(tmp_path, "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run_2").symlink_to(tmp_path / "gone")  # a link that leads nowhere is something too
    assert free_path(tmp_path, "run") == tmp_path / "run_3"
    assert free_path(tmp_path, "run", taken={tmp_path / "run_3"}) == tmp_path / "run_4"
    (tmp_path / "v1.5.csv").touch()
    assert free_path(tmp_path, "v1.5", ".csv") == tmp_path / "v1.5_2.csv"
