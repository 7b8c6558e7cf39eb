"""The settings, declared once: they drive the GUI form, the CLI flags, the table in the docs and the JSON in a bundle.

Symbols are the paper's (Thiagarajan et al., "Distill-to-Label", ICMLA 2019): λ weighs the teacher's terms, eq. (3),
γ the student's, eq. (5).
"""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from .errors import SettingsError
from .text import did_you_mean, shown


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, which are not checked. `TypeError` for a name that is no setting."""
        if unknown := set(update or ()) - set(type(self).model_fields):
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        return super().model_copy(update=update, deep=deep)


SettingsType = TypeVar("SettingsType", bound=BaseModel)


def _setting(
    default: Any,
    title: str,
    description: str,
    *,
    unit: str = "",
    unset: str = "not set",
    names: Mapping[str, str] | None = None,
    basic: bool = False,
    **limits: Any,
) -> Any:
    """Declare a setting.

    Parameters
    ----------
    title, description
        Its name in the window; what it is.
    unit, unset, names
        Unit of its numbers; what the window shows for None; names of values that say too little by themselves.
    basic
        Whether most users look at it. The window folds the others.
    limits
        `ge`, `gt`, `le`, `lt`, `pattern` of pydantic's `Field`.
    """
    shown_as: JsonDict = {"unit": unit, "unset": unset, "names": {**(names or {})}, "basic": basic}
    return Field(default, title=title, description=description, json_schema_extra=shown_as, **limits)


class PatchSettings(_Settings):
    """How a slide is cut into patches.

    A patch has a size in px, a size in µm and a scale; two of them give the third.
    """

    model_config = ConfigDict(title="Patches")

    size_px: int = _setting(
        27, "Patch size (px)", "Side of a patch as the model sees it (px).", unit="px", basic=True, ge=1, le=4096
    )
    size_um: float | None = _setting(
        None,
        "Patch size (µm)",
        "Side of a patch on the slide (µm). With mpp it gives size_px, otherwise it gives mpp.",
        unit="µm",
        basic=True,
        gt=0,
        le=20_000,
    )
    stride_px: int | None = _setting(
        None,
        "Stride (px)",
        "Distance between neighbouring patches (px of the model). Default: the patch size.",
        unit="px",
        unset="patch size",
        basic=True,
        ge=1,
        le=4096,
    )
    stride_um: float | None = _setting(
        None,
        "Stride (µm)",
        "Distance between neighbouring patches on the slide (µm), in place of stride_px. It needs a scale.",
        unit="µm",
        gt=0,
        le=20_000,
    )
    mpp: float | None = _setting(
        None,
        "Patch scale",
        "Pixel size at which patches are cut (µm/px). Default: that of the slide.",
        unit="µm/px",
        unset="slide's own",
        basic=True,
        ge=0.05,
        le=20,
    )
    border: Literal["keep", "drop"] = _setting(
        "keep",
        "Border patches",
        "Patches that reach over the border: keep those whose centre is inside, or drop them.",
    )
    tissue: Literal["none", "white", "otsu"] = _setting(
        "none",
        "Tissue method",
        "Method that finds background pixels. none: there are none; white: min(R, G, B) ≥ white_level; "
        "otsu: Otsu's threshold on saturation.",
        names={"none": "keep all", "white": "drop white", "otsu": "find tissue"},
        basic=True,
    )
    white_level: int = _setting(
        220, "White threshold", "Darkest channel of a background pixel, with the method white (0–255).", ge=0, le=255
    )
    max_background: float = _setting(
        0.75,
        "Maximum background",
        "Fraction of background pixels from which a patch is dropped.",
        basic=True,
        gt=0,
        le=1,
    )

    @model_validator(mode="after")
    def _work_out(self) -> Self:
        """Fill in what the lengths in µm say; what was worked out does not count as set."""
        given = self.model_fields_set
        if self.size_um is not None:
            if self.mpp is None:
                self._fill("mpp", self.size_um / self.size_px)
            else:
                px = max(1, round(self.size_um / self.mpp))
                if "size_px" in given and px != self.size_px:
                    raise ValueError(
                        f"size_um {self.size_um:g} at mpp {self.mpp:g} is {px} px, not size_px {self.size_px}: "
                        "leave one of them out"
                    )
                self._fill("size_px", px)
        if self.stride_um is not None and self.mpp is not None:
            px = max(1, round(self.stride_um / self.mpp))
            if self.stride_px not in (None, px):
                raise ValueError(
                    f"stride_um {self.stride_um:g} at mpp {self.mpp:g} is {px} px, not stride_px {self.stride_px}: "
                    "leave one of them out"
                )
            self._fill("stride_px", px)
        return self

    def _fill(self, name: str, value: float) -> None:
        """Set a field of this frozen model to a value worked out, within the field's range."""
        limits = {type(limit).__name__: limit for limit in type(self).model_fields[name].metadata}
        low, high = limits["Ge"].ge, limits["Le"].le
        if not low <= value <= high:
            raise ValueError(f"{name} would be {value:.4g}, which is not between {low:g} and {high:g}")
        object.__setattr__(self, name, value)

    def with_encoder_defaults(self, size_px: int, mpp: float | None) -> "PatchSettings":
        """Return the same settings with an encoder's patch size and scale, where the user has set neither of them.

        Raises
        ------
        SettingsError
            If they do not fit what is set.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        own: dict[str, Any] = {"mpp": mpp}
        if given.get("size_um") is None:
            own["size_px"] = size_px
        elif "size_px" in given:  # the user has set the size in µm and in px, and so the scale
            own = {}
        return validated(PatchSettings, own | given, "patches")


class ArchitectureSettings(_Settings):
    """The network: encoder, pooling, one linear head."""

    model_config = ConfigDict(title="Network")

    encoder: Literal["colon", "breast", "lenet5", "features"] = _setting(
        "colon",
        "Encoder",
        "Encoder of a patch: convolutions, or a projection of a frozen encoder's features.",
        basic=True,
    )
    pooling: Literal["gated", "attention", "mean", "max"] = _setting(
        "gated", "Pooling", "How patches are combined to a slide's score, eq. (1).", basic=True
    )
    hidden_dim: int = _setting(512, "Hidden units", "Width of the fully connected layers.", ge=1, le=8192)
    attention_dim: int = _setting(
        128, "Attention width", "L, the width of the attention network, eq. (2).", ge=1, le=4096
    )
    dropout: float = _setting(0.5, "Dropout", "Dropout after the fully connected layers.", ge=0, lt=1)
    multi_label: bool = _setting(
        False,
        "Several findings per slide",
        "Whether a slide can have several findings. Each class then has a sigmoid of its own.",
        basic=True,
    )


class TrainingSettings(_Settings):
    """What the trainings of all networks have in common."""

    epochs: int = _setting(16, "Epochs", "Number of passes over the training bags.", unit="epochs", ge=1, le=100_000)
    keep_epoch: Literal["best", "last"] = _setting(
        "best",
        "Epoch to keep",
        "Epoch whose weights are kept: the one with the lowest validation loss, or the last.",
        names={"best": "the best", "last": "the last"},
        basic=True,
    )
    optimiser: Literal["adam", "rmsprop"] = _setting("adam", "Optimiser", "Rule of gradient descent.")
    learning_rate: float = _setting(1e-4, "Learning rate", "Step size of the optimiser.", basic=True, gt=0, le=1)
    schedule: Literal["constant", "cosine"] = _setting(
        "constant",
        "Learning-rate schedule",
        "Learning-rate schedule: constant, or cosine decay to 0.",
        names={"constant": "constant", "cosine": "falling to 0"},
    )
    weight_decay: float = _setting(5e-4, "Weight decay", "L2 penalty on the weights.", ge=0, le=1)
    batch_size: int = _setting(
        1, "Batch size (bags)", "Number of bags per step.", unit="bags", basic=True, ge=1, le=1024
    )
    pseudo_bag_size: int | None = _setting(
        None,
        "Pseudo-bag size",
        "Largest pseudo-bag. In every epoch, larger bags are split at random into pseudo-bags of at most this many "
        "patches. Default: bags stay whole.",
        unit="patches",
        unset="whole slide",
        ge=1,
        le=1_000_000,
    )
    max_patches_per_bag: int = _setting(
        4096,  # colon: 1 MB each in a teacher's step, breast: 2.4 MB
        "Maximum patches per bag",
        "Largest bag of pixels that is trained on whole. In every epoch, a random sample of this size is drawn from a "
        "larger one. Bags of features are never subsampled.",
        unit="patches",
        ge=1,
        le=1_000_000,
    )
    rotate_flip: bool = _setting(
        False,
        "Rotate and flip",
        "Whether the patches of a step are rotated by right angles and mirrored at random (beyond the paper).",
        basic=True,
    )
    stain_jitter: float = _setting(
        0.0,
        "Stain jitter",
        "Spread of a random change of every patch's optical density (beyond the paper). 0: none.",
        basic=True,
        ge=0,
        le=1,
    )
    precision: Literal["auto", "float32", "bfloat16"] = _setting(
        "auto", "Precision", "Number format of the encoder. auto: bfloat16 if the processor supports it."
    )


class TeacherSettings(TrainingSettings):
    """Eq. (3): bag classification and the three consistency terms the paper calls VAT."""

    model_config = ConfigDict(title="Teacher")

    epochs: int = _setting(
        16, "Teacher epochs", "Number of passes over the training bags.", unit="epochs", basic=True, ge=1, le=100_000
    )
    lambda_c: float = _setting(1.0, "λc: slide label", "λc, weight of bag classification.", ge=0, le=100)
    lambda_n: float = _setting(
        0.5, "λn: noise", "λn, weight of giving the same output with noise instances added.", ge=0, le=100
    )
    lambda_d: float = _setting(
        0.3, "λδ: perturbation", "λδ, weight of giving the same output with every instance perturbed.", ge=0, le=100
    )
    lambda_e: float = _setting(
        0.3, "λe: subsets", "λe, weight of the entropy of the output for a subset of the bag.", ge=0, le=100
    )
    noise_ratio: float = _setting(
        0.5, "Noise ratio", "Number of noise instances per instance: max(1, round(noise_ratio · K)).", gt=0, le=10
    )
    perturbation_radius: float = _setting(
        1.0,
        "Perturbation radius (δ)",
        "δ, the L2 radius of the perturbation, in units of the 0–1 image. Of a feature, 0–1 is its mean ∓ √3 standard "
        "deviations.",
        ge=0,
        le=1000,
    )
    perturbation: Literal["random", "adversarial"] = _setting(
        "random",
        "Perturbation",
        "Direction of the perturbation: random in the ball (the paper), or the worst direction (Miyato 2018).",
    )
    subset_fraction: float = _setting(
        0.5,
        "Subset fraction",
        "Fraction of the bag in a subset: max(1, round(subset_fraction · K)) instances.",
        gt=0,
        le=1,
    )
    subset_size: Literal["fixed", "uniform"] = _setting(
        "fixed",
        "Subset size",
        "Size of a subset: subset_fraction · K, or uniform between 1 and subset_fraction · K.",
        names={"fixed": "fixed", "uniform": "random"},
    )
    n_subsets: int = _setting(1, "Subsets per step", "Number of subsets averaged per step (breast: 5).", ge=1, le=100)


class OutOfFoldSettings(TrainingSettings):
    """Beyond the paper: out-of-fold classifiers, which learn the labels that patches inherit from their slides.

    Slides are assigned to folds. The classifier that has not seen a fold predicts its patches, for the student (γo).
    """

    model_config = ConfigDict(title="Helper models")

    folds: int = _setting(
        3, "Folds", "Number of folds. One out-of-fold classifier is trained per fold.", unit="folds", ge=2, le=20
    )
    teacher_weight: float = _setting(
        0.0,
        "Teacher weight",
        "Weight of the teacher's scores in the blend with those of the out-of-fold classifiers (as standard scores).",
        ge=0,
        le=1,
    )
    smoothing_neighbours: int = _setting(
        0,
        "Smoothing neighbours",
        "Number of neighbours. A patch's target is the mean of its own score and the mean score of its neighbours.",
        unit="patches",
        ge=0,
        le=100,
    )


class StudentSettings(TrainingSettings):
    """Eq. (5): bag classification, distillation of bag and instances, entropy of the instances."""

    model_config = ConfigDict(title="Student")

    epochs: int = _setting(
        16, "Student epochs", "Number of passes over the training bags.", unit="epochs", basic=True, ge=1, le=100_000
    )
    gamma_c: float = _setting(0.3, "γc: slide label", "γc, weight of bag classification.", ge=0, le=100)
    gamma_b: float = _setting(0.5, "γb: teacher, slide", "γb, weight of the distillation of the bag.", ge=0, le=100)
    gamma_i: float = _setting(
        0.5, "γi: teacher, patch", "γi, weight of the distillation of the instances.", basic=True, ge=0, le=100
    )
    gamma_e: float = _setting(0.1, "γe: certainty", "γe, weight of the entropy of the instances.", ge=0, le=100)
    gamma_n: float = _setting(
        0.0,
        "γn: negative slides",
        "γn, weight of the rule that every patch of a negative slide is negative (beyond the paper).",
        basic=True,
        ge=0,
        le=100,
    )
    gamma_oof: float = _setting(
        0.0,
        "γo: helper models",
        "γo, weight of the distillation of the out-of-fold classifiers (beyond the paper).",
        basic=True,
        ge=0,
        le=100,
    )
    gamma_corrections: float = _setting(
        1.0,
        "γk: your corrections",
        "γk, weight of the patches that the user corrected. Without corrections it has no effect.",
        basic=True,
        ge=0,
        le=100,
    )
    gamma_regions: float = _setting(
        1.0,
        "γr: your regions",
        "γr, weight of what the user says of regions: none, some or all of it. Without regions it has no effect.",
        ge=0,
        le=100,
    )
    gamma_share: float = _setting(
        1.0,
        "γs: your shares",
        "γs, weight of the shares of positive patches that the user estimates. Without shares it has no effect.",
        ge=0,
        le=100,
    )
    temperature: float = _setting(
        2.0, "τ: temperature", "τ, which softens teacher and student, eq. (4).", basic=True, ge=0.1, le=100
    )
    instance_reduction: Literal["mean", "sum"] = _setting(
        "mean",
        "Reduction over patches",
        "Reduction over the instances of a bag. The paper sums, which weighs bags by their size.",
    )
    slide_loss_trains: Literal["all", "attention"] = _setting(
        "all",
        "Slide loss trains",
        "Weights that the bag's terms (γc, γb) train: all, or attention alone.",
        names={"all": "everything", "attention": "attention"},
    )
    initial_weights: Literal["random", "teacher"] = _setting(
        "random",
        "Initial weights",
        "Initial weights of the student.",
        names={"random": "random", "teacher": "the teacher's"},
    )
    calibrate: bool = _setting(
        False,
        "Calibration",
        "Whether scores are made probabilities, from the labels of training and validation slides.",
        basic=True,
    )

    @model_validator(mode="after")
    def _is_taught(self) -> "StudentSettings":
        if self.slide_loss_trains == "attention" and not (self.gamma_i or self.gamma_oof or self.gamma_n):
            raise ValueError("nothing teaches the student what a patch is: give gamma_i, gamma_oof or gamma_n a weight")
        return self


class SplitSettings(_Settings):
    """How labelled slides without a `split` are divided: by case, stratified by label."""

    model_config = ConfigDict(title="Data split")

    valid: float = _setting(0.1, "Validation", "Fraction of the slides that picks the epoch.", basic=True, ge=0, lt=1)
    test: float = _setting(0.2, "Test", "Fraction of the slides held out for evaluation.", basic=True, ge=0, lt=1)


class Settings(_Settings):
    """Everything that decides a run, beside its cohort."""

    preset: str = _setting("colon", "Kind of images", "Kind of images.")
    method: str = _setting("recommended", "Method", "Method: the best we know, or the paper's letter.")
    bag: Literal["slide", "case"] = _setting(
        "slide",
        "A label is of",
        "What a label is of: a slide, or a case. Then all slides of a case_id are one bag with one label.",
        names={"slide": "a slide", "case": "a case"},
        basic=True,
    )
    seed: int = _setting(
        0, "Random seed", "Random seed for splits, initial weights and perturbations.", basic=True, ge=0, lt=2**31
    )
    device: str = _setting("auto", "Device", "Device that computes.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    patches: PatchSettings = PatchSettings()
    architecture: ArchitectureSettings = ArchitectureSettings()
    teacher: TeacherSettings = TeacherSettings()
    oof: OutOfFoldSettings = OutOfFoldSettings()
    student: StudentSettings = StudentSettings()
    split: SplitSettings = SplitSettings()


def validated(kind: type[SettingsType], data: Mapping[str, Any], origin: str = "settings") -> SettingsType:
    """Build settings from untrusted data; `SettingsError` names the first field that does not fit, and `origin`."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        if first["type"] == "value_error":  # of a model as a whole, which has said it all
            raise SettingsError(f"{origin}: {field}: {first['ctx']['error']}") from None
        if first["type"] == "extra_forbidden":
            raise SettingsError(_unknown_setting(kind, first["loc"], origin)) from None
        raise SettingsError(f"{origin}: {field}: {first['msg']} (got {reprlib.repr(first['input'])})") from None


def model_of(group: str) -> type[BaseModel]:
    """Return the model of a group of settings (`teacher`, `patches`, …); of all for ""."""
    return cast("type[BaseModel]", Settings.model_fields[group].annotation) if group else Settings


def _unknown_setting(kind: type[BaseModel], location: Sequence[str | int], origin: str) -> str:
    """Return a message on a setting that does not exist, with the most similar one of its group."""
    *groups, name = map(str, location)
    for group in groups:
        kind = cast("type[BaseModel]", kind.model_fields[group].annotation)
    prefix = "".join(f"{group}." for group in groups)
    start = "" if origin == "settings" else f"{origin}: "
    return f"{start}There is no setting {shown(prefix + name)}.{did_you_mean(name, kind.model_fields, prefix)}"


def merged(base: Mapping[str, Any], *layers: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with nested `layers` laid over it, the later ones on top."""
    result = dict(base)
    for layer in layers:
        for key, value in layer.items():
            below = result.get(key)
            result[key] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


def without_keys(data: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """Nested `data` without the values at these paths ("patches.size_px"), nor what they leave empty."""
    result = dict(data)
    for path in paths:
        name, _, rest = path.partition(".")
        if rest and isinstance(result.get(name), Mapping):
            result[name] = without_keys(result[name], [rest])
        if not rest or result.get(name) == {}:
            result.pop(name, None)
    return result
