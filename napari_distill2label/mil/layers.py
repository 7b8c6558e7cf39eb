"""Layers that train faster on a CPU than torch's own, with the same meaning and no weights of their own.

They take over only while training on a CPU: a network that predicts or is exported is made of torch's layers alone.
What each saves is in `docs/benchmarks.md`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 2**16  # a uniform 16-bit number decides whether a value is dropped


class Dropout(nn.Dropout):
    """Dropout whose mask is made of random 64-bit numbers, four values from each.

    Torch draws a number per value, one after the other. The probability is rounded to a multiple of 2⁻¹⁶.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        dropped = round(self.p * LEVELS)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = draws[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


class Larger(torch.autograd.Function):
    """The larger of two tensors, element by element; the gradient goes to it, and of two equal ones to the second.

    The derivative of `torch.maximum` compares and selects, which torch does value by value in bfloat16.
    """

    @staticmethod
    def forward(ctx, first: Tensor, second: Tensor) -> Tensor:
        ctx.save_for_backward(first, second)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        first, second = ctx.saved_tensors
        to_first = torch.ops.aten.threshold_backward(gradient, first - second, 0)  # where the difference is > 0
        return to_first, gradient - to_first


def halved_convolution(convolution: nn.Conv2d, patches: Tensor) -> Tensor:
    """`max_pool2d(convolution(patches), 2)`, for a square unpadded kernel: (N, C, H, W) -> (N, C', H', W').

    Four convolutions of stride 2 give the four values of every window, as many multiplications as one of stride 1.
    Each is a dense tensor, and these are compared whole, where pooling goes window by window and keeps a 64-bit
    index of each. Meant for the first layer: the gradient of `patches` would have to be put together from four.
    """
    kernel = convolution.kernel_size[0]
    height, width = ((side - kernel + 1) // 2 * 2 + kernel - 2 for side in patches.shape[2:])
    top_left, top_right, low_left, low_right = (
        F.conv2d(patches[..., y : y + height, x : x + width], convolution.weight, convolution.bias, stride=2)
        for y in (0, 1)
        for x in (0, 1)
    )
    return Larger.apply(Larger.apply(top_left, top_right), Larger.apply(low_left, low_right))
