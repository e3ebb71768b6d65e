"""`fogguard drill` and what is made of its results; each command imports what it needs when it is used."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.options import (
    BundlePath,
    FleetBroker,
    FleetName,
    InventoryFile,
    Json,
    Rate,
    TlsFolder,
    Window,
    placed,
    require_writable,
    seconds_of,
    write,
)
from broker.errors import FogError

if TYPE_CHECKING:
    from benchmarks.place import Place

field = typer.Typer()

Duration = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="45s, 30m, 8h. (default: one round, or 1m)")
]


@field.command("drill", epilog="Example: fogguard drill demo/bundle --random --setting poor --for 8h --json drill.json")
@placed
def drill(
    bundle: BundlePath,
    scenario: Annotated[
        Path | None, typer.Argument(metavar="[SCENARIO.toml]", help="What happens to whom, and when.")
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Each node is dead as often as a setting says.")] = False,
    by_hand: Annotated[bool, typer.Option("--by-hand", help="Be told what to unplug, and be timed.")] = False,
    duration: Duration = None,
    seed: Annotated[int, typer.Option(help="Of chance, and of whom is asked for when.", min=0)] = 0,
    setting: Annotated[str | None, typer.Option(help="What chance draws from. (default: the last one)")] = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="How often chance draws anew.")] = "5s",
    by: Annotated[
        Literal["kill", "stop", "freeze", "unplug", "cut", "slow", "lossy", "power"] | None,
        typer.Option(help="How chance lets nodes fail. (default: kill; unplug in a lab; power with --plug)"),
    ] = None,
    percent: Annotated[
        float | None, typer.Option(help="Of a core left by `slow`, of packets lost by `lossy`.", min=0.1, max=100)
    ] = None,
    hold: Annotated[str, typer.Option(metavar="TIME", help="By hand: how long a node stays unplugged.")] = "10s",
    patience: Annotated[str, typer.Option(metavar="TIME", help="By hand: how long to wait for it.")] = "60s",
    rate: Rate = 200.0,
    window: Window = 8,
    json: Json = None,
    *,
    place: "Place",
) -> None:
    """Feed a fleet while nodes fail by a scenario, by chance or by your hand; compare its answers with the predicted.

    A link that corrupts, and a node that computes wrong, far too slowly or for another bundle, is named; then it fails.
    The file that --json names is whole at any moment, and the same command goes on where it was ended.
    """
    from benchmarks.drill_run import Wish, perform

    modes = [scenario is not None, random, by_hand]
    if sum(modes) != 1:
        raise FogError("say what is to happen, one of three: a SCENARIO.toml, --random or --by-hand")
    require_writable(json)
    wish = Wish(
        scenario=scenario,
        random=random,
        duration_s=seconds_of(duration) if duration is not None else None,
        seed=seed,
        setting=setting,
        every_s=seconds_of(every, "--every"),
        by=by,
        percent=percent,
        hold_s=seconds_of(hold, "--hold"),
        patience_s=seconds_of(patience, "--patience"),
    )
    perform(bundle, wish, place, rate, window, json)


@field.command(
    "observe", epilog="Example: fogguard observe demo/bundle --broker mqtt://cloud.local:1883 --json week.json"
)
def observe(
    bundle: BundlePath,
    json: Annotated[Path, typer.Option("--json", help="Record to this file, which is whole at any moment.")],
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="45s, 30m, 8h.")] = "8h",
    broker: FleetBroker = None,
    fleet: FleetName = None,
    inventory: InventoryFile = None,
    tls: TlsFolder = None,
) -> None:
    """Record from when nodes are up and down in normal running, as the sink tells; feeds and commands nothing."""
    from msgspec.structs import asdict

    from benchmarks.environment import head, with_head, write_now
    from benchmarks.observe import Seen
    from benchmarks.observe import observe as record
    from benchmarks.place import place_of
    from benchmarks.terminal import say
    from broker.url import parse_urls
    from edge_agent.bundle import load

    require_writable(json)
    if json.exists():
        raise FogError(f"--json {json}: is there already: name another file, `fogguard reliability` takes several")
    found = load(bundle)
    place = place_of(broker=broker, fleet=fleet, external=True, inventory=inventory, tls=tls, role="observer")
    name = place.fleet_of(found.manifest)
    start = head()

    def keep(seen: Seen) -> None:
        write_now(json, with_head(start, {"bundle": found.id.hex(), "fog": found.manifest.name, **asdict(seen)}))

    say(f"recording fleet {name}; Ctrl-C ends it")
    record(parse_urls(place.broker or ""), name, found.manifest, seconds_of(duration), keep, say, place.tls)


@field.command(
    "watch", epilog="Example: fogguard watch demo/bundle --broker mqtt://cloud.local:1883 --http 127.0.0.1:8765"
)
def watch(
    bundle: BundlePath,
    broker: FleetBroker = None,
    fleet: FleetName = None,
    inventory: InventoryFile = None,
    tls: TlsFolder = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Serve a live page there, and /metrics for Prometheus, to whoever asks."
        ),
    ] = None,
) -> None:
    """Show a fleet live while you pull plugs, until Ctrl-C: states, mask, answers; feeds and commands nothing."""
    from benchmarks.place import place_of
    from benchmarks.terminal import say
    from benchmarks.timeline import topology
    from benchmarks.watch import watch as follow
    from benchmarks.watch_page import Board, serving
    from benchmarks.watch_view import watch_view
    from benchmarks.watched import Snapshot
    from broker.url import parse_urls
    from edge_agent.bundle import load
    from edge_agent.metrics import Metrics

    found = load(bundle)
    place = place_of(broker=broker, fleet=fleet, external=True, inventory=inventory, tls=tls, role="watcher")
    name, brokers = place.fleet_of(found.manifest), parse_urls(place.broker or "")
    fog, board = topology(found.manifest), Board()
    log = logging.getLogger("fogguard.link")
    with contextlib.ExitStack() as stack:
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)  # the view tells that the broker is away
        if http:
            url = stack.enter_context(serving(http, fog, board))
            say(f"page at {url}, for Prometheus {url}metrics")
        say(f"watching fleet {name}; Ctrl-C ends it")
        show = stack.enter_context(watch_view(fog))

        def told_now(now: Snapshot, metrics: Mapping[str, Metrics]) -> None:
            show(now)
            board.post(now, metrics)

        with contextlib.suppress(KeyboardInterrupt):
            follow(found, brokers, name, told_now, place.tls)


@field.command("reliability", epilog="Example: fogguard reliability drill.json week.json --json observed.json")
def reliability(
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING…", help="Files by drill and observe.")],
    assumed: Annotated[
        str, typer.Option("--repair", metavar="TIME", help="How long a repair takes, if none was ever seen.")
    ] = "1h",
    json: Json = None,
) -> None:
    """Estimate from recorded ups and downs how often each node is up, with a 95 % interval."""
    from benchmarks.expected import print_observed
    from benchmarks.uptime import estimate, read_recording

    require_writable(json)
    found = estimate([read_recording(file) for file in recordings], seconds_of(assumed, "--repair"))
    write(json, found)
    print_observed(found)


@field.command("report", epilog="Example: fogguard report drill.json --out drill.html")
def report(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="By a drill, a benchmark, or another --json.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PAGE.html", help="The page.")] = Path("report.html"),
) -> None:
    """Draw a result as one self-contained page, with its pictures as PNG and its tables as Markdown beside it."""
    from benchmarks.kinds import read_result
    from benchmarks.report import write_page
    from benchmarks.terminal import say

    require_writable(None, out)
    if out.suffix not in (".html", ".htm"):
        raise FogError(f"--out {out}: call the page NAME.html")
    files = write_page(read_result(result), str(result), out)
    say(f"report: {', '.join(map(str, files))}")
