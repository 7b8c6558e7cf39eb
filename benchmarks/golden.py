"""Digests of what a small drawn cohort comes to: weights, patch maps, masks, tables, GeoJSON, metrics.

`python -m benchmarks.golden` prints them, `--check` compares them with those in `benchmarks/golden.json` (exit status
1: they differ, a line each), `--write` writes them there. A change that should change no result keeps them.

A digest is of content alone: arrays as bytes with their kind and shape, texts, numbers. Names of settings, networks,
arrays, keys and files are no part of it, so they can be renamed; `Package` is the one place that knows them.

Results are the same to the bit only with the same libraries on the same kind of processor. `golden.json` says which;
elsewhere nothing is compared (exit status 2). Then write digests of your own before your change, and check after it:
`python -m benchmarks.golden --write --file /tmp/golden.json`.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from napari_distill2label.core.inputs import Encoder, Inputs

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a sum depends on how many threads share it

import numpy as np
import torch

FILE = Path(__file__).with_name("golden.json")
SAME, DIFFERENT, NOT_COMPARABLE = 0, 1, 2
N_SLIDES, SHAPE, SEED = 12, (162, 189), 5
N_FEATURES = 24
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "shapely")  # that results depend on

Results = dict[str, dict[str, str]]  # digests by case and by what they are of


class Package:
    """The package, in the words of this module: whatever is renamed there is renamed here, and nowhere below."""

    networks: ClassVar[dict[str, str]] = {"baseline": "baseline", "teacher": "teacher", "student": "student"}
    out_of_fold = ("oof-1", "oof-2", "oof-3")
    arrays = ("probability", "logit", "score", "attention", "contribution")
    formats: ClassVar[dict[str, tuple[str, str]]] = {
        "mask": ("ome-tiff", ".ome.tif"), "picture": ("png", ".png"),
        "table": ("csv", ".csv"), "GeoJSON": ("geojson", ".geojson"),
    }  # fmt: skip
    paper, recommended = ("colon", "paper"), ("colon", "recommended")
    features = ("wsi", "recommended")
    small: ClassVar[dict[str, Any]] = {
        "architecture": {"hidden_dim": 32, "attention_dim": 16},
        "teacher": {"epochs": 8, "learning_rate": 2e-3},
        "oof": {"epochs": 4, "learning_rate": 2e-3},
        "student": {"epochs": 8, "learning_rate": 2e-3},
        "device": "cpu",
    }
    float32: ClassVar[dict[str, Any]] = {"teacher": {"precision": "float32"}, "student": {"precision": "float32"}}
    over_tissue: ClassVar[dict[str, Any]] = {"patches": {"tissue": "white"}}
    patches_of_features: ClassVar[dict[str, Any]] = {"patches": {"size_px": 27, "mpp": 0.5, "tissue": "none"}}

    @staticmethod
    def draw(folder: Path) -> Path:
        """A cohort: the path of its table; truth.csv and centres.csv lie beside it."""
        from napari_distill2label.slides.synthetic import write_cohort

        return write_cohort(folder, n_slides=N_SLIDES, seed=SEED, shape=SHAPE)

    @staticmethod
    def cohort(table: Path, only: Iterable[int] | None = None) -> Any:
        """The slides of a table; `only` those of these numbers."""
        from napari_distill2label.store.cohort import Cohort

        cohort = Cohort.read(table)
        return cohort if only is None else cohort.with_slides([list(cohort)[number] for number in only])

    @classmethod
    def settings(cls, kind: tuple[str, str], *more: Mapping[str, Any]) -> Any:
        from napari_distill2label.core.presets import build_settings
        from napari_distill2label.core.settings import merged

        return build_settings(*kind, merged(cls.small, *more))

    @staticmethod
    def train(
        cohort: Any, folder: Path, settings: Any, encoder: Path | None = None, baseline: bool = False, **inputs: Any
    ) -> Any:
        """A run. `inputs`: `centres`, `corrections`."""
        from napari_distill2label.core.events import drain
        from napari_distill2label.workflow.commands.train import train

        own = Inputs(encoder=Encoder(encoder, trusted=encoder is not None), **inputs)
        return drain(train(cohort, folder, settings, baseline=baseline, inputs=own))

    @classmethod
    def weights(cls, run: Any) -> Iterator[tuple[str, Iterable[torch.Tensor]]]:
        """The trained networks of a run: name, arrays."""
        from napari_distill2label.store.bundle import load_bundle
        from napari_distill2label.store.checkpoint import load_checkpoint

        for name, own in cls.networks.items():
            if own in run.models:
                yield name, load_bundle(run.bundle(own)).model.state_dict().values()
        for number, own in enumerate(cls.out_of_fold, 1):
            if run.checkpoint(own).exists():
                yield f"out-of-fold classifier {number}", load_checkpoint(run.checkpoint(own)).best_weights.values()

    @classmethod
    def predict(
        cls, run: Any, cohort: Any, out: Path | None, network: str = "student", trusted: bool = False,
        stride: int | None = None, threshold: float | None = None, **inputs: Any,
    ) -> list[Any]:  # fmt: skip
        """Patch maps; files of all formats in `out`. `stride`: of a dense map. `inputs`: `centres`."""
        from napari_distill2label.core.events import drain
        from napari_distill2label.workflow.commands.predict import predict

        formats = [name for name, _ in cls.formats.values()]
        return drain(
            predict(
                run,
                cohort,
                out,
                network=cls.networks[network],
                threshold=threshold,
                formats=formats,
                dense_stride=stride,
                inputs=Inputs(encoder=Encoder(trusted=trusted), **inputs),
            )
        )

    @classmethod
    def files(cls, out: Path, kind: str) -> list[Path]:
        return sorted(out.glob(f"*{cls.formats[kind][1]}"))

    @staticmethod
    def labels(patch_map: Any) -> Iterable[np.ndarray]:
        return patch_map.label_layers().values()

    @staticmethod
    def of_slide(patch_map: Any) -> tuple[float, ...]:
        """What the network says of the slide as a whole."""
        return patch_map.bag_probability

    @classmethod
    def evaluate(cls, run: Any, cohort: Any, truth: Path, **inputs: Any) -> dict[str, list[float | None]]:
        """Metrics by network, in the order they are reported in. `inputs`: `centres`."""
        from napari_distill2label.core.evaluation import LEVELS
        from napari_distill2label.core.events import drain
        from napari_distill2label.workflow.commands.evaluate import evaluate

        found = drain(evaluate(run, cohort, truth, split="all", inputs=Inputs(**inputs)))
        return {
            name: [value for level in LEVELS for value in found[own][level].values()]
            for name, own in cls.networks.items()
            if own in found
        }

    @classmethod
    def live(cls, cohort: Any, encoder: Path, folder: Path) -> tuple[dict[str, Iterable[torch.Tensor]], list[Any]]:
        """Weights by network, and the maps, of a live training on features that are computed for it."""
        from napari_distill2label.core.events import drain
        from napari_distill2label.core.settings import PatchSettings
        from napari_distill2label.workflow.commands.extract_features import extract_features
        from napari_distill2label.workflow.live import live, read_features

        drain(
            extract_features(
                cohort,
                folder,
                PatchSettings(**cls.patches_of_features["patches"]),
                inputs=Inputs(encoder=Encoder(encoder, trusted=True)),
            )
        )
        result = drain(live(drain(read_features(cohort, folder)), cohort))
        named = {own: name for name, own in cls.networks.items()}
        return {named[own]: model.state_dict().values() for own, model in result.models.items()}, result.maps


# ---- digests --------------------------------------------------------------------------------------------------------


def of_arrays(arrays: Iterable[np.ndarray | torch.Tensor]) -> str:
    """Digest of arrays in their order: kind, shape and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array.detach().cpu() if isinstance(array, torch.Tensor) else array)
        digest.update(f"{array.dtype.str} {array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def of_weights(arrays: Iterable[torch.Tensor]) -> str:
    """Digest of a network's weights, whatever they are called and in whatever order they are kept."""
    return of_text(" ".join(sorted(of_arrays([array]) for array in arrays)))


def of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def of_numbers(values: object) -> str:
    """Digest of nested lists of numbers and texts, every digit of them."""
    return of_text(json.dumps(values))


def of_geojson(path: Path) -> str:
    """Digest of the features in their order: places, ids, kinds, classes with colours, measured numbers."""
    content = []
    for feature in json.loads(path.read_text("utf-8"))["features"]:
        about = feature["properties"]
        named = list(about["classification"].values())
        content.append([
            feature["id"], feature["geometry"], about["objectType"], named, list(about["measurements"].values())
        ])  # fmt: skip
    return of_numbers(content)


def of_image(path: Path) -> str:
    """Digest of the pixels, at all levels of a pyramid."""
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            return of_arrays([np.asarray(image)])
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        return of_arrays(level.asarray() for level in tiff.series[0].levels)


OF_FILE: dict[str, Callable[[Path], str]] = {
    "mask": of_image,
    "picture": of_image,
    "GeoJSON": of_geojson,
    "table": lambda path: of_text(path.read_text("utf-8")),
}


def of_maps(maps: list[Any], network: str) -> Iterator[tuple[str, str]]:
    """(what, digest) of the patch maps of some slides."""
    for name in Package.arrays:
        yield f"{name} of patches, {network}", of_arrays(getattr(patch_map, name) for patch_map in maps)
    yield f"labels of patches, {network}", of_arrays(label for each in maps for label in Package.labels(each))
    yield f"probability of slides, {network}", of_numbers([list(Package.of_slide(patch_map)) for patch_map in maps])


def of_files(out: Path) -> Iterator[tuple[str, str]]:
    for kind, digest in OF_FILE.items():
        files = Package.files(out, kind)
        if not files:
            raise FileNotFoundError(f"{out}: no {kind} was written; has its suffix changed? See `Package.formats`")
        yield f"{kind}, student", of_text(" ".join(digest(path) for path in files))


def of_run(run: Any) -> Iterator[tuple[str, str]]:
    for name, arrays in Package.weights(run):
        yield f"weights, {name}", of_weights(arrays)


# ---- the cases ------------------------------------------------------------------------------------------------------


def points_by_the_paper(table: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Patches around nuclei, float32, plain MIL as well."""
    centres, cohort = table.with_name("centres.csv"), Package.cohort(table)
    settings = Package.settings(Package.paper, Package.float32)
    run = Package.train(cohort, folder / "run", settings, baseline=True, centres=centres)
    yield from of_run(run)
    few = Package.cohort(table, (0, 1))
    for network in Package.networks:
        out = folder / "out" if network == "student" else None
        yield from of_maps(Package.predict(run, few, out, network, centres=centres), network)
    yield from of_files(folder / "out")
    for network, values in Package.evaluate(run, cohort, table.with_name("truth.csv"), centres=centres).items():
        yield f"metrics, {network}", of_numbers(values)


def grid_as_recommended(table: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """A grid over tissue, in the precision of this processor, with corrections; a dense map too."""
    cohort = Package.cohort(table)
    settings = Package.settings(Package.recommended, Package.over_tissue)
    run = Package.train(cohort, folder / "run", settings, corrections=_corrections(table, folder))
    yield from of_run(run)
    few = Package.cohort(table, (0, 1))
    yield from of_maps(Package.predict(run, few, folder / "out"), "student")
    yield from of_files(folder / "out")
    dense = Package.predict(run, Package.cohort(table, (1,)), folder / "dense", stride=9)
    yield "probability of a dense map, student", of_arrays(patch_map.probability for patch_map in dense)
    for network, values in Package.evaluate(run, cohort, table.with_name("truth.csv")).items():
        yield f"metrics, {network}", of_numbers(values)


def features_of_several_findings(table: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Features of a frozen encoder, slides with two findings at once; and a live training on one finding."""
    encoder = _encoder(folder)
    findings = _relabelled(table, ("normal", "gland", "tumour", "gland;tumour"))
    settings = Package.settings(Package.features, Package.patches_of_features)
    run = Package.train(Package.cohort(findings), folder / "run", settings, encoder)
    yield from of_run(run)
    few = Package.cohort(findings, (0, 3))
    # After so short a training every patch is about as likely as any: a threshold that divides them.
    yield from of_maps(Package.predict(run, few, folder / "out", trusted=True, threshold=0.0505), "student")
    yield from of_files(folder / "out")
    weights, maps = Package.live(Package.cohort(table).with_classes(), encoder, folder / "features")
    for network, arrays in weights.items():
        yield f"weights of a live training, {network}", of_weights(arrays)
    yield "probability of a live training", of_arrays(patch_map.probability for patch_map in maps)


CASES = {
    "points, paper": points_by_the_paper,
    "grid, recommended": grid_as_recommended,
    "features, several findings": features_of_several_findings,
}


def _corrections(table: Path, folder: Path) -> Path:
    """The truth of one nucleus of each slide, as a user's corrections."""
    header, *lines = table.with_name("truth.csv").read_text("utf-8").splitlines()
    first = {line.partition(",")[0]: line for line in reversed(lines)}
    path = folder / "corrections.csv"
    path.write_text("\n".join([header, *first.values(), ""]), "utf-8")
    return path


def _relabelled(table: Path, labels: tuple[str, ...]) -> Path:
    """The same slides with other labels, taken in turn."""
    import csv

    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    path = table.with_name("findings.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"label": labels[index % len(labels)]} for index, row in enumerate(rows))
    return path


def _encoder(folder: Path) -> Path:
    """A frozen encoder with random weights, and its description."""
    torch.manual_seed(SEED)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, N_FEATURES, 5, stride=3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    path = folder / "encoder.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network.eval(), torch.zeros(2, 3, 27, 27)).save(str(path))
    about = {"name": "golden", "patch_px": 27, "mpp": 0.5, "features": N_FEATURES}
    path.with_suffix(".json").write_text(json.dumps(about))
    return path


def measure(cases: Iterable[str] = CASES) -> Results:
    """The digests of these cases."""
    torch.set_num_threads(1)
    results: Results = {}
    with tempfile.TemporaryDirectory() as name:
        table = Package.draw(Path(name) / "cohort")
        for index, case in enumerate(cases):
            folder = Path(name) / str(index)
            folder.mkdir()
            results[case] = dict(CASES[case](table, folder))
    return results


# ---- comparing ------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """What the last bits depend on: processor, libraries, and those that torch computes with."""
    found = {"processor": _processor(), "instructions": torch.backends.cpu.get_cpu_capability()}
    found["python"] = ".".join(platform.python_version_tuple()[:2])
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "not installed"
    for line in torch.__config__.show().splitlines():
        if "Math Kernel Library" in line or "MKL-DNN" in line:
            found["MKL" if "Kernel" in line else "oneDNN"] = line.partition("ersion")[2].strip() or line.strip(" -")
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.exists() else []
    told = dict(tuple(part.strip() for part in line.partition(":")[::2]) for line in lines)
    named = [told[key] for key in ("model name", "cpu family", "model") if key in told]
    return " / ".join(named) or platform.processor() or platform.machine()


def differences(expected: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each digest that is another, is missing, or is new."""
    lines = []
    for case in [*expected, *(case for case in found if case not in expected)]:
        before, now = expected.get(case, {}), found.get(case, {})
        for name in [*before, *(name for name in now if name not in before)]:
            if before.get(name) != now.get(name):
                was, is_now = (digest[:12] if digest else "nothing" for digest in (before.get(name), now.get(name)))
                lines.append(f"{case}: {name}: was {was}, is {is_now}")
    return lines


def check(file: Path, find: Callable[[], Results] = measure) -> tuple[int, list[str]]:
    """Exit status, and lines for people."""
    try:
        written = json.loads(file.read_text("utf-8"))
    except OSError as error:
        return NOT_COMPARABLE, [f"NOT compared: {file} cannot be read ({error.strerror}); make it with --write"]
    here = environment()
    other = [
        f"  {name}: {written['environment'].get(name, 'not noted')} there, {here.get(name, 'none')} here"
        for name in sorted(written["environment"].keys() | here.keys())
        if written["environment"].get(name) != here.get(name)
    ]
    if other:
        head = f"NOT compared: {file.name} was made elsewhere, where results may differ in their last bits:"
        advice = "Write digests of your own before your change (--write --file PATH), and check after it."
        return NOT_COMPARABLE, [head, *other, advice]
    lines = differences(written["digests"], found := find())
    count = sum(len(digests) for digests in found.values())
    if lines:
        return DIFFERENT, [*lines, f"{len(lines)} differ, of {count} digests."]
    return SAME, [f"All {count} digests are the same."]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--check", action="store_true", help="compare; exit status 1: different, 2: not comparable")
    way.add_argument("--write", action="store_true", help="write the file anew")
    parser.add_argument("--file", type=Path, default=FILE, help="default: benchmarks/golden.json")
    options = parser.parse_args(arguments)
    if options.check:
        status, lines = check(options.file)
        print("\n".join(lines))
        return status
    results = measure()
    if options.write:
        options.file.write_text(
            json.dumps({"environment": environment(), "digests": results}, indent=1, ensure_ascii=False) + "\n", "utf-8"
        )
        print(options.file)
        return SAME
    for case, digests in results.items():
        print(case)
        for name, digest in digests.items():
            print(f"  {digest[:16]}  {name}")
    return SAME


if __name__ == "__main__":
    sys.exit(main())
