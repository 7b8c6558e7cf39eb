"""The losses of teacher and student, eq. (3) and eq. (5), and the divergences that they consist of.

Divergences work on *log-probabilities* over their last axis and mean over the others, so that "one of C classes" and
"several classes at once" are one code path: `log_probabilities` gives (…, C) for the first and, for the second, one
two-way distribution (absent, present) per class, (…, C, 2).

A loss is called with the network and a `BagBatch` and returns its terms unweighted, by name; `weights` says what each
counts. The baseline is the teacher's loss with λ_c alone. Ours have two steps: `classify_instances` looks at instances
one by one, which takes nearly all of the time, and `terms` compares the results. So a batch that is too large to be
classified in a moment is classified in chunks (`training.backward`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.bag import UNLABELLED
from ..core.settings import OutOfFoldSettings, StudentSettings, TeacherSettings
from .augmentation import augment
from .device import to_device
from .model import InstanceOutput, MILModel, MILOutput
from .perturbations import (
    adversarial_start,
    noise_instances,
    random_perturbation,
    random_subset,
    scaled_to,
    subset_size,
)
from .training_bags import BagBatch, BagSlice, TrainingRegion


def log_probabilities(logits: Tensor, multi_label: bool = False, temperature: float = 1.0) -> Tensor:
    """Return log-probabilities of (…, C) logits softened by τ, eq. (4): softmax(z / τ), or a sigmoid per class."""
    logits = logits / temperature
    if multi_label:
        return torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], -1)
    return F.log_softmax(logits, -1)


def target_probabilities(target: Tensor, multi_label: bool = False) -> Tensor:
    """Return (…, C) 0/1 targets in the shape of `log_probabilities`."""
    return torch.stack([1 - target, target], -1) if multi_label else target


def cross_entropy(target: Tensor, log_p: Tensor) -> Tensor:
    """−Σ_c t_c log p_c. L_c of eq. (3) and (5); with T(X) as target, L_n and L_δ (the paper: "implemented using
    the binary cross entropy"). Per item: the last axis is summed.
    """
    return -(target * log_p).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """H(p, q) = Σ_c p_c log(p_c / q_c), eq. (6) for C classes. Zero where p = q. Per item."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def conditional_entropy(log_p: Tensor) -> Tensor:
    """L_e = −Σ_c p_c log p_c: low for a confident prediction. Per item."""
    return -(log_p.exp() * log_p).sum(-1)


def log_absent(log_p: Tensor, finding: int, multi_label: bool) -> Tensor:
    """Return log(1 − p) (n,) of a finding from the patches' `log_probabilities`; of finding 0: that they have none."""
    if multi_label:
        return log_p[:, finding, 0] if finding else log_p[:, 1:, 0].sum(1)
    return log_one_minus(log_p[:, finding]) if finding else log_p[:, 0]


def log_one_minus(log_p: Tensor) -> Tensor:
    """Return log(1 − p) from log p, with p at most 1 − 10⁻⁶, where its slope is finite."""
    return torch.log(-torch.expm1(log_p.clamp_max(-1e-6)))


def region_loss(log_p: Tensor, region: TrainingRegion, multi_label: bool) -> Tensor:
    """Return the cross entropy of what is said of a region, a scalar, from `log_probabilities` of the batch's patches.

    None of it: the mean of −log(1 − p) over its patches; all of it: of −log p. Somewhere in it:
    −log(1 − Π (1 − p)), the label of a bag by noisy-or (Maron & Lozano-Pérez 1998).
    """
    absent = log_absent(log_p[region.patches], region.finding, multi_label)
    if region.says == "none":
        return -absent.mean()
    return -log_one_minus(absent.sum() if region.says == "some" else absent).mean()


def share_loss(log_p: Tensor, share: float, multi_label: bool) -> Tensor:
    """Return KL(share ‖ mean probability of a finding) of a bag's patches, a scalar; it is 0 where they are equal.

    Learning from label proportions (Ardehaly & Culotta 2017).
    """
    negative = log_absent(log_p, 0, multi_label).exp().mean().clamp(1e-6, 1 - 1e-6)
    p = log_p.new_tensor([1 - share, share]).clamp(1e-6, 1)
    return (p * (p.log() - torch.stack([negative, 1 - negative]).log())).sum()


def reduce_instances(per_instance: Tensor, lengths: list[int], reduction: str) -> Tensor:
    """Reduce (N, …) values of B ragged bags to a scalar: mean over bags of the mean (or the paper's sum) of each."""
    if per_instance.ndim > 1:
        per_instance = per_instance.flatten(1).mean(1)
    over = torch.mean if reduction == "mean" else torch.sum
    return torch.stack([over(bag) for bag in torch.split(per_instance, lengths)]).mean()


def _per_instance(of_bag: Tensor, lengths: Sequence[int]) -> Tensor:
    """Repeat the values (B, …) of bags for their instances (N, …). `repeat_interleave` would wait for a GPU."""
    return torch.cat([own.expand(length, *own.shape) for own, length in zip(of_bag, lengths, strict=True)])


class Loss(Protocol):
    """A loss of several terms. Training minimises their weighted sum."""

    weights: Mapping[str, float]

    def __call__(self, model: MILModel, batch: BagBatch) -> dict[str, Tensor]:
        """The terms of the loss, unweighted scalars by name (the keys of `weights`)."""


class ChunkedLoss(ABC):
    """A loss that first classifies instances one by one, in one pass or chunk by chunk, and then compares them."""

    weights: Mapping[str, float]
    is_chunkable = True  # whether chunks give the same result as one pass

    @abstractmethod
    def classify_instances(
        self, model: MILModel, instances: Tensor, slices: Sequence[BagSlice]
    ) -> dict[str, InstanceOutput]:
        """Return outputs, by name, for the raw instances of these slices and for instances made from them."""

    @abstractmethod
    def terms(self, model: MILModel, outputs: Mapping[str, InstanceOutput], batch: BagBatch) -> dict[str, Tensor]:
        """Return the terms of the loss from the outputs of `classify_instances` for the whole batch."""

    def __call__(self, model: MILModel, batch: BagBatch) -> dict[str, Tensor]:
        return self.terms(model, self.classify_instances(model, batch.instances, batch.slices), batch)


def _bag_loss(model: MILModel, batch: BagBatch, bag_logits: Tensor) -> Tensor:
    multi_label = model.settings.multi_label
    target = target_probabilities(batch.target, multi_label)
    return cross_entropy(target, log_probabilities(bag_logits, multi_label)).mean()


@contextmanager
def _exact(model: MILModel) -> Iterator[None]:
    """Compute without dropout and in float32: either would hide the effect of a very small perturbation."""
    training, dtype = model.training, model.dtype
    model.eval()
    model.dtype = torch.float32
    try:
        yield
    finally:
        model.train(training)
        model.dtype = dtype


class TeacherLoss(ChunkedLoss):
    """Eq. (3). Noise and perturbed instances are encoded too; all other terms share the clean features.

    T(X) is a constant in L_n and L_δ (no gradient), as in virtual adversarial training (Miyato 2018).
    Terms: `class`, `noise`, `perturbation`, `entropy`; a term whose λ is 0 costs nothing and is left out.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        weights = {
            "class": settings.lambda_c,
            "noise": settings.lambda_n,
            "perturbation": settings.lambda_d,
            "entropy": settings.lambda_e,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight or name == "class"}
        # The worst direction is that of the whole bag.
        self.is_chunkable = "perturbation" not in self.weights or settings.perturbation == "random"

    def classify_instances(
        self, model: MILModel, instances: Tensor, slices: Sequence[BagSlice]
    ) -> dict[str, InstanceOutput]:
        """Return outputs of the instances (`own`), perturbed ones (`perturbation`) and noise instances (`noise`)."""
        clean = augment(model.to_unit_range(instances), self.settings)
        parts = {"own": clean}
        if "noise" in self.weights:
            parts["noise"] = noise_instances(sum(map(self.noise_count, slices)), clean)
        if "perturbation" in self.weights:
            parts["perturbation"] = clean + self.perturbation(model, clean, [len(bag_slice) for bag_slice in slices])
        # One pass over everything that must be encoded; every instance is classified once.
        names, sizes, together = list(parts), [len(part) for part in parts.values()], torch.cat(list(parts.values()))
        del clean, parts  # of a large bag, half a gigabyte each
        return dict(zip(names, model.classify_instances(model.encode(together)).split(sizes), strict=True))

    def terms(self, model: MILModel, outputs: Mapping[str, InstanceOutput], batch: BagBatch) -> dict[str, Tensor]:
        own = outputs["own"]
        output = model.pool(own, batch.lengths)
        terms = {"class": _bag_loss(model, batch, output.bag_logits)}
        if "noise" in self.weights:
            noise_counts = [self.noise_count(bag) for bag in batch.slices]
            noisy = self.with_noise(model, own, outputs["noise"], batch.lengths, noise_counts)
            terms["noise"] = self.consistency(model, output, noisy)
        if "perturbation" in self.weights:
            terms["perturbation"] = self.consistency(model, output, model.pool(outputs["perturbation"], batch.lengths))
        if "entropy" in self.weights:
            terms["entropy"] = self.subset_entropy(model, own, batch.lengths)
        return terms

    def noise_count(self, bag_slice: BagSlice) -> int:
        """Return the number of noise instances of a slice; those of a bag sum to K_n − K = max(1, round(noise · K))."""
        before, until = (round(self.settings.noise_ratio * index) for index in (bag_slice.start, bag_slice.stop))
        return (max(1, until) if bag_slice.stop == bag_slice.length else until) - before

    @staticmethod
    def consistency(model: MILModel, output: MILOutput, perturbed: MILOutput) -> Tensor:
        """L_n, L_δ: cross entropy of the output for the perturbed bag against the (constant) one for the clean bag."""
        multi_label = model.settings.multi_label
        target = log_probabilities(output.bag_logits.detach(), multi_label).exp()
        return cross_entropy(target, log_probabilities(perturbed.bag_logits, multi_label)).mean()

    @staticmethod
    def with_noise(
        model: MILModel, own: InstanceOutput, noise: InstanceOutput, lengths: list[int], noise_counts: list[int]
    ) -> MILOutput:
        """Return the output for X_n: every bag with its noise instances appended."""
        pairs = zip(own.split(lengths), noise.split(noise_counts), strict=True)
        return model.pool(
            InstanceOutput.cat([part for pair in pairs for part in pair]),
            [length + added for length, added in zip(lengths, noise_counts, strict=True)],
        )

    def subset_entropy(self, model: MILModel, own: InstanceOutput, lengths: list[int]) -> Tensor:
        """L_e: entropy of the output for random subsets X̄, mean over `n_subsets` of them."""
        chosen, sizes, start = [], [], 0
        for length in lengths:
            for _ in range(self.settings.n_subsets):
                size = subset_size(length, self.settings.subset_fraction, self.settings.subset_size)
                chosen.append(start + random_subset(length, size))
                sizes.append(size)
            start += length
        output = model.pool(own.subset(to_device(torch.cat(chosen), own.scores.device)), sizes)
        return conditional_entropy(log_probabilities(output.bag_logits, model.settings.multi_label)).mean()

    def perturbation(self, model: MILModel, clean: Tensor, lengths: Sequence[int]) -> Tensor:
        """δ̃ of eq. (3): random in the ball, or the direction that changes the output most (one power iteration)."""
        if self.settings.perturbation == "random":
            return random_perturbation(clean, self.settings.perturbation_radius)
        multi_label = model.settings.multi_label
        start = adversarial_start(clean).requires_grad_()
        with _exact(model):
            with torch.no_grad():
                clean_log_p = log_probabilities(model.classify(model.encode(clean), lengths).bag_logits, multi_label)
            perturbed_log_p = log_probabilities(
                model.classify(model.encode(clean + start), lengths).bag_logits, multi_label
            )
        (gradient,) = torch.autograd.grad(kl_divergence(clean_log_p, perturbed_log_p).mean(), start)
        return scaled_to(gradient, self.settings.perturbation_radius)


def set_known_targets(target: Tensor, region: TrainingRegion, n_classes: int, multi_label: bool) -> None:
    """Change the targets (n, …) of patches whose class a region tells: all of it, or none of any finding."""
    if region.says == "all" or (region.says == "none" and (region.finding == 0 or n_classes == 2)):
        known = torch.eye(n_classes, device=target.device)[region.finding if region.says == "all" else 0]
        target[region.patches] = target_probabilities(known, multi_label)


class InheritedLabelLoss(ChunkedLoss):
    """One term, `inherited_label`: cross entropy of every instance against its bag's label (beyond the paper).

    The label is right for the instances of negative bags and noisy for those of positive bags, but for those of regions
    of which a user says none, or all. Attention is not trained.
    """

    weights: Mapping[str, float] = {"inherited_label": 1.0}

    def __init__(self, settings: OutOfFoldSettings) -> None:
        self.settings = settings

    def classify_instances(
        self, model: MILModel, instances: Tensor, slices: Sequence[BagSlice]
    ) -> dict[str, InstanceOutput]:
        logits = model.head(model.encode(augment(model.to_unit_range(instances), self.settings)))
        return {"own": InstanceOutput(logits, logits.new_zeros(len(logits)))}  # nothing is pooled

    def terms(self, model: MILModel, outputs: Mapping[str, InstanceOutput], batch: BagBatch) -> dict[str, Tensor]:
        multi_label, logits = model.settings.multi_label, outputs["own"].logits
        target = target_probabilities(batch.target, multi_label)
        target = _per_instance(target, batch.lengths)
        for region in batch.regions:
            set_known_targets(target, region, batch.target.shape[1], multi_label)
        per_instance = cross_entropy(target, log_probabilities(logits, multi_label))
        return {"inherited_label": reduce_instances(per_instance, batch.lengths, "mean")}


class StudentLoss(ChunkedLoss):
    """Eq. (5), with the teacher's predictions as constants (`TrainingBag.teacher_targets`).

    Terms of the paper: `class`, `bag`, `instance`, `entropy`. Beyond the paper, each if its γ is not 0: `negative` (the
    standard MIL assumption: a negative bag has no positive instance), `oof` (distils the out-of-fold targets, at τ = 1
    because they are probabilities), `corrections` (patches that the user corrected), `regions` and `share` (what the
    user says of parts of a slide, and of its share of positive patches).
    """

    def __init__(self, settings: StudentSettings) -> None:
        self.settings = settings
        self.weights = {
            "class": settings.gamma_c,
            "bag": settings.gamma_b,
            "instance": settings.gamma_i,
            "entropy": settings.gamma_e,
            "negative": settings.gamma_n,
            "oof": settings.gamma_oof,
            "corrections": settings.gamma_corrections,
            "regions": settings.gamma_regions,
            "share": settings.gamma_share,
        }

    def classify_instances(
        self, model: MILModel, instances: Tensor, slices: Sequence[BagSlice]
    ) -> dict[str, InstanceOutput]:
        features = model.encode(augment(model.to_unit_range(instances), self.settings))
        if self.settings.slide_loss_trains != "attention":
            return {"own": model.classify_instances(features)}
        logits = model.head(features)
        return {"own": InstanceOutput(logits, model.pooling.scores(features.detach(), logits.detach()))}

    def terms(self, model: MILModel, outputs: Mapping[str, InstanceOutput], batch: BagBatch) -> dict[str, Tensor]:
        multi_label, tau = model.settings.multi_label, self.settings.temperature
        reduction = self.settings.instance_reduction
        own = pooled = outputs["own"]
        if self.settings.slide_loss_trains == "attention":
            pooled = InstanceOutput(own.logits.detach(), own.scores)
        bag_logits = model.pool(pooled, batch.lengths).bag_logits

        def divergence(teacher: Tensor, student: Tensor) -> Tensor:
            return kl_divergence(
                log_probabilities(teacher, multi_label, tau), log_probabilities(student, multi_label, tau)
            )

        teacher = batch.teacher_targets
        if teacher is None:
            raise ValueError("a student needs the teacher's predictions for its bags")
        single = log_probabilities(own.logits, multi_label)
        terms = {
            "class": _bag_loss(model, batch, bag_logits),
            "bag": divergence(teacher.bag_logits, bag_logits).mean(),
            "instance": reduce_instances(divergence(teacher.instance_logits, own.logits), batch.lengths, reduction),
            "entropy": reduce_instances(conditional_entropy(single), batch.lengths, reduction),
        }
        if self.settings.gamma_n:
            terms["negative"] = self.negative_bags(single, batch, multi_label)
        if batch.oof_targets is not None:
            target = log_probabilities(batch.oof_targets, multi_label)
            terms["oof"] = reduce_instances(kl_divergence(target, single), batch.lengths, reduction)
        if batch.patch_labels is not None:
            terms["corrections"] = self.corrected_patches(single, batch.patch_labels, model)
        if batch.regions:
            terms["regions"] = torch.stack([region_loss(single, own, multi_label) for own in batch.regions]).mean()
        shares = zip(torch.split(single, batch.lengths), batch.shares, strict=True)
        if known := [share_loss(own, share, multi_label) for own, share in shares if share is not None]:
            terms["share"] = torch.stack(known).sum() / len(batch.lengths)
        return terms

    @staticmethod
    def negative_bags(single: Tensor, batch: BagBatch, multi_label: bool) -> Tensor:
        """Return the cross entropy of negative bags' instances against class 0, mean over all bags of the batch."""
        negative = batch.target[:, 1:].sum(1) == 0
        target = target_probabilities(torch.eye(batch.target.shape[1], device=single.device)[0], multi_label)
        per_instance = cross_entropy(target, single)
        of_negative = _per_instance(negative, batch.lengths)
        per_instance = per_instance * of_negative.view(-1, *(1,) * (per_instance.ndim - 1))
        return reduce_instances(per_instance, batch.lengths, "mean")

    @staticmethod
    def corrected_patches(single: Tensor, patch_labels: Tensor, model: MILModel) -> Tensor:
        """Return the cross entropy of the patches whose class the user gave; zero if there are none."""
        corrected = (patch_labels != UNLABELLED).nonzero().flatten()
        if not len(corrected):
            return single.new_zeros(())
        target = to_device(F.one_hot(patch_labels[corrected], model.n_classes), single.device).to(single)
        target = target_probabilities(target, model.settings.multi_label)
        return cross_entropy(target, single[to_device(corrected, single.device)]).mean()
