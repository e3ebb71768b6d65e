"""What a sensor says at one step: a vector as its graph wants it, or nothing.

A source, built in or of a package of yours, is a callable

    def thermometer(leaf: Leaf, *, bus: int = 1) -> Iterator[Vector | None]

that takes the leaf it is for and its own options by name, and returns what to draw samples from, with `next`, in a
thread of its own: a vector of as many numbers as `leaf.shape` holds, or None if there is nothing for this step.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.errors import FogError

Sample = npt.NDArray[np.float32]
Options = dict[str, bool | int | float | str]


class Leaf(NamedTuple):
    """The sensor that a source is for.

    Attributes:
        name: The sensor's, in the bundle.
        shape: Of one sample.
        messages: What comes on the source's option `topic`, if it has one; the newest, and each once.
    """

    name: str
    shape: tuple[int, ...]
    messages: Iterator[bytes] = iter(())


Factory = Callable[..., Iterable[Any]]


class SampleRefused(FogError):
    """One sample cannot be used; the next one may."""


def vector(values: object, shape: tuple[int, ...], where: str) -> Sample:
    """Return `values` as float32 of `shape`; raises SampleRefused, which says `where` they are from.

    Whatever has as many numbers is put into that shape, row by row: an image of 32 x 32 x 3 into 3072.
    """
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise SampleRefused(f"{where}: not an array of numbers ({error})") from error
    if found.dtype.kind not in "fiub":
        raise SampleRefused(f"{where}: not numbers but {found.dtype}")
    if found.size != math.prod(shape):
        raise SampleRefused(f"{where}: {found.size} values {found.shape}, the bundle wants {math.prod(shape)} {shape}")
    with np.errstate(over="ignore"):
        sample = found.astype(np.float32).reshape(shape)
    if not np.isfinite(sample).all():
        position = int(np.flatnonzero(~np.isfinite(sample))[0])
        raise SampleRefused(f"{where}: value {position + 1} is {found.flat[position]}, not a finite float32")
    return sample


def numbers(text: str, shape: tuple[int, ...], where: str) -> Sample:
    """Return the sample in numbers with commas, with or without brackets around; raises SampleRefused."""
    words = text.strip().removeprefix("[").removesuffix("]").split(",")
    try:
        return vector([float(word) for word in words], shape, where)
    except ValueError as error:
        raise SampleRefused(f"{where}: {error}") from error
