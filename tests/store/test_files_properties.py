"""Names of files for ids, whatever the ids are."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.store.files.safe_names import safe_name, safe_names

IDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


@given(IDS)
def test_an_id_names_no_file_outside_the_folder(slide_id):
    name = safe_name(slide_id)
    assert name not in ("", ".", "..")
    assert PurePosixPath(name).name == name
    assert len(name.encode()) < 255


@given(st.lists(IDS, unique=True, max_size=30))
def test_different_ids_get_different_files_even_where_case_does_not_count(ids):
    names = [name.casefold() for name in safe_names((slide_id,) for slide_id in ids).values()]
    assert len(set(names)) == len(ids)
