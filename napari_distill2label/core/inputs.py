"""What a command reads beside the slides, and what it computes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from .errors import SettingsError
from .messages import Remedy
from .paths import PathLike, may_run_code


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder.

    Attributes
    ----------
    path
        Its file. None: the one that the model was trained with, or none.
    trusted
        Whether the file may be opened although it can hold a program, which then runs (TorchScript).
    """

    path: PathLike | None = None
    trusted: bool = False

    @property
    def may_run_code(self) -> bool:
        """Whether opening the file may run code from it."""
        return self.path is not None and may_run_code(self.path)

    def absolute(self) -> "Encoder":
        """Return the same with an absolute path."""
        return replace(self, path=_absolute(self.path))


@dataclass(frozen=True)
class TissueRegions:
    """Regions of tissue as GeoJSON or a label image, in place of the tissue method of the settings.

    Attributes
    ----------
    source
        One file; a folder with `<slide_id>.geojson` (or `.geojson.gz`) for each slide; or files by slide id, where
        other slides use the tissue method.
    """

    source: PathLike | Mapping[str, PathLike]

    def absolute(self) -> "TissueRegions":
        """Return the same with absolute paths."""
        if isinstance(self.source, Mapping):
            return TissueRegions({slide_id: Path(path).absolute() for slide_id, path in self.source.items()})
        return TissueRegions(Path(self.source).absolute())


FEATURE_DTYPES = ("float32", "float16")  # that features are kept as
MOVABLE = ("centres", "corrections", "region_labels", "tissue")  # files and folders of what somebody says of slides


@dataclass(frozen=True)
class Inputs:
    """What a command reads beside the slides. A command refuses a field that it has no use for.

    Attributes
    ----------
    centres
        CSV, Parquet or GeoJSON of points to centre patches on, in place of a grid; or places of patches of CLAM or
        TRIDENT: an HDF5 file with `coords`, or a folder of them, whose patches are as large as the model's.
    tissue
        Regions outside of which no patch is placed. None: the tissue method of the settings.
    corrections
        Patches whose class the user knows: CSV `slide_id,x,y,label` with a point in each of them; or GeoJSON or a
        label image, whose areas hold for all patches that they cover.
    region_labels
        Annotations (GeoJSON of QuPath, XML) whose classes say that none of a region has the finding, that it is
        somewhere in it, or that all of it has it: "none here", "somewhere here", "all of this".
    label_map, coverage
        For the ground truth and corrections: class of each label that is no class of the model ({"Tumor": "tumour",
        "artefact": ""}; '' leaves a label out, the key "*" stands for all others); share of a patch that an area must
        cover to give its class (None: a half).
    encoder
        The frozen encoder of a model of features.
    features
        Folder of features: CLAM's or TRIDENT's `<slide_id>.h5`, or what `extract_features` wrote. Missing features are
        computed with the encoder and saved there. None: the folder of the run.
    mpp
        Pixel size of the slides in µm/px. It replaces what their files and the table of slides say.
    allow_non_brightfield
        Whether images are accepted that are not brightfield (fluorescence).
    """

    centres: PathLike | None = None
    tissue: TissueRegions | None = None
    corrections: PathLike | None = None
    region_labels: PathLike | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)
    coverage: float | None = None
    encoder: Encoder = Encoder()
    features: PathLike | None = None
    mpp: float | None = None
    allow_non_brightfield: bool = False

    def __post_init__(self) -> None:
        for name, kind, given in (("encoder", Encoder, True), ("tissue", TissueRegions, self.tissue is not None)):
            value = getattr(self, name)
            if given and not isinstance(value, kind):
                raise SettingsError(
                    f"{name} is a value of its own, not {value!r}. Write {name}={kind.__name__}({value!r}).",
                    field=f"inputs.{name}",
                )

    def check_only(self, doing: str, *names: str) -> None:
        """`SettingsError` if a field is given that a command has no use for: it would be ignored without a word."""
        unset = Inputs()
        for each in fields(self):
            if each.name not in names and getattr(self, each.name) != getattr(unset, each.name):
                label = each.name.replace("_", " ")
                raise SettingsError(f"{doing} has no use for {label}.", remedy=Remedy("clear", f"inputs.{each.name}"))

    def absolute(self) -> "Inputs":
        """Return the same with absolute paths, so that they can be saved."""
        return replace(
            self,
            centres=_absolute(self.centres),
            tissue=None if self.tissue is None else self.tissue.absolute(),
            corrections=_absolute(self.corrections),
            region_labels=_absolute(self.region_labels),
            encoder=self.encoder.absolute(),
            features=_absolute(self.features),
        )

    def differences(self, other: "Inputs") -> list[str]:
        """Return the keys (`core.fields`) of what is given here and differs in `other`.

        A file or folder differs only where `other` has none: the same one may have moved. Whether it is the same,
        nobody knows who has not read it. Encoder and features are left out, and `mpp`, which is part of the slides.
        """
        unset, changed = Inputs(), []
        for name in ("centres", "corrections", "region_labels", "label_map", "coverage", "tissue",
                     "allow_non_brightfield"):  # fmt: skip
            given, its = getattr(self, name), getattr(other, name)
            if given != getattr(unset, name) and (its is None if name in MOVABLE else given != its):
                changed.append(f"inputs.{name}")
        return changed


@dataclass(frozen=True)
class Compute:
    """What a command computes on.

    Attributes
    ----------
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        Number format of the network: "float32"; "bfloat16", half again as fast where the processor computes in it, with
        probabilities that differ by up to .01; "auto": bfloat16 where the processor computes in it.
    workers
        Number of processes of this machine. None: threads of this process.
    scheduler
        Address of a dask scheduler (`tls://…`, `tcp://…`), whose workers find model and slides under the same paths.
    """

    device: str = "auto"
    precision: str = "float32"
    workers: int | None = None
    scheduler: str | None = None


def _absolute(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path).absolute()
