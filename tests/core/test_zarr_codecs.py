"""Only codecs that are known to be harmless decode what somebody sends."""

import pytest
import zarr

from napari_distill2label.core.zarr_codecs import unsafe_codec


@pytest.mark.parametrize(
    "how",
    [
        {"zarr_format": 2},
        {"zarr_format": 2, "compressors": None},
        {"zarr_format": 3},
        {"zarr_format": 3, "compressors": zarr.codecs.BloscCodec()},
        {"zarr_format": 3, "shards": (8, 8), "compressors": zarr.codecs.GzipCodec()},
    ],
)
def test_what_zarr_writes_by_itself_is_harmless(how):
    assert unsafe_codec(zarr.create_array({}, shape=(8, 8), chunks=(4, 4), dtype="u1", **how)) is None


def test_any_other_codec_is_named():
    import numcodecs

    array = zarr.create_array(
        {}, shape=(8, 8), chunks=(4, 4), dtype="u1", zarr_format=2, compressors=numcodecs.Base64()
    )
    assert unsafe_codec(array) == "base64"
    array = zarr.create_array(
        {}, shape=(8, 8), chunks=(4, 4), dtype="u1", zarr_format=2, filters=[numcodecs.Delta("u1"), numcodecs.Base64()]
    )
    assert unsafe_codec(array) == "base64"
