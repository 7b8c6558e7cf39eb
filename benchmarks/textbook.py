"""The peer: attention MIL and VAT as a textbook writes them, with nothing done for speed.

Written from the papers (Ilse 2018, Table 9 and eq. 8–9; Thiagarajan 2019, eq. 3): float32, NCHW, ReLU before
pooling, one bag per step which is turned to floats every time, and one forward pass per bag that a loss speaks of.
Architecture, widths, normalisation and losses are those of `napari_distill2label.mil`, so that both learn the same.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_distill2label.core.bag import Bag
from napari_distill2label.core.settings import ArchitectureSettings, TeacherSettings
from napari_distill2label.mil.encoders import STACKS, map_side
from napari_distill2label.mil.model import MILModel


class TextbookMIL(nn.Module):
    """Gated attention over the patches of one bag."""

    def __init__(self, settings: ArchitectureSettings, n_classes: int, instance_shape: Sequence[int]) -> None:
        super().__init__()
        channels, side, _ = instance_shape
        stack, n_connected = STACKS[settings.encoder]
        layers: list[nn.Module] = []
        for layer in stack:
            layers += [nn.Conv2d(channels, layer.channels, layer.kernel), nn.ReLU()]
            layers += [nn.MaxPool2d(layer.pool)] if layer.pool > 1 else []
            channels = layer.channels
        layers.append(nn.Flatten())
        for before, after in pairwise([channels * map_side(stack, side) ** 2] + [settings.hidden_dim] * n_connected):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(settings.dropout)]
        self.encoder = nn.Sequential(*layers)
        self.attention_V = nn.Sequential(nn.Linear(settings.hidden_dim, settings.attention_dim), nn.Tanh())
        self.attention_U = nn.Sequential(nn.Linear(settings.hidden_dim, settings.attention_dim), nn.Sigmoid())
        self.attention_w = nn.Linear(settings.attention_dim, 1)
        self.classifier = nn.Linear(settings.hidden_dim, n_classes)

    def forward(self, patches: Tensor) -> Tensor:
        """(K, C, P, P) normalised patches of one bag -> logits (1, n_classes)."""
        h = self.encoder(patches)
        a = self.attention_w(self.attention_V(h) * self.attention_U(h))
        z = torch.softmax(a.transpose(0, 1), dim=1) @ h
        return self.classifier(z)


class Textbook:
    """Trains a `TextbookMIL` that starts with the weights and the normalisation of `start`."""

    def __init__(self, start: MILModel, settings: TeacherSettings) -> None:
        self.settings = settings
        self.model = TextbookMIL(start.settings, start.n_classes, start.instance_shape)
        with torch.no_grad():
            for mine, same in zip(self.model.parameters(), start.parameters(), strict=True):
                mine.copy_(same)  # both declare their layers in the same order
        self.mean, self.std = start.mean.view(1, -1, 1, 1), start.std.view(1, -1, 1, 1)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )

    def answer(self, patches: Tensor) -> Tensor:
        """(K, C, P, P) patches in 0–1 -> logits (1, n_classes)."""
        return self.model((patches - self.mean) / self.std)

    def mil_loss(self, patches: Tensor, target: Tensor) -> Tensor:
        """Plain MIL."""
        return F.cross_entropy(self.answer(patches), target)

    def vat_loss(self, patches: Tensor, target: Tensor) -> Tensor:
        """Eq. (3) in four forward passes."""
        clean = self.answer(patches)
        constant = clean.detach().softmax(1)
        noise = torch.rand(max(1, round(self.settings.noise_ratio * len(patches))), *patches.shape[1:])
        noisy = self.answer(torch.cat([patches, noise]))
        direction = torch.randn_like(patches)
        direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        radius = self.settings.perturbation_radius * torch.rand(len(patches)) ** (1 / patches[0].numel())
        moved = self.answer(patches + direction * radius.view(-1, 1, 1, 1))
        subset = torch.randperm(len(patches))[: max(1, round(self.settings.subset_fraction * len(patches)))]
        part = self.answer(patches[subset])
        return (
            self.settings.lambda_c * F.cross_entropy(clean, target)
            + self.settings.lambda_n * F.cross_entropy(noisy, constant)
            + self.settings.lambda_d * F.cross_entropy(moved, constant)
            - self.settings.lambda_e * (part.softmax(1) * part.log_softmax(1)).sum()
        )

    def step(self, bag: Bag, loss_of: Callable[[Tensor, Tensor], Tensor]) -> None:
        """One step on one bag."""
        patches = torch.from_numpy(bag.instances).float() / 255
        self.optimiser.zero_grad()
        loss_of(patches, torch.tensor([bag.label[0]])).backward()
        self.optimiser.step()

    def epoch(self, bags: Sequence[Bag]) -> None:
        """Plain MIL, every bag once in random order."""
        self.model.train()
        for index in torch.randperm(len(bags)).tolist():
            self.step(bags[index], self.mil_loss)

    @torch.no_grad()
    def probabilities(self, bag: Bag) -> tuple[float, np.ndarray]:
        """Of class 1: the bag's, and each instance's as a bag of one (K,)."""
        self.model.eval()
        patches = torch.from_numpy(bag.instances).float() / 255
        features = self.model.encoder((patches - self.mean) / self.std)
        single = self.model.classifier(features).softmax(1)[:, 1]
        return self.answer(patches).softmax(1)[0, 1].item(), single.numpy()
