"""What a command imports before it works: modules are listed, since seconds depend on the machine."""

import subprocess
import sys

from napari_distill2label.core.events import drain
from napari_distill2label.workflow.commands.predict import predict

# Each takes .2 to 1 s to import, and serves other work: tables in memory, metrics, masks to edit, napari's pyramids.
OTHER_WORK = {"pandas", "dask", "scipy", "sklearn", "shapely", "distributed", "h5py", "onnxruntime", "napari", "qtpy"}


def loaded_by(*arguments: object) -> set[str]:
    """The packages that a process has loaded when its command has ended, all files written."""
    code = (
        "import sys\nfrom napari_distill2label.cli.main import main\n"
        f"assert main({[*map(str, arguments)]!r}) == 0\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_predicting_imports_what_it_works_with_alone(trained, cohort_csv, tmp_path):
    """In every format."""
    loaded = loaded_by("predict", trained, cohort_csv, "-o", tmp_path / "out")
    assert loaded & OTHER_WORK == set()
    assert {"torch", "zarr", "tifffile"} <= loaded
    assert len(list((tmp_path / "out").glob("*.geojson"))) == 10


def test_what_computes_with_no_network_loads_no_torch(trained, slides, tmp_path):
    """Torch takes a second and 240 MB, more than all else that these commands load."""
    drain(predict(trained, slides[:1], tmp_path / "first", formats=["csv"]))
    formats = "csv,geojson,ome-tiff,report"
    assert "torch" not in loaded_by("export", trained, "-o", tmp_path / "a", "--format", formats)
    assert "torch" not in loaded_by("convert", tmp_path / "a", "-o", tmp_path / "b", "--to", "parquet", "--allow-loss")
    assert "torch" not in loaded_by("segment-tissue", slides[0], "-o", tmp_path / "c")
