"""What teacher and student minimise: eq. (3) and eq. (5), as named terms.

An objective is called with the network and a `Batch` and returns its terms unweighted, by name; `weights` says what
each counts. Plain MIL is the teacher's objective with only λ_c. Ours work in two parts: `judge` looks at instances one
by one, which takes all of the time, and `terms` compares what was found. So a batch too large to be judged in a moment
is judged in runs (`training.backward`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from ..core.bag import UNKNOWN
from ..core.settings import AssistantSettings, StudentSettings, TeacherSettings
from . import losses
from .augmentation import augmented
from .lessons import Batch, Piece
from .model import Judged, MILModel, MILOutput
from .perturbations import adversarial_start, noise_instances, norm_ball, scaled_to, subset, subset_size


class Objective(Protocol):
    """What training minimises: the sum of its terms, each times its weight."""

    weights: Mapping[str, float]

    def __call__(self, model: MILModel, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, unweighted scalars by name (the keys of `weights`)."""


class InTwoParts(ABC):
    """An objective whose instances are judged one by one, all of a batch or run by run, before they are compared."""

    weights: Mapping[str, float]
    divisible = True  # is a bag judged in runs judged as well as at once?

    @abstractmethod
    def judge(self, model: MILModel, instances: Tensor, pieces: Sequence[Piece]) -> dict[str, Judged]:
        """What the network says of the raw instances of these pieces of bags, and of those made from them, by name."""

    @abstractmethod
    def terms(self, model: MILModel, judged: Mapping[str, Judged], batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss, from what `judge` said of all of the batch."""

    def __call__(self, model: MILModel, batch: Batch) -> dict[str, Tensor]:
        return self.terms(model, self.judge(model, batch.instances, batch.pieces), batch)


def _bag_loss(model: MILModel, batch: Batch, bag_logits: Tensor) -> Tensor:
    several = model.settings.several
    target = losses.target_probabilities(batch.target, several)
    return losses.cross_entropy(target, losses.log_probabilities(bag_logits, several)).mean()


@contextmanager
def _exact(model: MILModel) -> Iterator[None]:
    """Without dropout and in float32: the answer to a very small change would drown in either."""
    training, dtype = model.training, model.dtype
    model.eval()
    model.dtype = torch.float32
    try:
        yield
    finally:
        model.train(training)
        model.dtype = dtype


class TeacherObjective(InTwoParts):
    """Eq. (3). Only noise and perturbed instances are encoded anew; the clean features serve all other terms.

    T(X) is a constant in L_n and L_δ (no gradient), as in virtual adversarial training (Miyato 2018).
    Terms: `class`, `noise`, `ball`, `entropy`; a term whose λ is 0 costs nothing and is left out.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        weights = {
            "class": settings.lambda_c,
            "noise": settings.lambda_n,
            "ball": settings.lambda_d,
            "entropy": settings.lambda_e,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight or name == "class"}
        # The worst direction is that of the whole bag.
        self.divisible = "ball" not in self.weights or settings.ball == "random"

    def judge(self, model: MILModel, instances: Tensor, pieces: Sequence[Piece]) -> dict[str, Judged]:
        """The instances as they are (`own`), perturbed (`ball`), and the noise instances of these pieces (`noise`)."""
        clean = augmented(model.unit(instances), self.settings)
        parts = {"own": clean}
        if "noise" in self.weights:
            parts["noise"] = noise_instances(sum(map(self.noise_count, pieces)), clean)
        if "ball" in self.weights:
            parts["ball"] = clean + self.perturbation(model, clean, [len(piece) for piece in pieces])
        # One pass over everything that must be encoded, and one judgement of every instance.
        names, sizes, together = list(parts), [len(part) for part in parts.values()], torch.cat(list(parts.values()))
        del clean, parts  # of a large bag, half a gigabyte each
        return dict(zip(names, model.judge(model.encode(together)).split(sizes), strict=True))

    def terms(self, model: MILModel, judged: Mapping[str, Judged], batch: Batch) -> dict[str, Tensor]:
        own = judged["own"]
        answer = model.pool(own, batch.lengths)
        terms = {"class": _bag_loss(model, batch, answer.bag_logits)}
        if "noise" in self.weights:
            noise_counts = [self.noise_count(bag) for bag in batch.pieces]
            noisy = self.with_noise(model, own, judged["noise"], batch.lengths, noise_counts)
            terms["noise"] = self.consistency(model, answer, noisy)
        if "ball" in self.weights:
            terms["ball"] = self.consistency(model, answer, model.pool(judged["ball"], batch.lengths))
        if "entropy" in self.weights:
            terms["entropy"] = self.subset_entropy(model, own, batch.lengths)
        return terms

    def noise_count(self, piece: Piece) -> int:
        """Noise instances that go with a piece of a bag: with all pieces of it, K_n − K = max(1, round(noise · K))."""
        before, until = (round(self.settings.noise * index) for index in (piece.start, piece.stop))
        return (max(1, until) if piece.stop == piece.length else until) - before

    @staticmethod
    def consistency(model: MILModel, answer: MILOutput, perturbed: MILOutput) -> Tensor:
        """L_n, L_δ: cross entropy of the answer for the perturbed bag against the (constant) one for the clean bag."""
        several = model.settings.several
        target = losses.log_probabilities(answer.bag_logits.detach(), several).exp()
        return losses.cross_entropy(target, losses.log_probabilities(perturbed.bag_logits, several)).mean()

    @staticmethod
    def with_noise(
        model: MILModel, own: Judged, noise: Judged, lengths: list[int], noise_counts: list[int]
    ) -> MILOutput:
        """The answer for X_n: every bag with its noise instances appended."""
        pairs = zip(own.split(lengths), noise.split(noise_counts), strict=True)
        return model.pool(
            Judged.cat([part for pair in pairs for part in pair]),
            [length + added for length, added in zip(lengths, noise_counts, strict=True)],
        )

    def subset_entropy(self, model: MILModel, own: Judged, lengths: list[int]) -> Tensor:
        """L_e: entropy of the answer for random subsets X̄, mean over `realizations`."""
        chosen, sizes, start = [], [], 0
        for length in lengths:
            for _ in range(self.settings.realizations):
                size = subset_size(length, self.settings.keep, self.settings.subset)
                chosen.append(start + subset(length, size))
                sizes.append(size)
            start += length
        answer = model.pool(own.take(torch.cat(chosen).to(own.scores.device)), sizes)
        return losses.conditional_entropy(losses.log_probabilities(answer.bag_logits, model.settings.several)).mean()

    def perturbation(self, model: MILModel, clean: Tensor, lengths: Sequence[int]) -> Tensor:
        """δ̃ of eq. (3): random in the ball, or the direction that changes the answer most (one power iteration)."""
        if self.settings.ball == "random":
            return norm_ball(clean, self.settings.delta)
        several = model.settings.several
        start = adversarial_start(clean).requires_grad_()
        with _exact(model):
            with torch.no_grad():
                answer = losses.log_probabilities(model.classify(model.encode(clean), lengths).bag_logits, several)
            moved = losses.log_probabilities(model.classify(model.encode(clean + start), lengths).bag_logits, several)
        (gradient,) = torch.autograd.grad(losses.kl_divergence(answer, moved).mean(), start)
        return scaled_to(gradient, self.settings.delta)


class AssistantObjective(InTwoParts):
    """One term, `inherit`: cross entropy of every instance against its bag's label (beyond the paper).

    The label is true of the instances of negative bags and noisy for those of positive ones. Attention is not trained.
    """

    weights: Mapping[str, float] = {"inherit": 1.0}

    def __init__(self, settings: AssistantSettings) -> None:
        self.settings = settings

    def judge(self, model: MILModel, instances: Tensor, pieces: Sequence[Piece]) -> dict[str, Judged]:
        logits = model.head(model.encode(augmented(model.unit(instances), self.settings)))
        return {"own": Judged(logits, logits.new_zeros(len(logits)))}  # nothing is pooled

    def terms(self, model: MILModel, judged: Mapping[str, Judged], batch: Batch) -> dict[str, Tensor]:
        several, logits = model.settings.several, judged["own"].logits
        target = losses.target_probabilities(batch.target, several)
        target = torch.repeat_interleave(target, torch.tensor(batch.lengths, device=target.device), 0)
        per_instance = losses.cross_entropy(target, losses.log_probabilities(logits, several))
        return {"inherit": losses.reduce_instances(per_instance, batch.lengths, "mean")}


class StudentObjective(InTwoParts):
    """Eq. (5), with the teacher's answers as constants (`Lesson.taught`).

    Terms: `class`, `bag`, `instance`, `entropy`. Beyond the paper, each where its γ is not 0: `negative` (the standard
    MIL assumption, which says that a negative bag has no positive instance), `assistant` (as `instance`, for the
    assistants' answers, at τ = 1: these are probabilities). `known` where the user corrected patches.
    """

    def __init__(self, settings: StudentSettings) -> None:
        self.settings = settings
        self.weights = {
            "class": settings.gamma_c,
            "bag": settings.gamma_b,
            "instance": settings.gamma_i,
            "entropy": settings.gamma_e,
            "negative": settings.gamma_n,
            "assistant": settings.gamma_a,
            "known": settings.gamma_k,
        }

    def judge(self, model: MILModel, instances: Tensor, pieces: Sequence[Piece]) -> dict[str, Judged]:
        features = model.encode(augmented(model.unit(instances), self.settings))
        if self.settings.bag_gradient != "attention":
            return {"own": model.judge(features)}
        logits = model.head(features)
        return {"own": Judged(logits, model.pooling.scores(features.detach(), logits.detach()))}

    def terms(self, model: MILModel, judged: Mapping[str, Judged], batch: Batch) -> dict[str, Tensor]:
        several, tau = model.settings.several, self.settings.temperature
        reduction = self.settings.instance_reduction
        own = pooled = judged["own"]
        if self.settings.bag_gradient == "attention":
            pooled = Judged(own.logits.detach(), own.scores)
        bag_logits = model.pool(pooled, batch.lengths).bag_logits

        def divergence(teacher: Tensor, student: Tensor) -> Tensor:
            return losses.kl_divergence(
                losses.log_probabilities(teacher, several, tau), losses.log_probabilities(student, several, tau)
            )

        single = losses.log_probabilities(own.logits, several)
        terms = {
            "class": _bag_loss(model, batch, bag_logits),
            "bag": divergence(batch.taught.bag_logits, bag_logits).mean(),
            "instance": losses.reduce_instances(
                divergence(batch.taught.instance_logits, own.logits), batch.lengths, reduction
            ),
            "entropy": losses.reduce_instances(losses.conditional_entropy(single), batch.lengths, reduction),
        }
        if self.settings.gamma_n:
            terms["negative"] = self.negative_bags(single, batch, several)
        if batch.assisted is not None:
            target = losses.log_probabilities(batch.assisted, several)
            terms["assistant"] = losses.reduce_instances(losses.kl_divergence(target, single), batch.lengths, reduction)
        if batch.known is not None:
            terms["known"] = self.known_patches(single, batch, model)
        return terms

    @staticmethod
    def negative_bags(single: Tensor, batch: Batch, several: bool) -> Tensor:
        """Cross entropy of the instances of negative bags against class 0, mean over all bags of the batch."""
        negative = batch.target[:, 1:].sum(1) == 0
        target = losses.target_probabilities(torch.eye(batch.target.shape[1], device=single.device)[0], several)
        per_instance = losses.cross_entropy(target, single)
        of_negative = torch.repeat_interleave(negative, torch.tensor(batch.lengths, device=single.device))
        per_instance = per_instance * of_negative.view(-1, *(1,) * (per_instance.ndim - 1))
        return losses.reduce_instances(per_instance, batch.lengths, "mean")

    @staticmethod
    def known_patches(single: Tensor, batch: Batch, model: MILModel) -> Tensor:
        """Cross entropy of the patches whose class the user gave; zero if this batch has none."""
        corrected = batch.known != UNKNOWN
        if not corrected.any():
            return single.new_zeros(())
        target = torch.nn.functional.one_hot(batch.known[corrected], model.n_classes).to(single)
        target = losses.target_probabilities(target, model.settings.several)
        return losses.cross_entropy(target, single[corrected]).mean()
