"""HDF5 files that claim, point elsewhere, or are damaged: one line that names them, and nothing is allocated."""

import resource

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.store.maps.hdf5 import read_hdf5

h5py = pytest.importorskip("h5py", reason="HDF5 files were NOT tested: h5py is not installed")

ABOUT = {"patch_size": 256, "patch_size_level0": 512, "overlap": 0}
COORDS = np.array([(x, y) for y in range(4) for x in range(4)]) * 512


def refused(path, said):
    with pytest.raises(SlideError, match=said) as error:
        read_hdf5(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def secret(tmp_path):
    """Somebody's own file, which no file of features may show."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = np.ones((16, 4), "f4")
        file["coords"] = COORDS
    return tmp_path / "secret.h5"


@pytest.mark.parametrize("what", ["features", "coords"])
@pytest.mark.parametrize("how", ["external link", "soft link", "virtual", "external storage"])
def test_nothing_outside_the_file_is_read(tmp_path, secret, what, how):
    data = {"features": np.ones((16, 4), "f4"), "coords": COORDS}
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name, values in data.items():
            if name != what:
                file[name] = values
        if how == "external link":
            file[what] = h5py.ExternalLink(str(secret), what)
        elif how == "soft link":
            file["elsewhere"] = h5py.ExternalLink(str(secret), "/")
            file[what] = h5py.SoftLink(f"/elsewhere/{what}")
        elif how == "virtual":
            layout = h5py.VirtualLayout(data[what].shape, data[what].dtype)
            layout[...] = h5py.VirtualSource(str(secret), what, data[what].shape)
            file.create_virtual_dataset(what, layout)
        else:
            shape, dtype = data[what].shape, data[what].dtype
            file.create_dataset(what, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        if what == "features":
            file["coords"].attrs.update(ABOUT)
    refused(tmp_path / "s.h5", "link|other files")


@pytest.mark.parametrize("claim", [(10**9, 4), (2**55, 1), (2**14, 65_536)])
@pytest.mark.parametrize("how", ["contiguous", "chunked", "packed", "written in part"])
def test_claims_are_compared_with_the_file(tmp_path, claim, how):
    """1.6 kB said that they hold 10⁹ rows: nothing is allocated for them."""
    more = {
        "contiguous": {},
        "chunked": {"chunks": (1, claim[1])},
        "packed": {"chunks": (4096, claim[1]), "compression": "gzip"},
        "written in part": {"chunks": (8, claim[1])},
    }[how]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        stored = file.create_dataset("features", claim, "f4", **more)
        coords = file.create_dataset("coords", (claim[0], 2), "i8", chunks=(1024, 2), compression="gzip")
        coords.attrs.update(ABOUT)
        if how == "written in part":
            stored[:8] = 1
    assert (tmp_path / "s.h5").stat().st_size < 2**22
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(tmp_path / "s.h5", "claims|never written|in chunks of")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_bomb_is_not_unpacked(tmp_path):
    """4 GB of zeros in 4 MB."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        stored = file.create_dataset("features", (2**20, 1024), "f4", chunks=(2**14, 1024), compression="gzip")
        import zlib

        packed = zlib.compress(bytes(2**14 * 1024 * 4), 9)
        for start in range(0, 2**20, 2**14):
            stored.id.write_direct_chunk((start, 0), packed)
        coords = np.zeros((2**20, 2), "i8")
        file.create_dataset("coords", data=coords, chunks=(2**16, 2), compression="gzip").attrs.update(ABOUT)
    refused(tmp_path / "s.h5", "that is not features")


@pytest.mark.parametrize(
    "dtype", ["S4", h5py.string_dtype(), h5py.vlen_dtype(np.float32), [("a", "f4")], "bool", "c8", "f16"]
)
@pytest.mark.parametrize("what", ["features", "coords"])
def test_only_numbers_are_read(tmp_path, dtype, what):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_dataset("features", (16, 4), dtype if what == "features" else "f4")
        file.create_dataset("coords", (16, 2), dtype if what == "coords" else "i8").attrs.update(ABOUT)
    refused(tmp_path / "s.h5", "only numbers|not \\(n, D\\)|cannot be read")


@pytest.mark.parametrize(
    "value", [np.zeros(10**4), "x" * 2000, h5py.Empty("f4"), np.array([b"a", b"b"]), np.zeros((2, 2))],
    ids=["long", "text", "empty", "texts", "table"],
)  # fmt: skip
def test_attributes_of_any_kind_are_one_line(tmp_path, value):
    with h5py.File(tmp_path / "s.h5", "w", libver="latest") as file:
        file["features"] = np.ones((16, 4), "f4")
        file["coords"] = COORDS
        file["coords"].attrs.update({**ABOUT, "patch_size_level0": value})
    refused(tmp_path / "s.h5", "patch_size_level0|has more than")


@pytest.mark.parametrize("length", [0, 2**64 - 16, 2**64 - 1, 2**40])
def test_a_heap_that_leads_nowhere_does_not_hang(tmp_path, length):
    """One byte that is altered is enough for HDF5 to look for the next text in the same place for ever."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((16, 4), "f4"), COORDS
        file["coords"].attrs.update(ABOUT | {"name": "a", "layout": "tiles"})
    read_hdf5(path)
    data = bytearray(path.read_bytes())
    first = data.index(b"GCOL") + 16
    number = 0 if length == 0 else 1
    data[first : first + 16] = number.to_bytes(2, "little") + bytes(6) + length.to_bytes(8, "little")
    path.write_bytes(data)
    refused(path, "a heap of texts in it is damaged")


def test_heaps_that_lie_over_one_another_are_not_walked_through_again_and_again(tmp_path):
    """4,096 heads, each of a heap that ends where the last one does: 8 million steps through 128 kB."""
    path, n = tmp_path / "a.h5", 4096
    piece = b"GCOL\x01\0\0\0%b" + (1).to_bytes(8, "little") + (16).to_bytes(8, "little")  # and an object of 32 bytes
    heaps = b"".join(piece % ((n - k) * 32 + 16).to_bytes(8, "little") for k in range(n))
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = np.ones((16, 4), "f4"), COORDS
        file["coords"].attrs.update(ABOUT | {"name": "a", "layout": "tiles"})
        file["more"] = np.frombuffer(heaps + bytes(32), np.uint8)
    refused(path, "a heap of texts in it is damaged")


def test_groups_in_place_of_datasets_and_scalars(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file.create_group("features")
        file["coords"] = COORDS
    refused(tmp_path / "s.h5", "has no 'features'")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"] = 3.0
        file["coords"] = h5py.Empty("i8")
    refused(tmp_path / "s.h5", "only numbers|not")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["feats"] = np.ones((16, 4), "f4")
        file["coords"] = COORDS
    refused(tmp_path / "s.h5", "`feats` is STAMP's, whose positions are in µm")
