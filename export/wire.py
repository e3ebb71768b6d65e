"""How a vector travels: as it is, as halves, or as bytes; and what that does to it.

An output is published once for all that hear it, so the choice is the sender's, not the hyperconnection's. Rounding is
part of the graphs: a partition's last step encodes, and the first step of whoever hears it decodes. Φ stays Φ: zeros
decode to zeros, in every format.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from broker.errors import FogError
from broker.frame import Dtype

_GREATEST_HALF: Final = 65504.0
_GREATEST_BYTE: Final = 127
_LEAST_SCALE: Final = torch.finfo(torch.float32).tiny
"""Whatever is smaller is no normal number, and dividing by it may come to infinity."""


class WireError(FogError):
    """A choice of wire formats that cannot be."""


class Wire(NamedTuple):
    """The format of one output; an int8 counts in units of `scale`."""

    dtype: Dtype = "float32"
    scale: float = 1.0

    @property
    def torch(self) -> torch.dtype:
        """The dtype for torch."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def encode(self, x: Tensor) -> Tensor:
        """Return float32 values of any shape as they travel."""
        if self.dtype == "float16":
            return x.clamp(-_GREATEST_HALF, _GREATEST_HALF).to(torch.float16)
        if self.dtype == "int8":
            return (x / self.scale).round().clamp(-_GREATEST_BYTE, _GREATEST_BYTE).to(torch.int8)
        return x

    def decode(self, x: Tensor) -> Tensor:
        """Return what has travelled as float32 values."""
        wide = x.to(torch.float32)
        return wide * self.scale if self.dtype == "int8" else wide

    def rounded(self, x: Tensor) -> Tensor:
        """Return what is left of `x` on arrival."""
        return self.decode(self.encode(x))


FLOAT32: Final = Wire()


class Part(nn.Module):
    """A module between what arrives and what leaves; inputs beyond `arriving` are passed on as they are."""

    def __init__(self, module: nn.Module, arriving: Sequence[Wire], leaving: Wire) -> None:
        super().__init__()
        self.module = module
        self.arriving = list(arriving)
        self.leaving = leaving

    def forward(self, *xs: Tensor) -> Tensor:
        """Return the encoded output for encoded inputs."""
        count = len(self.arriving)
        decoded = [wire.decode(x) for wire, x in zip(self.arriving, xs[:count], strict=True)]
        return self.leaving.encode(self.module(*decoded, *xs[count:]))


def parse_choices(choices: Iterable[str], senders: Sequence[str]) -> dict[str, Dtype]:
    """Return the dtype of each sender for `float16`, or `NODE=int8`, one after the other; raises WireError."""
    formats: dict[str, Dtype] = {"float32": "float32", "float16": "float16", "int8": "int8"}
    found: dict[str, Dtype] = dict.fromkeys(senders, "float32")
    for choice in choices:
        name, _, told = choice.rpartition("=")
        if told not in formats:
            raise WireError(f"wire {choice!r}: formats are {', '.join(formats)}")
        if name and name not in found:
            raise WireError(f"wire {choice!r}: nothing called {name!r} sends, only {', '.join(senders)}")
        found.update(dict.fromkeys([name] if name else senders, formats[told]))
    return found


def wires(dtypes: Mapping[str, Dtype], greatest: Mapping[str, float]) -> dict[str, Wire]:
    """Return each sender's format; `greatest` is the largest magnitude that it was seen to put out."""
    scales = {name: max((most or 1.0) / _GREATEST_BYTE, _LEAST_SCALE) for name, most in greatest.items()}
    return {name: Wire(dtype, scales[name]) if dtype == "int8" else Wire(dtype) for name, dtype in dtypes.items()}
