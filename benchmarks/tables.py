"""The tables of docs/RESULTS.md: what is trained for each, kept in `runs/`, and measured into `benchmarks/results/`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks.environment import head, with_head, write_json
from benchmarks.terminal import progress_bar, say
from benchmarks.training import train_run
from broker.errors import FogError
from export.average import DIGITS, Evaluation, evaluate_runs
from export.data import load_data
from export.runs import RUN, Run, load_run
from export.skips import Planner, choose_skips, chosen_spec
from export.spec import Spec, load_spec
from export.variants import Choice


class Table(NamedTuple):
    """One table: the specification, and what is trained on it."""

    name: str
    spec: str
    choices: Sequence[Choice]
    seeds: int = 10


NAMES = ("vanilla", "deepfogguard", "failout", "mux", "fogguard")
"""The main variants."""


def _failout_changes() -> list[Choice]:
    """Return one change at a time: rate or setting, weights, the Add, skips."""
    of = partial(Choice.of, "failout")
    return [
        *(of({"failures": rate}) for rate in (0.05, 0.1, 0.2, 0.3)),
        *(of({"failures": setting}) for setting in ("hazardous", "settings")),
        *(of({"weights": weights}) for weights in ("reliability", "normalised", "learned")),
        of({"normalise": True}),
        *(of({"maps": maps}) for maps in ("widths", "all")),
        of({"initial": "glorot"}),
        *(of(skips=skips) for skips in ("none", "nodes")),
    ]


def _fogguard_changes(more_skips: str, epochs: int | None = None) -> list[Choice]:
    """Return what it consists of, one change at a time; `more_skips` names more than the specification's."""
    of = partial(Choice.of, "fogguard", epochs=epochs)
    return [of(), of({"maps": "none"}), of({"decay": False}), *(of(skips=skips) for skips in ("none", more_skips))]


_UNSEEN = ("vanilla", "deepfogguard", "failout", "fogguard")
_PLAIN = Choice.of("deepfogguard", {"maps": "none", "initial": "uniform"})
_CAMERA_FOGGUARD: Sequence[dict[str, Any]] = ({"draws": 1}, {"class_power": 1.0}, {"initial": "glorot"})


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("health", "health", [*map(Choice.of, NAMES), Choice.of("fogguard", skips="all"), _PLAIN]),
        Table("health-by-subject", "health", [Choice.of(name, split="group", epochs=3) for name in _UNSEEN], seeds=2),
        Table("health-ablations", "health", _fogguard_changes("all", epochs=3), seeds=3),
        Table("camera", "camera", [*map(Choice.of, NAMES), Choice.of("fogguard", skips="nodes")]),
        Table(
            "camera-ablations",
            "camera",
            [
                *_failout_changes(),
                _PLAIN,
                *_fogguard_changes("nodes"),
                *(Choice.of("fogguard", each) for each in _CAMERA_FOGGUARD),
            ],
        ),
    )
}


def named(name: str) -> list[Table]:
    """Return the table of this name, or all; raises FogError."""
    if name == "all":
        return list(TABLES.values())
    if name not in TABLES:
        raise FogError(f"table {name!r}: there are {', '.join(TABLES)} and all")
    return [TABLES[name]]


def reproduce(table: Table, runs: Path, results: Path) -> Path:
    """Train what is not yet in `runs`, measure all on the test rows, and write the result; return its file."""
    start = head(emulated="nothing: accuracies of trained networks in this process")
    base = load_spec(table.spec)
    rows = load_data(base.data.set)
    seeds = range(table.seeds)
    paths = []
    for choice in table.choices:
        spec = chosen_spec(base, choice)
        path = runs / f"{spec.name}-{choice.slug}-{table.seeds}"
        if _is_done(path, spec, choice, seeds, rows.sha256):
            say(f"{path}: trained before")
        else:
            train_run(spec, rows, choice, seeds, path)
        paths.append(path)
    with progress_bar(f"evaluating {table.name}") as update:
        found = evaluate_runs(paths, progress=lambda done, total: update(done, total, "rows"))
    body = msgspec.to_builtins(_shortened(found) if table.name.endswith("ablations") else found)
    ceilings = {choice.name: ceiling(chosen_spec(base, choice), found.chance) for choice in table.choices}
    file = results / f"{table.name}.json"
    write_json(file, with_head(start, {**body, "ceiling": ceilings}))
    return file


def ceiling(spec: Spec, chance: float) -> dict[str, float]:
    """Return, per setting, the average accuracy of a network that is never wrong while a path lives."""
    found = {}
    for setting in spec.settings:
        lives = Planner(spec, setting).judge(choose_skips(spec, "specified")).lives
        found[setting] = round(lives + (1 - lives) * chance, DIGITS)
    return found


def _is_done(path: Path, spec: Spec, choice: Choice, seeds: Sequence[int], data_sha256: str) -> bool:
    """Return whether `path` holds this very training; another one in its place is replaced."""
    if not (path / RUN).exists():
        return False
    run: Run = load_run(path)
    found = (run.spec, run.name, run.variant, run.seeds, run.data_sha256)
    return found == (spec.text, choice.name, choice.variant, tuple(seeds), data_sha256)


def _shortened(found: Evaluation) -> Evaluation:
    """Leave the single masks out."""
    return msgspec.structs.replace(
        found,
        variants={
            name: msgspec.structs.replace(
                variant, seeds=[msgspec.structs.replace(seed, per_mask={}) for seed in variant.seeds]
            )
            for name, variant in found.variants.items()
        },
    )
