"""What files say of where patches lie: what contradicts is refused, what is not said stays unknown."""

import numpy as np
import pytest

from napari_distill2label.core.errors import SlideError
from napari_distill2label.core.geometry import PatchGrid, PatchPoints
from napari_distill2label.store.maps.hdf5_geometry import Frame, locate

TRIDENT = {
    "patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "target_magnification": 20, "overlap": 0,
    "level0_width": 4096, "level0_height": 4096,
}  # fmt: skip
CLAM = {"patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0), "level_dim": (5000, 4000)}


def lattice(step, columns=8, rows=8, start=(0, 0)):
    return np.array([(x, y) for y in range(rows) for x in range(columns)]) * step + start


def located(path, coords, about, frame=None):
    return locate(path, np.asarray(coords), about, frame or Frame())


def trident(overlap, side=512, size=8):
    """Positions as TRIDENT lays them: the second column a whole patch from the first, the others less the overlap."""
    at = [i * side - overlap * max(0, i - 1) for i in range(size)]
    return np.array([(x, y) for x in at for y in at])


@pytest.mark.parametrize(
    ("coords", "change"),
    [
        (lattice(512), {}),
        (lattice(512)[::3], {}),
        (lattice(512)[:2], {}),
        (lattice(512)[:1], {}),
        (lattice(1024, 4, 4)[:9], {}),  # few patches of a little tissue: nothing says that they are too far apart
        (trident(64 * 2), {"overlap": 64}),
        (trident(64 * 2)[5::7], {"overlap": 64}),
        (lattice(256), {"patch_size": 128, "patch_size_level0": 256}),
        (lattice(512), {"level0_magnification": -1, "target_magnification": "None", "overlap": "NA"}),
        (lattice(512), {"patch_size": "256", "patch_size_level0": np.array([512])}),
        (lattice(512).astype(float), {"encoder": "x", "whatever": object()}),
        (lattice(513), {"patch_size_level0": 513}),
        (lattice(512), {"downsample": 1e-320, "level0_magnification": 1e-320}),
    ],
)
def test_what_holds_together_is_read(tmp_path, coords, change):
    found = located(tmp_path / "s.h5", coords, TRIDENT | change)
    np.testing.assert_array_equal(found.patches.corners[found.position], np.asarray(coords)[:, ::-1])
    assert found.patches.slide_shape == (4096, 4096) or "level0_width" not in TRIDENT


@pytest.mark.parametrize(
    ("coords", "change", "said"),
    [
        # pixels of the level that patches were cut from: the lattice is twice as dense as the patches are wide
        (lattice(256), {}, "overlap is 0, so .* patches of 512 px .* lie 512 apart, but coords lie 256 px"),
        (lattice(256), {"overlap": 64}, "overlap is 64, .* lie 384 apart, but coords lie 256"),
        (lattice(512), {"overlap": 128}, "overlap is 128, .* lie 256 apart, but coords lie 512"),
        (
            lattice(512),
            {"patch_size_level0": 256, "patch_size": 128},
            "lie 256 apart, but coords lie 512",
        ),
        (lattice(512), {"overlap": 256}, "overlap is 256, but patch_size is 256"),
        (
            lattice(512),
            {"patch_size_level0": 256},
            "level0 is 256, but patch_size 256 at target_magnification 20",
        ),
        (
            lattice(512),
            {"target_magnification": 5},
            "is 512, but .*target_magnification 5 .* makes 2048",
        ),
        (lattice(512), {"level0_magnification": 20}, "patch_size_level0 is 512, .* level0_magnification 20 makes 256"),
        (lattice(512), {"downsample": 1.0}, "patch_size_level0 is 512, but patch_size 256 × downsample 1 is 256"),
        (lattice(512), {"level_dim": (2000, 2000)}, "level0_width × level0_height is 4096 × 4096, but level_dim"),
        (lattice(512), {"level0_width": 2048}, "patches outside the slide"),
        (lattice(512) + 4096, {}, "64 of its 64 patches outside the slide"),
        (lattice(512) - 9000, {}, "outside the slide"),
        (lattice(512) * 0.25, {}, "overlap is 0"),
        (lattice(512) * 0.2501, {}, "no whole pixels: are they µm"),
        (lattice(512) + 0.5, {}, "no whole pixels"),
        (lattice(512), {"unit": "um"}, "'unit' says that coords are in um"),
        (lattice(512), {"unit": b"Micrometer"}, "'unit' says that coords are in micrometer"),
        (lattice(512), {"tile_size_um": 256.0}, "'tile_size_um' says that coords are in µm"),
        (lattice(512) * np.nan, {}, "not finite, or beyond any slide"),
        (lattice(512) * 1e300, {}, "not finite, or beyond any slide"),
        (lattice(512), {"patch_size_level0": "wide"}, "'patch_size_level0' is 'wide', not a number"),
        (lattice(512), {"patch_size_level0": np.zeros(0)}, "'patch_size_level0' is .*not a number"),
        (lattice(512), {"patch_size_level0": 0}, "does not say how large"),
        (lattice(512), {"patch_size_level0": 1e30, "patch_size": None}, "patch_size"),
        (lattice(512), {"patch_size": 9000, "target_magnification": -1}, "cannot be"),
        (lattice(512), {"level0_width": 1e300}, "'level0_width' is 1e\\+300: that is no slide"),
        (lattice(512), {"overlap": 1e308}, "'overlap' is 1e\\+308: that is no slide"),
        (lattice(256), {"layout": "whatever"}, "overlap is 0"),
    ],
)
def test_what_contradicts_names_the_attribute_and_both_values(tmp_path, coords, change, said):
    with pytest.raises(SlideError, match=said) as error:
        located(tmp_path / "s.h5", coords, TRIDENT | change)
    assert str(tmp_path / "s.h5") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (Frame((4096, 4096), mpp=(0.25, 0.25)), None),
        (Frame((4096, 4096), mpp=(0.2265, 0.2265)), None),
        (Frame((4096, 4096)), None),
        (
            Frame((4096, 4096), mpp=(0.5, 0.5)),
            r"_magnification is 40 \(about 0.25 µm/px\), but the slide has 0.5",
        ),
        (Frame((4000, 4096)), "level0_width × level0_height is 4096 × 4096, but the slide is 4096 × 4000 px"),
        (Frame((8192, 8192)), "but the slide is 8192 × 8192 px"),
    ],
)
def test_the_slide_is_compared_where_it_is_at_hand(tmp_path, frame, said):
    if said is None:
        assert located(tmp_path / "s.h5", lattice(512), TRIDENT, frame).patch_px == 256
        return
    with pytest.raises(SlideError, match=said):
        located(tmp_path / "s.h5", lattice(512), TRIDENT, frame)
    with pytest.raises(SlideError, match=r"mpp is 0\.25, but the slide has 0\.3"):
        located(tmp_path / "s.h5", lattice(512), TRIDENT | {"mpp": 0.25}, Frame((4096, 4096), mpp=(0.3, 0.3)))


def test_clams_contours_have_lattices_of_their_own(tmp_path):
    coords = np.concatenate([lattice(1024, 3, 3, (13, 7)), lattice(1024, 3, 3, (5001, 531))])
    found = located(tmp_path / "s.h5", coords, CLAM)
    assert isinstance(found.patches, PatchPoints)
    assert (found.patches.side, found.patch_px, found.patches.boxes) == (1024, 256, True)
    assert found.patches.slide_shape == (16000, 20000)
    assert isinstance(located(tmp_path / "s.h5", lattice(1024), CLAM).patches, PatchGrid)
    # steps smaller than a patch are CLAM's --step_size; it is not written down
    assert located(tmp_path / "s.h5", lattice(512, 20, 20), CLAM).patches.stride == 512


def test_clams_positions_in_pixels_of_the_level_are_told(tmp_path):
    """As old versions wrote them: as far apart as patches are wide in that level, all in the slide's upper left."""
    with pytest.raises(SlideError, match=r"downsample is 4, .* 1024 px wide at level 0, but coords lie 256 px apart"):
        located(tmp_path / "s.h5", lattice(256), CLAM)
    for change, said in (
        ({"downsample": (1.0, 1.0)}, "patch_level is 1, but downsample is 1"),
        ({"patch_level": 0}, "patch_level is 0, but downsample is 4"),
    ):
        with pytest.raises(SlideError, match=said):
            located(tmp_path / "s.h5", lattice(1024), CLAM | change)


def test_a_file_that_was_written_twice_is_told(tmp_path):
    """CLAM appends: a second run doubles every patch."""
    with pytest.raises(SlideError, match="name most patches twice"):
        located(tmp_path / "s.h5", np.concatenate([lattice(1024)] * 2), CLAM)


def test_our_own_files_round_magnifications_and_are_read(tmp_path):
    """A coarse slide: 32 px patches of 6 µm/px of a slide of 3 µm/px are 1.67×, which is written as 2."""
    about = {"patch_size": 32, "patch_size_level0": 64, "level0_magnification": 3, "target_magnification": 2,
             "overlap": 0, "layout": "grid", "mpp": 3.0}  # fmt: skip
    for frame in (Frame(), Frame(mpp=(3.0, 3.0))):
        found = located(tmp_path / "s.h5", lattice(64), about, frame)
        assert (found.magnification, found.mpp) == (None, 6.0)
    with pytest.raises(SlideError, match=r"mpp is 3, but the slide has 6"):
        located(tmp_path / "s.h5", lattice(64), about, Frame(mpp=(6.0, 6.0)))
    with pytest.raises(SlideError, match="target_magnification 2 of level0_magnification 3 makes 48"):
        located(tmp_path / "s.h5", lattice(64), {key: value for key, value in about.items() if key != "layout"})


def test_the_mpp_of_others_may_be_of_the_slide_or_of_the_patches(tmp_path):
    frame = Frame((4096, 4096), mpp=(0.25, 0.25))
    for mpp in (0.25, 0.5):
        assert located(tmp_path / "s.h5", lattice(512), TRIDENT | {"mpp": mpp}, frame).mpp == 0.5
    with pytest.raises(SlideError, match=r"mpp is 1, but the slide has 0\.25 µm/px"):
        located(tmp_path / "s.h5", lattice(512), TRIDENT | {"mpp": 1.0}, frame)
