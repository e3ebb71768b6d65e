"""`fogguard`: the one command of the workstation. Each subcommand imports what it needs when it is used."""

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, Literal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while libraries are loaded, Ctrl-C ends it without a word

from broker.errors import FailureFound, FogError

try:
    import typer
except ImportError:
    sys.exit("fogguard: the workstation's commands are not installed here: pip install 'fogguard[all]'")

from benchmarks.commands import bench
from benchmarks.drill_commands import field
from benchmarks.options import BrokerChoice, BundlePath, InventoryFile, Json, Rate, TlsFolder, require_writable, write
from export.commands import check_bundle, export_run, network, train_choice
from provisioning.commands import provision
from provisioning.lab.commands import lab
from provisioning.owner_commands import owner

# Threads that wait for work sleep: spinning, two trainings side by side would slow each other many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="fogguard",
    help="Run one deep network across unreliable devices, and keep getting right answers when they are unplugged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(network)
app.add_typer(bench, name="bench")
app.add_typer(provision, name="provision")
app.add_typer(lab, name="lab")
app.add_typer(owner)
app.add_typer(field)


@app.command(epilog="Example: fogguard demo --json demo.json")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run, the bundle and the report.")] = Path("demo"),
    broker: BrokerChoice = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    json: Json = None,
) -> None:
    """Train, export and check a network, run it as a local fleet, unplug nodes while samples flow, and report."""
    from benchmarks import demo as acts
    from benchmarks.environment import head, with_head, write_json
    from benchmarks.report import write_report
    from benchmarks.terminal import print_phases, say
    from benchmarks.timeline import timeline, topology
    from export.variants import Choice

    require_writable(json)
    start = head(emulated=acts.EMULATED)
    train_choice("watch", out / "run", Choice.of("failout"), [seed])
    export_run(out / "run", out / "bundle")
    check_bundle(out / "bundle")
    bundle, trial, reports = acts.perform(out / "bundle", broker, say)
    ok = all(report.ok for report in reports)
    steps = timeline(trial.driver.phases, trial.held_out.truth, bundle.manifest.prior)
    body = {"bundle": bundle.id.hex(), "ok": ok, "phases": reports, "deadline_ms": trial.driver.deadline_ms}
    result = with_head(start, {**body, "topology": topology(bundle.manifest), "timeline": steps})
    write_json(out / "report.json", result)
    if json:
        write_json(json, result)
    write_report(result, out)
    print_phases("Answers while nodes are unplugged", reports)
    say(f"report: {out / 'report.html'}, {out / 'report.png'}, {out / 'report.json'}")
    acts.require_as_predicted(reports)


@app.command(epilog="Example: fogguard broker --port 1883")
def broker(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 1883,
    host: Annotated[str, typer.Option(help="The address to listen on; nobody is asked for a password.")] = "127.0.0.1",
    kind: Annotated[Literal["embedded", "mosquitto"] | None, typer.Option(help="(default: what is here)")] = None,
    render_mosquitto: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only write mosquitto's configuration for a fleet into DIR.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="What the fleet runs: with --pki, for TLS and access rules by its connections.")
    ] = None,
    pki: Annotated[Path | None, typer.Option(metavar="DIR", help="Certificates by `fogguard pki init`.")] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="SENSOR=TOPIC", help="A sensor may read a topic of others; repeatable.")
    ] = None,
) -> None:
    """Run a broker for one machine until Ctrl-C, or configure mosquitto for a fleet."""
    from benchmarks.terminal import say
    from broker import embedded

    if (bundle or pki) and not (render_mosquitto and bundle and pki):
        raise FogError("TLS and access rules take three: --render-mosquitto DIR --bundle BUNDLE --pki DIR")
    if listen and not bundle:
        raise FogError("--listen is about access rules: write --bundle BUNDLE --pki DIR too")
    if render_mosquitto:
        say(_render_mosquitto(render_mosquitto, host, port, bundle, pki, listen or ()))
        return
    with embedded.running_broker(kind, host, port) as url:
        say(f"broker at {url}, Ctrl-C ends it")
        signal.pause()


@app.command(epilog="Example: fogguard run demo/bundle --steps 500 --down f1")
def run(
    bundle: BundlePath,
    steps: Annotated[int, typer.Option(help="How many to feed; 0 goes on until Ctrl-C.", min=0)] = 0,
    rate: Rate = 200.0,
    down: Annotated[str, typer.Option(metavar="NODE,…", help="Nodes that are not started.")] = "",
    broker: BrokerChoice = None,
    fleet: Annotated[str | None, typer.Option(help="The fleet's name (default: the bundle's)")] = None,
    external: Annotated[
        bool, typer.Option("--external", help="The agents run elsewhere: feed and record only.")
    ] = False,
    inventory: InventoryFile = None,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Run a fleet of agents on this machine, fed with the test rows; unplug nodes as you like, and watch.

    A link that corrupts, and a node that computes wrong, far too slowly or for another bundle, is named.
    """
    from benchmarks.demo import require_as_predicted
    from benchmarks.environment import head
    from benchmarks.evidence import Evidence
    from benchmarks.fleet import running_trial
    from benchmarks.live import follow_witnessed
    from benchmarks.phases import PhaseReport
    from benchmarks.place import place_of
    from benchmarks.terminal import print_blame, print_phases, say
    from benchmarks.timeline import topology
    from benchmarks.witness import naming
    from edge_agent.bundle import load

    require_writable(json)
    place = place_of(broker=broker, fleet=fleet, tls=tls, external=external, inventory=inventory)
    start = head(emulated="every node is a process on this machine and the network is loopback" if place.local else "")
    missing = frozenset(filter(None, down.split(",")))
    options: dict[str, Any] = {"broker": place.broker, "local": place.local, "fleet": place.fleet, "tls": place.tls}
    options["rate"] = rate
    loaded, evidence, reports = load(bundle), Evidence(), list[PhaseReport]()
    what = {"bundle": loaded.id.hex(), "topology": topology(loaded.manifest)}

    def keep() -> None:
        seen = {"findings": evidence.findings(), "evidence": evidence}
        write(json, {**what, "phases": reports, **seen}, start)

    with naming(evidence, keep):
        with running_trial(bundle, **options, down=missing, progress=say) as trial:
            if trial.agents:
                pids = ", ".join(f"{node} {pid}" for node, pid in trial.agents.pids.items())
                say(f"unplug a node with kill -9 PID: {pids}; Ctrl-C ends it")
            ended = follow_witnessed(trial, evidence, steps, missing, say)
            reports += trial.reports()
        keep()
        print_phases("Answers by phase", reports)
        print_blame(evidence.findings())
        for each in evidence.findings():
            say(f"{each.what} (stage {each.stage})")
        if ended:
            raise ended
    require_as_predicted(reports)


def _render_mosquitto(
    folder: Path, host: str, port: int, bundle: Path | None, pki: Path | None, listen: Sequence[str]
) -> str:
    """Write the configuration, and return what to do with it."""
    from broker.mosquitto import CONFIG, render_open

    file = folder / CONFIG
    if bundle and pki:
        from edge_agent.bundle import load
        from provisioning.access import heard_of, write_mosquitto

        manifest = load(bundle).manifest
        fleet = write_mosquitto(folder, manifest, pki, host, port, heard_of(listen, manifest))
        return (
            f"wrote {file} for fleet {fleet}: mosquitto -c {file} (started by root it becomes another user, "
            f"who must be able to read it: chown -R mosquitto {folder})"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(render_open(host, port))
    except OSError as error:
        raise FogError(f"{file}: cannot be written ({error.strerror})") from error
    return f"wrote {file}: mosquitto -c {file}"


_EXTRAS: Final = {
    "broker": ("iotcore",),
    "export": ("torch", "onnx", "onnxscript", "safetensors", "PIL"),
    "provisioning": ("fabric", "invoke", "paramiko", "cryptography"),
    "benchmarks": ("matplotlib", "jinja2"),
}
"""What each extra of ours brings: not everybody has installed them all."""


def _what_brings(missing: ImportError) -> str | None:
    """Return what to install, in a sentence, if one of our extras brings what is missing."""
    package = (missing.name or "").partition(".")[0]
    extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
    found = isinstance(missing, ModuleNotFoundError) and extra
    return f"{package} is not installed here: pip install 'fogguard[{extra}]'" if found else None


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exit that closes every `with` block."""
    sys.exit(143)


def main() -> int:
    """Run the command line; return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what this terminal cannot show is no reason to end
    try:
        app()  # exits by itself, with 2 for wrong usage and 130 for Ctrl-C
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C while a library was loaded, which said so otherwise
            return 130
        if not (sentence := _what_brings(error)):
            raise
        print(f"fogguard: {sentence}", file=sys.stderr)  # noqa: T201
        return FogError.exit_code
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        print(f"fogguard: the disk is full ({error.filename or 'the output'} could not be written)", file=sys.stderr)  # noqa: T201
        return FailureFound.exit_code
    except FogError as error:
        print(f"fogguard: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
