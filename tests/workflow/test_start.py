"""What a command imports before it works: modules are listed, since seconds depend on the machine."""

import subprocess
import sys

# Each takes .2 to 1 s to import, and serves other work: tables in memory, metrics, masks to edit, napari's pyramids.
OTHER_WORK = {"pandas", "dask", "scipy", "sklearn", "shapely", "distributed", "h5py", "onnxruntime", "napari", "qtpy"}


def test_predicting_imports_what_it_works_with_alone(trained, cohort_csv, tmp_path):
    """From the start of the process to the last file, in every format."""
    arguments = ["predict", str(trained), str(cohort_csv), "-o", str(tmp_path / "out")]
    code = (
        "import sys\nfrom napari_distill2label.cli.main import main\n"
        f"assert main({arguments!r}) == 0\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & OTHER_WORK == set()
    assert {"torch", "zarr", "tifffile"} <= loaded
    assert len(list((tmp_path / "out").glob("*.geojson"))) == 10
