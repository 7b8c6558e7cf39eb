"""Names of slides, whatever a file is called."""

from hypothesis import given
from hypothesis import strategies as st

from napari_distill2label.core.paths import slide_name

NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=60)


@given(NAMES, st.sampled_from([".svs", ".png", ".ome.tif", ".OME.TIFF", ".ome.zarr"]))
def test_the_name_of_a_slide_is_its_files_without_the_suffix(name, suffix):
    if suffix in (".svs", ".png") or not name.lower().endswith(".ome"):
        assert slide_name(f"/slides/{name}{suffix}") == name
