"""Variants: how a network is joined and trained, as options of one model."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from broker.errors import FogError
from export.spec import Split

Weights = Literal["one", "reliability", "normalised", "learned"]
Maps = Literal["none", "widths", "all"]
LONGEST = 120


class VariantError(FogError):
    """Options that make no network of this specification."""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of the model and of its training; the defaults are those of a plain deepFogGuard.

    Attributes:
        skips: Whether the skip hyperconnections of the specification are there.
        failures: In training each node's output vanishes, drawn per row: with this probability (failout), or as
            in the reliability setting of this name, "settings" for all of them in turn.
        mux: A skip counts only if every simple input that it goes past is absent (ResiliNet).
        weights: w_ji of Eq. (1): 1; the source's reliability r_j; r_j over the sum of the node's inputs; or trained.
        reliability: The setting whose r_j the weights take.
        maps: Which hyperconnections pass through a trained linear map of their own on arrival: none (zero padding);
            those of another width than the receiver's; or besides them all between nodes, where several meet.
        normalise: Divide the Add by the share of its inputs that are present.
        initial: First weights: uniform within 1/√in, biases too; or Glorot's, uniform within √(6/(in + out)) and biases
            0, as the authors' framework draws them; trained maps then too, instead of beginning as zero padding.
        draws: How many combinations are drawn for each row and step; None: as the specification's training says.
        class_power: Where the specification weights classes: by their frequency to minus this power.
        decay: The learning rate falls to nothing along a cosine.
        select: What the best epoch is best in, on the validation rows: accuracy while all are alive, or the average
            accuracy of Eq. (3), mean of the settings.
    """

    skips: bool = True
    failures: float | str = 0.0
    mux: bool = False
    weights: Weights = "one"
    reliability: str = "hazardous"
    maps: Maps = "none"
    normalise: bool = False
    initial: Literal["uniform", "glorot"] = "uniform"
    draws: int | None = 1
    class_power: float = 1.0
    decay: bool = False
    select: Literal["unbroken", "average"] = "unbroken"

    @property
    def told(self) -> bool:
        """Whether a node's graph must be told which of its inputs are present."""
        return self.mux or self.normalise


VARIANTS: dict[str, Variant] = {
    "vanilla": Variant(skips=False),
    "deepfogguard": Variant(maps="widths", initial="glorot"),
    "failout": Variant(failures=0.1, select="average"),
    "mux": Variant(failures=0.1, mux=True, select="average"),
    "fogguard": Variant(failures="settings", draws=None, maps="all", class_power=0.5, decay=True, select="average"),
}


class Choice(NamedTuple):
    """What is trained: a variant, and what was changed about it and about the specification.

    Attributes:
        name: The variant's, and every change.
        variant: With the changes.
        skips: Other skips than the specification's, as `export.skips.choose_skips` reads them.
        split: Another split of the rows.
        epochs: Another number of epochs.
    """

    name: str
    variant: Variant
    skips: str | None = None
    split: Split | None = None
    epochs: int | None = None

    @classmethod
    def of(
        cls,
        variant: str,
        changes: Mapping[str, Any] | None = None,
        *,
        skips: str | None = None,
        split: Split | None = None,
        epochs: int | None = None,
    ) -> "Choice":
        """Return a variant of `VARIANTS` with other options; None leaves an option as it is."""
        changed = {option: value for option, value in (changes or {}).items() if value is not None}
        if skips not in (None, "none") and not VARIANTS[variant].skips:
            raise VariantError(
                f"{variant} has no skips, whatever are chosen: leave out --skips, or take another variant"
            )
        if "failures" in changed:
            changed["failures"] = _failures(changed["failures"])
        spec_changes = {"skips": skips, "split": split, "epochs": epochs}
        told = {**changed, **{option: value for option, value in spec_changes.items() if value is not None}}
        name = " ".join([variant, *(f"{option}={value}" for option, value in told.items())])
        return cls(name, msgspec.structs.replace(VARIANTS[variant], **changed), skips, split, epochs)

    @property
    def slug(self) -> str:
        """The name as part of a file's; of a long one the beginning, and a hash."""
        slug = re.sub(r"[^\w.]+", "-", self.name)
        return (
            slug if len(slug) <= LONGEST else f"{slug[:LONGEST]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"
        )


def _failures(text: float | str) -> float | str:
    """Return a rate, or the name of a setting."""
    try:
        rate = float(text)
    except ValueError:
        return text
    if not 0 <= rate < 1:
        raise VariantError(f"failures {text}: give a rate from 0 to below 1, or the name of a reliability setting")
    return rate
