"""`fogguard bench accuracy` and `failover`: nodes are made to fail; each imports what it needs when it is used."""

import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec.structs import asdict, replace

from benchmarks.options import (
    BundlePath,
    Json,
    Rate,
    Window,
    placed,
    require_writable,
)
from broker.errors import FogError

if TYPE_CHECKING:
    from benchmarks.place import Place


@placed
def accuracy(
    bundle: BundlePath,
    by: Annotated[
        Literal["kill", "stop", "freeze", "cut", "unplug", "power", "hand"],
        typer.Option(
            help="How nodes fail: cut, unplug in a lab; power by --plug; by hand, you are told what to unplug."
        ),
    ] = "kill",
    masks: Annotated[int | None, typer.Option(help="How many, drawn. (default: all)", min=1)] = None,
    mask: Annotated[list[str] | None, typer.Option(help="Only this one, such as 101; may be repeated.")] = None,
    rows: Annotated[int, typer.Option("--rows", "--steps", help="Of the test rows, under each mask.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draw of masks.", min=0)] = 0,
    window: Window = 16,
    json: Json = None,
    *,
    place: "Place",
) -> None:
    """Put a fleet into every node failure combination, and compare its answers with the predicted ones.

    Nodes fail and come back one at a time. Only rows count that are fed once every living node sees who is dead. A
    link that corrupts, and a node that computes wrong, far too slowly or for another bundle, is named; then it fails.
    The file that --json names is whole at any moment, and the same command goes on where it was ended.
    """
    import msgspec

    from benchmarks import accuracy
    from benchmarks.culprits import require_none
    from benchmarks.environment import head
    from benchmarks.evidence import Evidence
    from benchmarks.fleet import FLAT_OUT
    from benchmarks.keeping import Keeper, cut_short
    from benchmarks.measuring import Measuring
    from benchmarks.place import able, emulated_at, patience_s, require_reach, trial_at
    from benchmarks.terminal import print_accuracy, progress_bar, say
    from benchmarks.timeline import topology
    from benchmarks.witness import naming
    from edge_agent.bundle import load

    require_writable(json)
    how = able(place, by, by_hand=True)
    start = head(emulated=emulated_at(place))
    found = load(bundle)
    manifest = found.manifest
    settings = [[setting[node] for node in manifest.order] for setting in manifest.settings.values()]
    some = accuracy.chosen_masks(manifest.order, settings, masks, seed, mask or ())
    dead = {node for each in some for node, bit in zip(manifest.order, each, strict=True) if bit == "0"}
    require_reach(place, how, dead, manifest.order, "choose masks with --mask in which all of these live")
    same = {"bundle": found.id.hex(), "fleet": place.fleet_of(manifest), "masks_asked": some, "rows_asked": rows}
    earlier = cut_short(json, {**same, "emulated": start.emulated, "by": how}) or {}
    before = {"masks": [], "evidence": {}, **earlier}
    evidence = msgspec.convert(before["evidence"], Evidence, strict=False)
    known = {each.mask: each for each in msgspec.convert(before["masks"], list[accuracy.MaskAccuracy])}
    keeper = Keeper(json, start, {**same, "fog": manifest.name, "topology": topology(manifest)})
    latest = accuracy.Accuracy(
        order=manifest.order, by=how, rows=rows, masks=[*known.values()], average={}, steps_per_s=0.0, evidence=evidence
    )

    def told(so_far: accuracy.Accuracy) -> None:
        nonlocal latest
        latest = so_far
        keeper.keep(lambda: asdict(latest))

    def ended() -> None:
        keeper.leave(asdict(replace(latest, findings=evidence.findings())))

    options: dict[str, Any] = {"rate": FLAT_OUT, "window": window, "rows": rows, "progress": say}
    with contextlib.ExitStack() as stack:
        stack.enter_context(naming(evidence, ended))
        trial, hands = stack.enter_context(trial_at(place, bundle, by_hand=by == "hand", **options))
        update = stack.enter_context(progress_bar("masks"))
        measuring = Measuring(trial, hands, how, known, evidence)
        result = measuring.run(some, update, told, patience_s(how))
    keeper.finish(asdict(result))
    print_accuracy(result)
    require_none(result.findings)
    accuracy.require_as_predicted(result)


@placed
def failover(
    bundle: BundlePath,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOW,…",
            help="kill, stop, freeze, restart, broker-kill; in a lab also cut, unplug, slow=PERCENT of a core, "
            "lossy=PERCENT of the packets, reboot, broker-unplug; power by --plug; hand; all. (default: kill,freeze)",
        ),
    ] = None,
    times: Annotated[int, typer.Option(help="How many failures of each kind.", min=1)] = 30,
    steps: Annotated[int, typer.Option(help="How many to measure after each.", min=1)] = 100,
    hold: Annotated[float, typer.Option(help="For how many seconds a node is slow or lossy.", min=0.1)] = 3.0,
    rate: Rate = 200.0,
    json: Json = None,
    *,
    place: "Place",
) -> None:
    """Let the nodes of a fleet fail in turn, and time how soon the others sense it and what it costs.

    Fails if a label is not the predicted one, or a step is lost otherwise than by the broker's death.
    The file that --json names is whole at any moment; the same command goes on with the classes that it does not hold.
    """
    import msgspec

    from benchmarks.environment import head
    from benchmarks.episodes import Series
    from benchmarks.failover import Failover, require_as_predicted, ways
    from benchmarks.keeping import Keeper, cut_short
    from benchmarks.place import emulated_at, patience_s, say_what_is_spared, trial_at, within_reach
    from benchmarks.terminal import print_failovers, say
    from benchmarks.timeline import topology
    from edge_agent.bundle import load

    require_writable(json)
    chosen = ways(by or ["kill,freeze"], (*place.verbs, "hand"), place.broker_verbs)
    is_by_hand = any(way.harm.verb == "hand" for way in chosen)
    if is_by_hand and len(chosen) > 1:
        raise FogError("--by hand: by hand alone, in a run of its own")
    start = head(emulated=emulated_at(place))
    found = load(bundle)
    say_what_is_spared(place, found.manifest.order)
    about = {"bundle": found.id.hex(), "fleet": place.fleet_of(found.manifest)}
    same = {**about, "rate": rate, "times": times, "steps": steps, "hold_s": hold}
    before = cut_short(json, {**same, "emulated": start.emulated}) or {"classes": {}}
    classes = {
        name: each for name, each in msgspec.convert(before["classes"], dict[str, Failover]).items() if each.n == times
    }
    keeper = Keeper(json, start, {**same, "topology": topology(found.manifest)})
    with trial_at(place, bundle, by_hand=is_by_hand, rate=rate, progress=say) as (trial, hands):
        keeper.keep(lambda: {"classes": classes})
        trial.driver.begin("all alive", frozenset(trial.bundle.manifest.order))
        trial.driver.settle(by_all=True)
        for way in [way for way in chosen if way.name not in classes]:

            def told(so_far: Failover, name: str = way.name) -> None:
                classes[name] = so_far
                keeper.keep(lambda: {"classes": classes})

            series = Series(
                *(trial, hands, way, within_reach(place, way.harm.verb, found.manifest.order)),
                steps=steps,
                hold_s=hold,
                one_clock=place.has_one_clock,
                patience_s=patience_s(way.harm.verb),
            )
            told(series.run(times, told, say))
    keeper.finish({"classes": classes})
    print_failovers(classes)
    require_as_predicted(classes)
