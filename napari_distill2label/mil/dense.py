"""The network as a fully convolutional one: outputs for many overlapping patches of a region, without cutting any.

The encoders' convolutions are unpadded, so a patch has the same features in any larger image (Long, Shelhamer & Darrell
2015). Two layers need more. Pooling with stride p keeps one place in p: for the other places its input is shifted, and
the shifted results are processed side by side as *fragments* (Giusti et al. 2013, "Fast image scanning with deep
max-pooling convolutional neural networks"). That costs as much as dilated convolutions, and no layer changes. The fully
connected layers become one product per requested patch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import SettingsError
from .encoders import ConvolutionalEncoder
from .model import InstanceOutput, MILModel

ROWS = 4096  # patches in the fully connected layers at once: some 20 MB


@dataclass(frozen=True)
class _Fragments:
    """Output of the convolutions for a region: maps (B, h, w, C), and where each patch begins in them.

    `phases` has the number of shifts per axis of each pooling; `step` is the distance of neighbouring patches of one
    fragment.
    """

    maps: Tensor
    phases: tuple[int, ...]
    step: int

    def rows(self, cells: Tensor) -> Tensor:
        """Return the number (n,) of each patch's first row, counted over all `maps`; `cells` (n, 2) of the lattice."""
        y, x = cells.unbind(1)
        fragment, fragments = torch.zeros_like(y), 1
        for phases in self.phases:
            fragment = fragment + (y % phases * phases + x % phases) * fragments
            fragments *= phases**2
            y, x = y // phases, x // phases
        _, height, width, _ = self.maps.shape
        return (fragment * height + y * self.step) * width + x * self.step


class DenseNetwork:
    """A network that classifies patches of a region, with the same result as for patches that are cut out.

    Parameters
    ----------
    model
        With an encoder of our own; `SettingsError` if it takes features. It is put into evaluation mode, and its first
        fully connected layer is copied, so later changes of its weights have no effect here.

    Attributes
    ----------
    patch_px
        Side P of a patch.
    stride
        Pooling stride g of the encoder. A lattice denser than g needs more fragments.
    cost_of_patch
        Multiplications of the convolutions for a patch that is cut.
    """

    def __init__(self, model: MILModel) -> None:
        encoder = model.encoder
        if not isinstance(encoder, ConvolutionalEncoder):
            raise SettingsError("a model that looks at features of a frozen encoder has no dense mode: cut patches")
        self.model = model.eval()
        self.patch_px: int = model.instance_shape[1]
        self._convolutions = list(encoder.convolutions)
        self._pools = [_window(layer) for layer in self._convolutions if isinstance(layer, nn.MaxPool2d)]
        self.stride = math.prod(self._pools)
        self.side = self._sides()[-1]  # of the map of one patch
        self.cost_of_patch = self.cost((1, 1), self.stride)
        first, *self._others = encoder.connected
        assert isinstance(first, nn.Linear)
        # Flattened, a map is (C, side, side); a row of `_Fragments.maps` has the channels last.
        weight = first.weight.detach().unflatten(1, (-1, self.side, self.side)).permute(0, 2, 3, 1).flatten(1)
        self._first = nn.Linear(first.in_features, first.out_features, device="meta")
        self._first.weight, self._first.bias = nn.Parameter(weight.contiguous()), nn.Parameter(first.bias.detach())

    def _sides(self) -> list[int]:
        """Return the side of a patch's map after each layer, the patch itself first."""
        sides = [self.patch_px]
        for layer in self._convolutions:
            if isinstance(layer, nn.Conv2d):
                sides.append(sides[-1] - layer.kernel_size[0] + 1)
            else:
                sides.append(sides[-1] // _window(layer) if isinstance(layer, nn.MaxPool2d) else sides[-1])
        return sides

    def span(self, cells: int, step: int) -> int:
        """Return the length (px) that `cells` patches in a row, `step` px apart, cover."""
        return (cells - 1) * step + self.patch_px

    def cost(self, shape: Sequence[int], step: int) -> int:
        """Return the multiplications of the convolutions for a lattice of `shape` patches `step` px apart.

        The fully connected layers come on top. They cost the same for patches that are cut.
        """
        total, fragments = 0, 1
        for layer, before in zip(self._convolutions, self._sides(), strict=False):
            if isinstance(layer, nn.MaxPool2d):
                phases, step = _phases(step, _window(layer))
                shape = [-(-cells // phases) for cells in shape]
                fragments *= phases**2
            elif isinstance(layer, nn.Conv2d):
                side = before - layer.kernel_size[0] + 1
                area = math.prod((cells - 1) * step + side for cells in shape)
                total += fragments * area * layer.weight.numel()
        return total

    @torch.inference_mode()
    def __call__(self, region: Tensor, step: int, cells: Tensor) -> InstanceOutput:
        """Classify patches of a region.

        Parameters
        ----------
        region
            (3, H, W) raw pixels, 0–255. It needs some 700 bytes of memory per pixel: split a large region.
        step
            Distance of neighbouring patches (px), any whole number.
        cells
            (n, 2) int64, (row, column) of patches on the lattice of that step: the patch's corner is `cells · step`.
            All lie in the region, and the cost of the convolutions is that of the smallest rectangle around them.
        """
        device = self.model.device
        if len(cells) == 0:
            return InstanceOutput(torch.empty(0, self.model.n_classes), torch.empty(0))
        start, stop = cells.amin(0), cells.amax(0) + 1
        if min(start.tolist()) < 0 or any(
            self.span(last, step) > size for last, size in zip(stop.tolist(), region.shape[1:], strict=True)
        ):
            raise ValueError(f"patches reach over the region of {tuple(region.shape[1:])} px")
        (top, left), shape = (start * step).tolist(), (stop - start).tolist()
        height, width = (self.span(n, step) for n in shape)
        part = region[:, top : top + height, left : left + width].to(device)
        with torch.autocast(device.type, self.model.dtype, enabled=self.model.dtype != torch.float32):
            fragments = self._convolve(part, step, shape)
        rows = fragments.rows((cells - start).to(device))
        return InstanceOutput.cat(
            [self.model.classify_instances(self._connect(fragments, some)) for some in torch.split(rows, ROWS)]
        )

    def _convolve(self, region: Tensor, step: int, shape: list[int]) -> _Fragments:
        """Apply the convolutions to a lattice of `shape` patches that fills the region."""
        phases: list[int] = []
        # Add patches until every fragment has equally many; the added ones are not used.
        multiple, reduced = 1, step
        for pool in self._pools:
            phase, reduced = _phases(reduced, pool)
            multiple *= phase
        shape = [-(-cells // multiple) * multiple for cells in shape]
        padding = [self.span(cells, step) - size for cells, size in zip(shape, region.shape[1:], strict=True)]
        maps = F.pad(region, (0, padding[1], 0, padding[0]))[None]
        maps = self.model.normalise(self.model.to_unit_range(maps)).to(self.model.dtype)
        for layer, left in zip(self._convolutions, self._sides()[1:], strict=True):
            if not isinstance(layer, nn.MaxPool2d):
                maps = layer(maps)
                continue
            pool = _window(layer)
            phase, after = _phases(step, pool)
            shape = [cells // phase for cells in shape]
            height, width = (((cells - 1) * after + left) * pool for cells in shape)
            shifts = [step * shift for shift in range(phase)]
            maps = torch.cat([layer(maps[:, :, y : y + height, x : x + width]) for y in shifts for x in shifts])
            phases.append(phase)
            step = after
        return _Fragments(maps.permute(0, 2, 3, 1).contiguous(), tuple(phases), step)

    def _connect(self, fragments: _Fragments, first_rows: Tensor) -> Tensor:
        """Apply the fully connected layers to the patches that begin at `first_rows` (n,): (n, D) features."""
        maps, side = fragments.maps, self.side
        channels, width = maps.shape[3], maps.shape[2]
        # Row r: the `side` neighbouring places from r on, all channels. Rows overlap; nothing is copied yet.
        rows = maps.as_strided((maps.numel() // channels - side + 1, side * channels), (channels, 1))
        wanted = first_rows[:, None] + torch.arange(side, device=maps.device) * width
        x = rows.index_select(0, wanted.flatten()).view(len(first_rows), -1)
        with torch.autocast(maps.device.type, self.model.dtype, enabled=self.model.dtype != torch.float32):
            for layer in (self._first, *self._others):
                x = linear(x, layer) if isinstance(layer, nn.Linear) else layer(x)
        return x.float()


def _window(pooling: nn.MaxPool2d) -> int:
    """Return the side of a pooling's window; those of our encoders are square."""
    side = pooling.kernel_size
    return side if isinstance(side, int) else side[0]


def _phases(step: int, pool: int) -> tuple[int, int]:
    """Return the number of shifts that a pooling needs for patches `step` apart, and their distance after it.

    Patch i begins at i · step. Those with the same remainder r = i mod q, q = pool / gcd(step, pool), begin whole
    windows after r · step, and step / gcd(step, pool) places apart once pooled.
    """
    common = math.gcd(step, pool)
    return pool // common, step // common


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """Compute `layer(x)` for (n, D) as a convolution of 1 × 1.

    Torch gives convolutions to oneDNN and float32 products to MKL, which is half as fast on processors that are not
    Intel's (benchmarks/dense.py). Torch turns a plain 1 × 1 convolution into a product; dilation, which has no effect
    on one pixel, prevents that.
    """
    image = x[None, None].permute(0, 3, 1, 2)
    weight = layer.weight[:, :, None, None].contiguous(memory_format=torch.channels_last)
    return F.conv2d(image, weight, layer.bias, dilation=2).permute(0, 2, 3, 1).reshape(len(x), -1)
