"""Linear maps over rows of numbers: in the model's own number format, or in whole numbers of 8 bits."""

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# The greatest whole number of a row and, either way, of a weight. A row has 7 bits: where a CPU has no instruction for
# sums of four products (VNNI), it adds two of them in 16 bits, which 8 bits would overflow.
ROW_LEVELS, WEIGHT_LEVELS = 127, 127


@dataclass(frozen=True)
class Linear:
    """weight: shape (outputs, inputs); bias: shape (outputs)."""

    weight: "torch.Tensor"
    bias: "torch.Tensor"

    def __call__(self, rows: "torch.Tensor") -> "torch.Tensor":
        from torch.nn.functional import linear

        return linear(rows, self.weight, self.bias)


class Int8Linear:
    """Nearly the same map on a CPU, in less than half of the time: rows and weights are rounded to whole numbers.

    Each row has a scale and a zero of its own, and each output's weights have a scale, so that what becomes of a row
    depends on no other. One scale for a batch, as dynamic quantisation has it, left of 300 passages the worst a cosine
    of 0.93 to its exact vector of all-MiniLM-L6-v2, where this leaves 0.996: some tokens have far larger numbers than
    others.

    NaN and infinity in a row come out as such. The products are torch's own for quantised models (those that its
    compiler generates), which are no public interface: tests/udfs/test_linear.py says whether a version still has them.
    """

    def __init__(self, weight: "torch.Tensor", bias: "torch.Tensor"):
        import torch

        self.scales = weight.abs().amax(1).clamp_min(torch.finfo(weight.dtype).tiny) / WEIGHT_LEVELS
        whole = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(whole, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.long)
        # What the products with a row lack whose least number became zero, for each unit of that.
        self.sums = whole.sum(1) * self.scales
        self.bias = bias

    def __call__(self, rows: "torch.Tensor") -> "torch.Tensor":
        import torch

        # Two passes: torch's function for both ends takes five times as long along short rows.
        least = rows.amin(1, keepdim=True)
        width = (rows.amax(1, keepdim=True) - least).clamp_min_(1e-20)
        # Cutting off what is behind the point rounds numbers that are not below zero. (In one step, which torch has
        # too, it takes three times as long along rows.)
        half = width * (0.5 / ROW_LEVELS)
        whole = torch.sub(rows, least - half).mul_(ROW_LEVELS / width).to(torch.uint8)
        plain = (None, 1.0, 0, torch.float32, "none", [], "")
        made = torch.ops.onednn.qlinear_pointwise(
            whole, 1 / ROW_LEVELS, 0, self.weight, self.scales, self.zeros, *plain
        )
        return torch.addcmul(self.bias, made, width, out=made).addcmul_(least, self.sums)


def has_int8(device: "torch.device") -> bool:
    """Whether fast products of 8 bits are at hand: on x86 CPUs, where torch comes with oneDNN."""
    import torch

    return device.type == "cpu" and is_x86() and torch.backends.mkldnn.is_available()


def is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")
