import os
import subprocess
import sys

import pytest
from PIL import Image

from napari_distill2label.core.errors import SlideError
from napari_distill2label.slides import open_slide
from napari_distill2label.slides.registry import SUFFIXES
from napari_distill2label.store.files.signature import file_signature


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_and_empty_files_are_one_plain_line(tmp_path, suffix):
    path = tmp_path / f"Präparat ohne Inhalt{suffix}"
    with pytest.raises(SlideError, match=f"Inhalt{suffix}: no such file"):
        open_slide(path)
    path.touch()
    with pytest.raises(SlideError, match=f"Inhalt{suffix}: (the file is empty|cannot be read)"):
        open_slide(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_not_what_its_name_says(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("slide_id,path,label\n" * 20)
    with pytest.raises(SlideError, match=f"a{suffix}: cannot be read, damaged or not what its name says") as error:
        open_slide(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".vsi", ".CZI", ".isyntax"])
def test_known_formats_without_a_backend(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"x")
    with pytest.raises(SlideError, match=r"not supported by this version yet: convert it to OME-TIFF"):
        open_slide(tmp_path / f"a{suffix}")


def test_unknown_suffixes_and_folders(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SlideError, match=r"unknown kind of image '\.txt'.*\.svs"):
        open_slide(tmp_path / "notes.txt")
    with pytest.raises(SlideError, match="a folder, not a slide"):
        open_slide(tmp_path)
    (tmp_path / "1.dcm").write_bytes(b"x")
    with pytest.raises(SlideError, match="no DICOM slide among its files"):
        open_slide(tmp_path)


def test_formats_of_a_backend_that_is_not_installed_say_what_to_install(tmp_path, without_openslide):
    (tmp_path / "a.mrxs").write_bytes(b"x")
    said = without_openslide(tmp_path / "a.mrxs")
    assert said.endswith("a.mrxs: needs OpenSlide: pip install 'napari-distill2label[slides]'")


@pytest.mark.parametrize("url", ["https://example.org/a.svs", "s3://bucket/a.tif"])
def test_only_ome_zarr_is_read_over_the_network(url):
    with pytest.raises(SlideError, match=f"{url}: only OME-Zarr folders"):
        open_slide(url)


def test_whatever_a_reader_raises_is_one_plain_line_with_its_cause(tmp_path, monkeypatch, pixels):
    from napari_distill2label.slides.backends import image

    Image.fromarray(pixels).save(tmp_path / "a.png")
    for raised, said in (
        (ZeroDivisionError("float division by zero"), "cannot be read, damaged.*: float division by zero"),
        (RecursionError("maximum recursion depth"), "cannot be read, damaged"),
        (MemoryError(), "there is not enough memory to open it"),
        (SlideError("it is strange"), "it is strange"),
    ):

        def fail(path: object, raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(image, "open_source", fail)
        with pytest.raises(SlideError, match=rf"a\.png: {said}") as error:
            open_slide(tmp_path / "a.png")
        assert error.value.__cause__ is raised


def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes among its files")
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"a\.tif: no file: give the file"):
        open_slide(tmp_path / "a.tif")


def test_names_that_no_system_takes(tmp_path):
    for name in ("a" * 400 + ".tif", "a\0.tif"):
        with pytest.raises(SlideError):
            open_slide(tmp_path / name)


def test_opening_a_png_imports_no_tiff_nor_zarr_reader(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    code = (
        "import sys; from napari_distill2label.slides import open_slide; open_slide(sys.argv[1]);"
        "print([m for m in ('tifffile', 'zarr', 'torch', 'qtpy', 'napari') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "url",
    [
        "reference:///etc/passwd.zarr", "file:///etc/a.zarr", "zip::s3://bucket/a.zarr", "simplecache::file:///etc/a.zarr",
        "https://host/a.zarr::file:///etc/a.zarr", "github://me:repo@main/a.zarr", "memory://a.zarr",
    ],
)  # fmt: skip
def test_urls_that_could_read_local_files_are_refused(url, monkeypatch):
    monkeypatch.setattr("zarr.open_group", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(SlideError, match=r"opened"):
        open_slide(url)
    assert file_signature(url) == "unknown"


def test_a_login_in_a_url_is_not_told():
    with pytest.raises(SlideError) as caught:
        open_slide("https://me:secret@host/a.svs")
    assert str(caught.value).startswith("https://…@host/a.svs: only OME-Zarr folders")
