"""The settings, declared once: they drive the GUI form, the CLI flags, the table in the docs and the JSON in a bundle.

Symbols are the paper's (Thiagarajan et al., "Distill-to-Label", ICMLA 2019): λ weighs the teacher's terms, eq. (3),
γ the student's, eq. (5).
"""

import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from .errors import SettingsError
from .text import did_you_mean, shown


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


SettingsType = TypeVar("SettingsType", bound=BaseModel)


class GridSettings(_Settings):
    """How a slide is cut into patches.

    A patch has a side in px, a side in µm and a scale; two of them give the third.
    """

    patch_px: int = Field(27, ge=1, le=4096, description="side of a patch as the model sees it (px)")
    patch_um: float | None = Field(
        None, gt=0, le=20_000, description="side of a patch on the slide (µm); with mpp it gives patch_px, else mpp"
    )
    stride_px: int | None = Field(
        None, ge=1, le=4096, description="from patch to patch (px of the model); none: patch_px"
    )
    stride_um: float | None = Field(
        None, gt=0, le=20_000, description="from patch to patch on the slide (µm), instead of stride_px; needs a scale"
    )
    mpp: float | None = Field(None, ge=0.05, le=20, description="µm/px that patches are cut at; none: the slide's own")
    edge: Literal["reflect", "drop"] = Field(
        "reflect", description="patches over the border: keep those whose centre is inside, or drop them"
    )
    tissue: Literal["all", "white", "otsu"] = Field(
        "all", description="pixels that count as background: none; min(R, G, B) >= white_level; Otsu on saturation"
    )
    white_level: int = Field(220, ge=0, le=255, description="rule 'white': darkest channel of a background pixel")
    background_fraction: float = Field(
        0.75, gt=0, le=1, description="a patch with at least this fraction of background pixels is dropped"
    )

    @model_validator(mode="after")
    def _work_out(self) -> Self:
        """Fill in what the lengths in µm say; what was worked out does not count as set."""
        given = self.model_fields_set
        if self.patch_um is not None:
            if self.mpp is None:
                self._fill("mpp", self.patch_um / self.patch_px)
            else:
                px = max(1, round(self.patch_um / self.mpp))
                if "patch_px" in given and px != self.patch_px:
                    raise ValueError(
                        f"patch_um {self.patch_um:g} at mpp {self.mpp:g} is {px} px, not patch_px {self.patch_px}: "
                        "leave one of them out"
                    )
                self._fill("patch_px", px)
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

    def with_encoder_defaults(self, patch_px: int, mpp: float | None) -> "GridSettings":
        """The same grid with an encoder's side and scale, where the user has set neither nor anything that gives them.

        `SettingsError` if they do not fit what is set.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        own: dict[str, Any] = {"mpp": mpp}
        if given.get("patch_um") is None:
            own["patch_px"] = patch_px
        elif "patch_px" in given:  # its side in µm and px is the user's, and so the scale
            own = {}
        return validated(GridSettings, own | given, "grid")


class ModelSettings(_Settings):
    """The network: encoder, pooling, one linear head."""

    encoder: Literal["colon", "breast", "lenet5", "features"] = Field(
        "colon", description="convolutions over a patch, or a projection of a frozen encoder's features"
    )
    pooling: Literal["gated", "attention", "mean", "max"] = Field(
        "gated", description="how a bag is summarised, eq. (1)"
    )
    hidden: int = Field(512, ge=1, le=8192, description="width of the fully connected layers")
    attention: int = Field(128, ge=1, le=4096, description="L, width of the attention network, eq. (2)")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout after the fully connected layers")
    several: bool = Field(False, description="several classes can be present in one slide: one sigmoid per class")


class TrainingSettings(_Settings):
    """What the training of the teacher and of the student have in common."""

    epochs: int = Field(16, ge=1, le=100_000, description="passes over the training bags")
    select: Literal["best", "last"] = Field("best", description="which epoch: lowest validation bag loss, or the last")
    optimiser: Literal["adam", "rmsprop"] = Field("adam", description="gradient descent rule")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="step size")
    schedule: Literal["constant", "cosine"] = Field(
        "constant", description="of the step size: the same throughout, or falling to 0 along half a cosine"
    )
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on the weights")
    batch_bags: int = Field(1, ge=1, le=1024, description="bags per step")
    bag_patches: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="larger bags are dealt anew in every epoch to several of at most so many patches; none: kept whole",
    )
    max_bag_patches: int = Field(
        4096,  # colon: 1 MB each in a teacher's step, breast: 2.4 MB
        ge=1,
        le=1_000_000,
        description="of a larger bag of pixels that is kept whole, every epoch trains on so many patches, drawn anew; "
        "bags of features are never thinned",
    )
    augment: Literal["none", "turns"] = Field(
        "none", description="turn a step's patches by right angles and mirror them (beyond the paper)"
    )
    stain: float = Field(
        0.0,
        ge=0,
        le=1,
        description="restain every patch a little: spread of its optical density (beyond the paper)",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the encoder; auto: bfloat16 where the processor has it"
    )


class TeacherSettings(TrainingSettings):
    """Eq. (3): bag classification and the three consistency terms the paper calls VAT."""

    lambda_c: float = Field(1.0, ge=0, le=100, description="λc: bag classification")
    lambda_n: float = Field(0.5, ge=0, le=100, description="λn: same answer with noise instances added")
    lambda_d: float = Field(0.3, ge=0, le=100, description="λδ: same answer with every instance perturbed")
    lambda_e: float = Field(0.3, ge=0, le=100, description="λe: entropy of the answer for a subset of the bag")
    noise: float = Field(0.5, gt=0, le=10, description="noise instances per instance: max(1, round(noise · K))")
    delta: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="δ: L2 radius of the perturbation, in units of the 0–1 image; of a feature, 0–1 is its mean ∓ √3 "
        "standard deviations",
    )
    ball: Literal["random", "adversarial"] = Field(
        "random", description="perturbation drawn in the ball (the paper), or its worst direction (Miyato 2018)"
    )
    keep: float = Field(0.5, gt=0, le=1, description="fraction of the bag in a subset: max(1, round(keep · K))")
    subset: Literal["fixed", "uniform"] = Field(
        "fixed", description="subset size: keep · K, or uniform between 1 and keep · K"
    )
    realizations: int = Field(1, ge=1, le=100, description="subsets averaged per step (breast: 5)")


class AssistantSettings(TrainingSettings):
    """Beyond the paper: patch classifiers that learn the labels patches inherit from their slides.

    Slides are dealt to parts; the assistant that has not seen a part answers for its patches, for the student (γa).
    """

    parts: int = Field(3, ge=2, le=20, description="parts that slides are dealt to, and assistants")
    teacher_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the teacher's answers in what is made of theirs (in standard scores)",
    )
    neighbours: int = Field(
        0, ge=0, le=100, description="an answer is half the patch's own, half that of its so many nearest patches"
    )


class StudentSettings(TrainingSettings):
    """Eq. (5): bag classification, distillation of bag and instances, entropy of the instances."""

    gamma_c: float = Field(0.3, ge=0, le=100, description="γc: bag classification")
    gamma_b: float = Field(0.5, ge=0, le=100, description="γb: distillation of the bag")
    gamma_i: float = Field(0.5, ge=0, le=100, description="γi: distillation of the instances")
    gamma_e: float = Field(0.1, ge=0, le=100, description="γe: entropy of the instances")
    gamma_n: float = Field(
        0.0, ge=0, le=100, description="γn: every patch of a negative slide is negative (beyond the paper)"
    )
    gamma_a: float = Field(
        0.0, ge=0, le=100, description="γa: distillation of the assistants' answers (beyond the paper)"
    )
    gamma_k: float = Field(
        1.0, ge=0, le=100, description="γk: patches the user corrected (nothing without corrections)"
    )
    temperature: float = Field(2.0, ge=0.1, le=100, description="τ: softens teacher and student, eq. (4)")
    instance_reduction: Literal["mean", "sum"] = Field(
        "mean", description="over the instances of a bag; the paper sums, which weighs bags by their size"
    )
    bag_gradient: Literal["all", "attention"] = Field(
        "all", description="what the bag's terms (γc, γb) train: all weights, or attention alone"
    )
    init: Literal["fresh", "teacher"] = Field("fresh", description="the student's first weights")
    calibrate: Literal["none", "slides"] = Field(
        "none", description="make scores probabilities, from the labels of training and validation slides"
    )

    @model_validator(mode="after")
    def _is_taught(self) -> "StudentSettings":
        if self.bag_gradient == "attention" and not (self.gamma_i or self.gamma_a or self.gamma_n):
            raise ValueError("nothing teaches the student what a patch is: give gamma_i, gamma_a or gamma_n a weight")
        return self


class SplitSettings(_Settings):
    """How labelled slides without a `split` are divided: by case, stratified by label."""

    valid: float = Field(0.1, ge=0, lt=1, description="fraction of the slides that picks the epoch")
    test: float = Field(0.2, ge=0, lt=1, description="fraction of the slides kept for evaluation")


class Settings(_Settings):
    """Everything that decides a run, beside its cohort."""

    preset: str = Field("colon", description="the kind of images")
    recipe: str = Field("default", description="the method: the paper's letter, or the best we know")
    seed: int = Field(0, ge=0, lt=2**31, description="of splits, weights and perturbations")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="where to compute")
    grid: GridSettings = GridSettings()
    model: ModelSettings = ModelSettings()
    teacher: TeacherSettings = TeacherSettings()
    assistant: AssistantSettings = AssistantSettings()
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
    """Nested `data` without the values at these paths ("grid.patch_px"), nor what they leave empty."""
    result = dict(data)
    for path in paths:
        name, _, rest = path.partition(".")
        if rest and isinstance(result.get(name), Mapping):
            result[name] = without_keys(result[name], [rest])
        if not rest or result.get(name) == {}:
            result.pop(name, None)
    return result
