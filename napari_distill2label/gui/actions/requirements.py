"""What is missing for each action: pure functions, asked by buttons again and again, and by the actions themselves."""

from dataclasses import dataclass

from ...core.classes import split_label
from ...core.inputs import Inputs
from ...core.settings import Settings
from ..project.corrections import Corrections
from ..project.project import Project
from ..project.training_choices import TrainingChoices

NO_CLASSES = "Name the classes first, the negative one first."
UNUSED = "their slides have no label, or are kept for validation or test"


@dataclass(frozen=True)
class Requirement:
    """What is missing, in a sentence, and the step of the dock (1 to 5) in which it can be had."""

    problem: str
    step: int

    def __str__(self) -> str:
        return self.problem


def problem_of(requirement: Requirement | None) -> str | None:
    """The sentence for the label beside a button; None where nothing is missing."""
    return None if requirement is None else requirement.problem


def train(project: Project, choices: TrainingChoices, inputs: Inputs = Inputs()) -> Requirement | None:
    """Return what is missing for a training. The chosen encoder and features count where `inputs` name none."""
    classes = project.classes
    names = [name for row in project.cohort.labelled for name in split_label(row.label)]
    if not len(project.cohort):
        return Requirement("Add slides first.", 1)
    if len(classes) < 2:
        return Requirement(NO_CLASSES, 1)
    if unknown := [name for name in names if name not in classes]:
        return Requirement(f"The label {unknown[0]!r} is none of the classes {', '.join(classes)}.", 1)
    if classes[0] not in names:
        return Requirement(f"Label at least one slide {classes[0]!r}: the negative class.", 1)
    if len(set(names)) < 2:
        return Requirement(f"Label at least one slide {' or '.join(repr(name) for name in classes[1:])}.", 1)
    settings = choices.settings
    if settings.architecture.encoder != "features":
        return None
    is_named = bool(inputs.encoder.path or inputs.features)
    if not (is_named or choices.encoder or choices.feature_folder):
        return Requirement(f"The kind of images {choices.preset!r} needs a frozen encoder. Choose its ONNX file.", 2)
    return encode(choices, settings) if choices.encoder and not is_named else None


def encode(choices: TrainingChoices, settings: Settings) -> Requirement | None:
    """What stands against computing with the chosen encoder."""
    if choices.encoder is None:
        return Requirement("Choose the encoder's file first.", 2)
    about, side = choices.encoder_about, settings.patches.size_px
    if about is not None and side < about.minimum_px:
        problem = f"Patches of {side} px are too small for this encoder: {about.minimum_px} or more."
        return Requirement(problem, 2)
    return Requirement(choices.encoder_problem, 2) if choices.encoder_problem else None


def predict(project: Project, model_is_coming: bool) -> Requirement | None:
    """What is missing for a prediction. `model_is_coming`: a training or a loading that has begun brings one."""
    if project.model is None and not model_is_coming:
        return Requirement("Train first, or load a run or a model bundle.", 2)
    return None if len(project.cohort) else Requirement("Add slides first.", 1)


def promise(project: Project) -> Requirement | None:
    """What is missing for a threshold that keeps a promise: negative slides that are predicted."""
    if not project.classes:
        return Requirement(NO_CLASSES, 1)
    negative = project.classes[0]
    if any(row.label == negative and project.map_of(row.slide_id) for row in project.cohort):
        return None
    return Requirement(f"Predict slides labelled {negative!r} first. A promise rests on them.", 3)


def sample(project: Project) -> Requirement | None:
    """What is missing for a random sample: slides that a calibrated network has predicted."""
    own = None if project.model is None else project.model.calibrations.get(project.network or "")
    if own is None and project.model is not None:
        return Requirement("Only a calibrated student can be re-calibrated. Choose that network.", 3)
    if own is not None and own.n_sample:
        return Requirement(f"This model is re-calibrated already, by {own.n_sample} patches.", 3)
    if not project.maps():
        return Requirement("Predict the slides of the new cohort first. A sample is drawn from them.", 3)
    return None


def export(project: Project) -> Requirement | None:
    """What is missing for an export."""
    return None if project.maps() else Requirement("Predict first: there is nothing to export yet.", 3)


def compare(project: Project) -> Requirement | None:
    """What is missing for a comparison with a ground truth."""
    if project.maps():
        return None
    return Requirement("Predict first: what is predicted is compared with the truth.", 3)


def retrain(project: Project, choices: TrainingChoices, corrections: Corrections) -> Requirement | None:
    """What is missing for a training with corrections."""
    if not len(corrections):
        return Requirement("Correct some patches first.", 4)
    settings = choices.settings
    if not settings.student.gamma_corrections:
        problem = "The settings ignore corrections: give ‘γk: your corrections’ of the student a weight, in step 2."
        return Requirement(problem, 2)
    if (missing := train(project, choices)) is not None:
        return missing
    if corrections.count_unused(settings) == len(corrections):
        return Requirement(f"No correction would count: {UNUSED}. Correct patches of another slide.", 4)
    return None
