"""`fogguard bench`: how fast, and how soon failures are sensed; each command imports what it needs when it is used."""

import contextlib
import logging
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from msgspec.structs import asdict

from benchmarks.options import (
    BrokerChoice,
    BundlePath,
    External,
    FleetName,
    Json,
    LabName,
    PlugList,
    Rate,
    TlsFolder,
    Window,
    newest_bundle,
    require_writable,
    seconds_of,
    write,
)
from broker.errors import FogError

bench = typer.Typer(no_args_is_help=True, help="Measure how fast things are, and how soon failures are sensed.")


@bench.command("accuracy", epilog="Example: fogguard bench accuracy demo/bundle --by stop --json accuracy.json")
def accuracy(
    bundle: BundlePath,
    by: Annotated[
        Literal["kill", "stop", "freeze", "cut", "unplug", "power", "hand"],
        typer.Option(
            help="How nodes fail: cut, unplug in a lab; power by --plug; by hand, you are told what to unplug."
        ),
    ] = "kill",
    masks: Annotated[int | None, typer.Option(help="How many, drawn. [default: all]", min=1)] = None,
    mask: Annotated[list[str] | None, typer.Option(help="Only this one, such as 101; may be repeated.")] = None,
    rows: Annotated[int, typer.Option("--rows", "--steps", help="Of the test rows, under each mask.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draw of masks.", min=0)] = 0,
    window: Window = 16,
    broker: BrokerChoice = None,
    fleet: FleetName = None,
    external: External = False,
    lab: LabName = None,
    plug: PlugList = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Put a fleet into every node failure combination, and compare its answers with the predicted ones.

    Nodes fail and come back one at a time. Only rows count that are fed once every living node sees who is dead. The
    file that --json names is whole at any moment, and the same command goes on where it was ended.
    """
    import msgspec

    from benchmarks import accuracy
    from benchmarks.environment import head
    from benchmarks.fleet import FLAT_OUT
    from benchmarks.keeping import Keeper, cut_short
    from benchmarks.place import able, emulated_at, patience_s, place_of, trial_at
    from benchmarks.terminal import print_accuracy, progress_bar, say
    from benchmarks.timeline import topology
    from edge_agent.bundle import load

    require_writable(json)
    place = place_of(broker=broker, fleet=fleet, tls=tls, external=external, lab=lab, plugs=plug or ())
    how = able(place, by, by_hand=True)
    start = head(emulated=emulated_at(place))
    found = load(bundle)
    manifest = found.manifest
    settings = [[setting[node] for node in manifest.order] for setting in manifest.settings.values()]
    some = accuracy.chosen_masks(manifest.order, settings, masks, seed, mask or ())
    about = {"bundle": found.id.hex(), "fog": manifest.name, "topology": topology(manifest), "planned": len(some)}
    before = cut_short(json, {"bundle": found.id.hex(), "by": how, "planned": len(some)}) or {"masks": []}
    known = {each.mask: each for each in msgspec.convert(before["masks"], list[accuracy.MaskAccuracy])}
    keeper = Keeper(json, start, about)
    options: dict[str, Any] = {"rate": FLAT_OUT, "window": window, "rows": rows, "progress": say}
    with trial_at(place, bundle, by_hand=by == "hand", **options) as (trial, hands), progress_bar("masks") as update:
        measuring = accuracy.Measuring(trial, hands, how, known)
        result = measuring.run(some, update, lambda so_far: keeper.keep(lambda: asdict(so_far)), patience_s(how))
    print_accuracy(result)
    keeper.finish(asdict(result))
    accuracy.require_as_predicted(result)


@bench.command("compare", epilog="Example: fogguard bench compare before.json after.json")
def compare(
    before: Annotated[Path, typer.Argument(metavar="BEFORE.json", help="A result of a benchmark or drill.")],
    after: Annotated[Path, typer.Argument(metavar="AFTER.json", help="Another one of the same command.")],
    json: Json = None,
) -> None:
    """Tell whether a result is worse than an earlier one beyond noise: then the exit code is 1."""
    from benchmarks.comparison import compare as compare_results
    from benchmarks.comparison import print_comparison, require_no_worse
    from benchmarks.kinds import read_result

    require_writable(json)
    found = compare_results(read_result(before), read_result(after), str(before), str(after))
    print_comparison(found)
    write(json, found)
    require_no_worse(found)


@bench.command("evaluation", epilog="Example: fogguard bench evaluation camera-bundle --json evaluation.json")
def evaluation(
    bundle: BundlePath,
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 5,
    json: Json = None,
) -> None:
    """Time every mask of a bundle: each node once in each of its states, against mask after mask."""
    from benchmarks import speed
    from benchmarks.terminal import print_table, say

    require_writable(json)
    found = speed.evaluation(bundle, rounds, say)
    columns = ("fog", "masks", "shared s", "plain s", "ratio")
    rows = [(found["fog"], found), *((f"chain of {each['nodes']}", each) for each in found["growth"])]
    print_table(
        f"all masks of {found['rows']} rows",
        columns,
        [
            (name, str(each["masks"]), f"{each['shared_s']:.3f}", f"{each['plain_s']:.3f}", f"{each['ratio']:.1f}")
            for name, each in rows
        ],
    )
    write(json, found)


@bench.command(
    "failover", epilog="Example: fogguard bench failover demo/bundle --by freeze,slow=5 --times 30 --lab lab"
)
def failover(
    bundle: BundlePath,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOW,…",
            help="kill, stop, freeze, restart, broker-kill; in a lab also cut, unplug, slow=PERCENT of a core, "
            "lossy=PERCENT of the packets, reboot, broker-unplug; power by --plug; hand; all. [default: kill,freeze]",
        ),
    ] = None,
    times: Annotated[int, typer.Option(help="How many failures of each kind.", min=1)] = 30,
    steps: Annotated[int, typer.Option(help="How many to measure after each.", min=1)] = 100,
    hold: Annotated[float, typer.Option(help="For how many seconds a node is slow or lossy.", min=0.1)] = 3.0,
    rate: Rate = 200.0,
    broker: BrokerChoice = None,
    fleet: FleetName = None,
    external: External = False,
    lab: LabName = None,
    plug: PlugList = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Let the nodes of a fleet fail in turn, and time how soon the others sense it and what it costs.

    The file that --json names is whole at any moment; the same command goes on with the classes that it does not hold.
    """
    import msgspec

    from benchmarks.environment import head
    from benchmarks.episodes import Series
    from benchmarks.failover import Failover, ways
    from benchmarks.keeping import Keeper, cut_short
    from benchmarks.place import emulated_at, patience_s, place_of, trial_at
    from benchmarks.terminal import print_failovers, say
    from benchmarks.timeline import topology
    from edge_agent.bundle import load

    require_writable(json)
    place = place_of(broker=broker, fleet=fleet, tls=tls, external=external, lab=lab, plugs=plug or ())
    chosen = ways(by or ["kill,freeze"], (*place.verbs, "hand"), place.broker_verbs)
    is_by_hand = any(way.harm.verb == "hand" for way in chosen)
    if is_by_hand and len(chosen) > 1:
        raise FogError("--by hand: by hand alone, in a run of its own")
    start = head(emulated=emulated_at(place))
    found = load(bundle)
    same = {"bundle": found.id.hex(), "rate": rate, "times": times, "steps": steps, "hold_s": hold}
    before = cut_short(json, same) or {"classes": {}}
    classes = {
        name: each for name, each in msgspec.convert(before["classes"], dict[str, Failover]).items() if each.n == times
    }
    keeper = Keeper(json, start, {**same, "topology": topology(found.manifest)})
    with trial_at(place, bundle, by_hand=is_by_hand, rate=rate, progress=say) as (trial, hands):
        trial.driver.begin("all alive", frozenset(trial.bundle.manifest.order))
        trial.driver.settle(by_all=True)
        for way in [way for way in chosen if way.name not in classes]:

            def told(so_far: Failover, name: str = way.name) -> None:
                classes[name] = so_far
                keeper.keep(lambda: {"classes": classes})

            series = Series(
                *(trial, hands, way),
                steps=steps,
                hold_s=hold,
                one_clock=place.has_one_clock,
                patience_s=patience_s(way.harm.verb),
            )
            told(series.run(times, told, say))
    print_failovers(classes)
    keeper.finish({"classes": classes})


@bench.command("latency", epilog="Example: fogguard bench latency demo/bundle --broker mosquitto")
def latency(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="[default with --local: the one exported last here]")
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine, which is all that there is so far.")] = False,
    steps: Annotated[int, typer.Option(help="In each round: one by one, and as many with a window.", min=1)] = 500,
    window: Window = 16,
    rounds: Annotated[int, typer.Option(help="The figures are their medians.", min=1)] = 5,
    beside: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="A relay of yours in turns; {port} is the broker's. See docs/method.md."),
    ] = None,
    broker: BrokerChoice = None,
    json: Json = None,
) -> None:
    """Time a fleet on this machine in turns with the barest relay of the same graphs on the same broker."""
    from benchmarks import latency
    from benchmarks.environment import head
    from benchmarks.terminal import print_latency, say

    require_writable(json)
    if bundle is None and not local:
        raise FogError("name a bundle, or --local for the one that was exported last in this folder")
    start = head(emulated="every node is a process on this machine and the network is loopback")
    found = latency.measure(bundle or newest_bundle(), broker, steps, window, rounds, say, beside)
    print_latency(found)
    write(json, found, start)


@bench.command("provisioning", epilog="Example: sudo fogguard bench provisioning demo/bundle --json provisioning.json")
def provisioning(
    bundle: BundlePath,
    rounds: Annotated[int, typer.Option(help="How often, each with new devices; the figures are medians.", min=1)] = 3,
    json: Json = None,
) -> None:
    """Time `fogguard provision` on virtual devices: from bare to answering, a change, nothing to do, and back.

    Needs root and what `fogguard lab` needs.
    """
    from benchmarks.environment import head
    from benchmarks.provisioning import measure
    from benchmarks.terminal import print_table, say
    from edge_agent.bundle import load

    require_writable(json)
    start = head(
        bundle=load(bundle).id.hex(), emulated="devices are virtual: this machine's kernel, processor and disk"
    )
    found = measure(bundle, rounds, say)
    rows = [
        (what, f"{took:.1f}", *(f"{each:.1f}" for each in found["rounds"][what]))
        for what, took in found["seconds"].items()
    ]
    columns = ("seconds", "median", *(f"round {number}" for number in range(1, rounds + 1)))
    print_table(f"{found['fog']}: {found['devices']} devices, {found['broker']}", columns, rows)
    rows = [(unit, f"{exposure:.1f}") for unit, exposure in found["exposure"].items()]
    print_table("systemd-analyze security, of 10, where less is better", ("unit", "exposure"), rows)
    write(json, found, start)


@bench.command("soak", epilog="Example: fogguard bench soak demo/bundle --for 30m --json soak.json")
def soak(
    bundle: BundlePath,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="45s, 30m, 8h.")] = "30m",
    calm: Annotated[
        bool, typer.Option("--calm", help="Let nothing go wrong: then nobody may suspect anybody.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what goes wrong, and when.", min=0)] = 0,
    window: Window = 16,
    broker: Annotated[
        Literal["embedded", "mosquitto"] | None, typer.Option(help="It is started here. [default: what is here]")
    ] = None,
    json: Json = None,
) -> None:
    """Keep a local fleet at full load while nodes, the broker and messages go wrong, and account for everything.

    Nodes are killed and restarted, frozen and thawed, the broker is restarted, and malformed messages come in bursts.
    Fails if a step is lost but by the broker, a label is wrong, a counter does not add up, or memory grows.
    """
    from benchmarks.environment import head
    from benchmarks.fleet import FLAT_OUT, running_trial
    from benchmarks.soak import Soak
    from benchmarks.soaked import Soaked, line, require_ok
    from benchmarks.terminal import print_soak, progress_bar, say
    from broker.embedded import LocalBroker

    require_writable(json)
    planned_s = seconds_of(duration)
    start = head(emulated="every node is a process on this machine, killed by SIGKILL or frozen by SIGSTOP; loopback")
    for name in ("driver", "link"):  # lost connections and what is malformed are what we came for
        logging.getLogger(f"fogguard.{name}").setLevel(logging.ERROR)
    with LocalBroker(broker) as own, contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"broker": str(own.url), "rate": FLAT_OUT, "window": window, "progress": say}
        trial = stack.enter_context(running_trial(bundle, **options))
        update = stack.enter_context(progress_bar("soaking, seconds"))
        about = {"bundle": trial.bundle.id.hex(), "fog": trial.bundle.manifest.name, "broker": own.kind}

        def report(found: Soaked) -> None:
            write(json, {**about, "window": window, **asdict(found)}, start)
            update(round(found.elapsed_s), round(planned_s), line(found))

        found = Soak(trial, own, planned_s, seed, report, calm=calm).run()
    print_soak(found)
    require_ok(found)


@bench.command("switch", epilog="Example: fogguard bench switch demo/bundle other-bundle --rate 300")
def switch(
    bundle: BundlePath,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="Another bundle for the same nodes.")],
    still: Annotated[float, typer.Option(help="How long to measure before and after, in seconds.", min=0.1)] = 3.0,
    rate: Rate = 300.0,
    window: Window = 64,
    broker: BrokerChoice = None,
    json: Json = None,
) -> None:
    """Let a local fleet under load go over to another bundle and back, while the agents go on.

    Fails if a step is lost, or answered by another bundle than it was fed for, or with another label than predicted.
    """
    from benchmarks.environment import head
    from benchmarks.fleet import running_trial
    from benchmarks.switching import require_whole, switch_there_and_back
    from benchmarks.terminal import print_table, say
    from edge_agent.bundle import load

    require_writable(json)
    start = head(emulated="every node is a process on this machine, told by SIGHUP which bundles to hold; loopback")
    new = load(other)
    new.verify()
    with running_trial(bundle, broker=broker, rate=rate, window=window, progress=say) as trial:
        found = switch_there_and_back(trial, new, still, say)
    columns = ("", "s", "sent", "lost", "mixed", "held up", "labels as predicted", "p50 ms", "p99 ms", "longest ms")
    for each in found:
        rows = [
            (
                stretch.name,
                f"{stretch.seconds:.2f}",
                *map(str, (stretch.sent, stretch.lost, stretch.mixed, stretch.held_up)),
                f"{stretch.labels_equal} of {stretch.labels_compared}",
                *(f"{ms:.1f}" for ms in (stretch.latency_ms.p50, stretch.latency_ms.p99, stretch.longest_ms)),
            )
            for stretch in each.stretches
        ]
        print_table(f"{each.old} to {each.new}", columns, rows)
        for when, memory in each.rss_mb.items():
            say(f"resident MB {when}: {', '.join(f'{node} {mb:.1f}' for node, mb in memory.items())}")
    write(
        json,
        {"bundle": trial.bundle.id.hex(), "fog": trial.bundle.manifest.name, "rate": rate, "switches": found},
        start,
    )
    require_whole(found)


@bench.command("training", epilog="Example: fogguard bench training --json training.json")
def training(
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 5,
    batches: Annotated[int, typer.Option(help="Of Health, in each round.", min=1)] = 20,
    json: Json = None,
) -> None:
    """Time ten seeds against one (Camera), and training against the float32 matrix rate (Health)."""
    from benchmarks import speed
    from benchmarks.terminal import results, say

    require_writable(json)
    found = speed.training(rounds, batches, say)
    results.print(f"camera: ten seeds take {found['camera']['ratio']:.2f} times the time of one")
    for name in ("failout", "fogguard"):
        share = found["health"][name]
        results.print(
            f"health, {name}: {share['gflops']:.0f} GFLOP/s, {100 * share['share']:.0f} % of the float32 matrix rate"
        )
    write(json, found)
