"""All kinds of source, by name: those built in, and what installed packages offer as entry points of GROUP."""

import inspect
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from edge_agent.kinds import SourceError, csv, folder, mqtt, replay
from edge_agent.sample import Factory, Leaf, Options

GROUP: Final = "fogguard.sources"
BUILT_IN: Final[Mapping[str, Factory]] = {"replay": replay, "folder": folder, "csv": csv, "mqtt": mqtt}
AS_THEY_COME: Final = frozenset({"csv", "mqtt"})
"""Kinds whose samples raise a step each, unless a rate is given."""
RATE: Final = 10.0
"""Samples a second that the others are drawn at, unless another rate is given."""


def rate_of(kind: str, rate: float | None) -> float:
    """Return how many steps a second a source raises; 0 if it is one for each sample, as they come."""
    return rate if rate is not None else 0.0 if kind in AS_THEY_COME else RATE


def find(kind: str, options: Options, leaf: Leaf) -> Factory:
    """Return what opens a source of `kind`; raises SourceError if there is none, or it does not take these options."""
    factory = BUILT_IN.get(kind) or _installed(kind)
    try:
        inspect.signature(factory).bind(leaf, **options)
    except TypeError as error:
        raise SourceError(f"source {leaf.name}, kind {kind}: {error}; its options are {_told(factory)}") from error
    for name, value in options.items():
        known = inspect.signature(factory).parameters.get(name)
        if known is not None and known.annotation in (str, bool) and not isinstance(value, known.annotation):
            raise SourceError(f"source {leaf.name}, kind {kind}: {name} = {value!r} is no {known.annotation.__name__}")
    return factory


def opened(factory: Factory, options: Options, leaf: Leaf) -> Iterator[Any]:
    """Open a source; raises whatever it raises."""
    return iter(factory(leaf, **options))


def _installed(kind: str) -> Factory:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=kind)}
    if not found:
        known = sorted({*BUILT_IN, *entry_points(group=GROUP).names})
        raise SourceError(
            f"no source of kind {kind!r} here: there are {', '.join(known)}, and what installed packages "
            f"offer in the entry point group {GROUP}"
        )
    if len(found) > 1:
        raise SourceError(f"several packages offer a source of kind {kind!r}: {', '.join(sorted(found))}")
    (entry,) = found.values()
    try:
        factory = entry.load()
    except Exception as error:  # a stranger's module may raise anything when it is imported
        raise SourceError(f"source kind {kind!r}: {entry.value} cannot be imported ({error!r})") from error
    if not callable(factory):
        raise SourceError(f"source kind {kind!r}: {entry.value} is not callable")
    found_factory: Factory = factory
    return found_factory


def _told(factory: Factory) -> str:
    names = [name for name, each in inspect.signature(factory).parameters.items() if each.kind is each.KEYWORD_ONLY]
    return ", ".join(names) or "none"
