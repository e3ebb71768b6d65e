"""`fogguard bench`: how fast, and how soon failures are sensed; each command imports what it needs when it is used."""

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec.structs import asdict

from benchmarks.failing_commands import accuracy, failover
from benchmarks.options import (
    BrokerChoice,
    BundlePath,
    Json,
    Rate,
    Window,
    newest_bundle,
    placed,
    rates_of,
    require_writable,
    seconds_of,
    write,
)
from broker.errors import FogError

if TYPE_CHECKING:
    from benchmarks.place import Place

bench = typer.Typer(no_args_is_help=True, help="Measure how fast things are, and how soon failures are sensed.")


bench.command("accuracy", epilog="Example: fogguard bench accuracy demo/bundle --by stop --json accuracy.json")(
    accuracy
)


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
    write(json, found)
    print_comparison(found)
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


bench.command("failover", epilog="Example: fogguard bench failover demo/bundle --by freeze,slow=5 --lab lab")(failover)


@bench.command("latency", epilog="Example: fogguard bench latency demo/bundle --broker mosquitto")
@placed
def latency(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="[default with --local: the one exported last here]")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="A fleet of processes on this machine, beside a bare relay. [default]")
    ] = False,
    steps: Annotated[int, typer.Option(help="One by one, at the least; locally as many in each round.", min=1)] = 500,
    min_seconds: Annotated[float, typer.Option(help="How long to feed one by one, at the least.", min=0)] = 10.0,
    offered: Annotated[
        str | None,
        typer.Option(metavar="RATES", help="Loads in steps a second, 50,100,200. (default: doubled until not borne)"),
    ] = None,
    window: Window = 16,
    rounds: Annotated[int, typer.Option(help="The figures are their medians.", min=1)] = 5,
    beside: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="A relay of yours in turns; {port} is the broker's. See docs/method.md."),
    ] = None,
    json: Json = None,
    *,
    place: "Place",
) -> None:
    """Time each step of a fleet by stages, offer it more and more, and name who holds it up: then the exit code is 1.

    So it is if a step is not answered.
    A fleet on this machine is timed in turns with the barest relay of the same graphs on the same broker besides.
    """
    from benchmarks import latency
    from benchmarks.culprits import require_none
    from benchmarks.environment import head
    from benchmarks.keeping import Keeper
    from benchmarks.place import emulated_at
    from benchmarks.running import require_answered
    from benchmarks.running_view import print_examined
    from benchmarks.terminal import print_latency, say

    require_writable(json)
    if bundle is None and not local:
        raise FogError("name a bundle, or --local for the one that was exported last in this folder")
    here = "every node is a process on this machine and the network is loopback"
    start = head(emulated=here if place.local else emulated_at(place))
    rates = None if offered is None else rates_of(offered)
    path = bundle or newest_bundle()
    keeper = Keeper(json, start, {})
    if place.local:
        found = latency.measure(path, place.broker, steps, window, rounds, say, beside, min_seconds, rates, keeper.keep)
    else:
        found = latency.measure_there(place, path, steps, min_seconds, rates, say, keeper.keep)
    keeper.finish(found)
    if place.local:
        print_latency(found)
    print_examined(found)
    require_none(found["findings"])
    require_answered(found)


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
        Literal["embedded", "mosquitto"] | None, typer.Option(help="It is started here. (default: what is here)")
    ] = None,
    json: Json = None,
) -> None:
    """Keep a local fleet at full load while nodes, the broker and messages go wrong, and account for everything.

    Nodes are killed and restarted, frozen and thawed, the broker is restarted, and malformed messages come in bursts.
    Fails if a step is lost but by the broker, a label is wrong or none could be compared, a counter does not add up, or
    memory grows.
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

    Fails if a step is lost, or answered by another bundle than it was fed for, or with another label than predicted, or
    if no label could be compared.
    """
    from benchmarks.environment import head
    from benchmarks.fleet import running_trial
    from benchmarks.switched import COLUMNS, require_whole
    from benchmarks.switching import switch_there_and_back
    from benchmarks.terminal import print_table, say
    from edge_agent.bundle import load

    require_writable(json)
    start = head(emulated="every node is a process on this machine, told by SIGHUP which bundles to hold; loopback")
    new = load(other)
    new.verify()
    if new.id == load(bundle).id:
        raise FogError(f"{bundle} and {other} are the same bundle, {new.id.hex()}: nobody would switch")
    with running_trial(bundle, broker=broker, rate=rate, window=window, progress=say) as trial:
        found = switch_there_and_back(trial, new, still, say)
    write(
        json,
        {"bundle": trial.bundle.id.hex(), "fog": trial.bundle.manifest.name, "rate": rate, "switches": found},
        start,
    )
    for each in found:
        print_table(f"{each.old} to {each.new}", COLUMNS, each.rows)
        for when, memory in each.rss_mb.items():
            say(f"resident MB {when}: {', '.join(f'{node} {mb:.1f}' for node, mb in memory.items())}")
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
