"""`fogguard`: the one command of the workstation. Each subcommand imports what it needs when it is used."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from broker.errors import FailureFound, FogError

try:
    import typer
except ImportError:
    sys.exit("fogguard: the workstation's commands are not installed here: pip install 'fogguard[all]'")

app = typer.Typer(
    name="fogguard",
    help="Run one deep network across unreliable devices, and keep getting right answers when they are unplugged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(no_args_is_help=False, invoke_without_command=True)
app.add_typer(data_app, name="data")

Json = Annotated[Path | None, typer.Option("--json", help="Write the machine-readable result to this file.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder made by `fogguard export`.")]
BrokerChoice = Annotated[
    str | None,
    typer.Option("--broker", metavar="WHERE", help="mqtt://HOST:PORT, embedded or mosquitto [default: what is here]"),
]
VariantName = Literal["vanilla", "deepfogguard", "failout"]
Rate = Annotated[float, typer.Option(help="Steps a second.", min=0.1, max=100_000)]


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

    _require_writable(json)
    start = head(emulated=acts.EMULATED)
    _train("watch", out / "run", "failout", seed)
    _export(out / "run", out / "bundle")
    _check(out / "bundle")
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


@app.command(epilog="Example: fogguard train watch --out runs/watch --variant failout")
def train(
    spec: Annotated[str, typer.Argument(help="A fog.toml, or the name of a built-in specification.")],
    out: Annotated[Path, typer.Option(help="Folder for the run.")],
    variant: Annotated[VariantName, typer.Option(help="How the network is joined and trained.")] = "failout",
    seed: Annotated[int, typer.Option(help="Of weights, batches and simulated failures.")] = 0,
    json: Json = None,
) -> None:
    """Train a network centrally, with simulated node failures."""
    _require_writable(json)
    _train(spec, out, variant, seed)
    _evaluate(out, json)


@app.command(epilog="Example: fogguard evaluate runs/watch --json accuracy.json")
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="A trained run, or an exported bundle.")],
    json: Json = None,
) -> None:
    """Measure accuracy under every node failure combination, and its average under every reliability setting."""
    _require_writable(json)
    _evaluate(path, json)


@app.command(epilog="Example: fogguard export runs/watch --out bundle")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `fogguard train`.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    json: Json = None,
) -> None:
    """Cut a trained network into one ONNX graph per node, verified under every mask."""
    import msgspec

    _require_writable(json)
    bundle = _export(run, out)
    _write(json, {"bundle": bundle.id.hex(), "parity": msgspec.to_builtins(bundle.manifest.parity)})


@app.command(epilog="Example: fogguard check bundle")
def check(bundle: BundlePath, json: Json = None) -> None:
    """Check that torch, the whole graph and the parts agree under every mask, and that no file was changed."""
    _require_writable(json)
    _check(bundle, json)


@app.command(epilog="Example: fogguard broker --port 1883")
def broker(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 1883,
    host: Annotated[str, typer.Option(help="The address to listen on; nobody is asked for a password.")] = "127.0.0.1",
    kind: Annotated[Literal["embedded", "mosquitto"] | None, typer.Option(help="[default: what is here]")] = None,
    render_mosquitto: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only write a mosquitto.conf for a fleet into DIR.")
    ] = None,
) -> None:
    """Run a broker for one machine until Ctrl-C."""
    from benchmarks.terminal import say
    from broker import embedded

    if render_mosquitto:
        file = render_mosquitto / "mosquitto.conf"
        try:
            render_mosquitto.mkdir(parents=True, exist_ok=True)
            file.write_text(embedded.render_mosquitto(host, port))
        except OSError as error:
            raise FogError(f"{file}: cannot be written ({error.strerror})") from error
        say(f"wrote {file}: mosquitto -c {file}")
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
    fleet: Annotated[str | None, typer.Option(help="The fleet's name [default: the bundle's]")] = None,
    external: Annotated[
        bool, typer.Option("--external", help="The agents run elsewhere: feed and record only.")
    ] = False,
    json: Json = None,
) -> None:
    """Run a fleet of agents on this machine, fed with the test rows; unplug nodes as you like, and watch."""
    from benchmarks.demo import require_as_predicted
    from benchmarks.environment import head
    from benchmarks.fleet import running_trial
    from benchmarks.live import follow
    from benchmarks.terminal import print_phases, say

    if external and not broker:
        raise FogError("--external: name the broker where the agents are with --broker mqtt://HOST:PORT")
    _require_writable(json)
    start = head(emulated="" if external else "every node is a process on this machine and the network is loopback")
    missing = frozenset(filter(None, down.split(",")))
    options: dict[str, Any] = {"broker": broker, "local": not external, "fleet": fleet, "rate": rate}
    with running_trial(bundle, **options, down=missing, progress=say) as trial:
        if trial.agents:
            pids = ", ".join(f"{node} {pid}" for node, pid in trial.agents.pids.items())
            say(f"unplug a node with kill -9 PID: {pids}; Ctrl-C ends it")
        ended: BaseException | None = None
        try:
            follow(trial, steps, missing, say)
        except KeyboardInterrupt as interrupt:  # the way to end it, unless a number of steps was asked for
            ended = interrupt if steps else None
            trial.driver.drain()
        except FailureFound as failure:
            ended = failure
        reports = [report for report in trial.reports() if report.sent]
    print_phases("Answers by phase", reports)
    _write(json, {"bundle": trial.bundle.id.hex(), "phases": reports}, start)
    if ended:
        raise ended
    require_as_predicted(reports)


@data_app.callback()
def data(context: typer.Context) -> None:
    """List the data sets: what they are, whether they are here, and where they come from."""
    if context.invoked_subcommand:
        return
    from benchmarks.terminal import results
    from export.data import KNOWN, is_here

    for name, known in KNOWN.items():
        results.print(f"{name:10} {'here   ' if is_here(name) else 'missing'}  {known.title}", soft_wrap=True)
        results.print(f"{'':19} {known.origin}", soft_wrap=True)


@data_app.command("import", epilog="Example: fogguard data import mhealth MHEALTHDATASET.zip")
def data_import(
    name: Annotated[str, typer.Argument(help="As `fogguard data` lists it.")],
    source: Annotated[Path, typer.Argument(help="The file or folder that you downloaded.")],
) -> None:
    """Check a downloaded data set and keep its rows for training."""
    from benchmarks.terminal import say
    from export.data import import_data, load_data

    folder = import_data(name, source)
    say(f"{name}: {len(load_data(name).labels)} rows in {folder}")


def _train(spec_name: str, out: Path, variant: VariantName, seed: int) -> None:
    from benchmarks.terminal import progress_bar, say
    from export.data import load_data
    from export.folder import require_replaceable
    from export.spec import load_spec

    spec = load_spec(spec_name)
    rows = load_data(spec.data.set)
    # torch takes seconds to import: what the user got wrong is said first
    from export.runs import RUN, save_run
    from export.training import train as train_network

    require_replaceable(out, RUN)
    with progress_bar(f"training {spec.name}") as update:
        trained = train_network(
            spec, rows, variant, seed, lambda done, total, found: update(done, total, f"{100 * found:.1f} % validation")
        )
    save_run(trained, variant, seed, out)
    say(f"trained {spec.name} ({variant}, seed {seed}), epoch {trained.epoch}: {out}")


def _evaluate(path: Path, json: Path | None) -> None:
    from benchmarks.terminal import print_table
    from export.average import evaluate as evaluate_path

    found = evaluate_path(path)
    for name, variant in found.variants.items():
        rows = [(setting, f"{100 * average.mean:.2f}") for setting, average in variant.average.items()]
        print_table(f"{name}: average accuracy, Eq. (3)", ("setting", "%"), rows)
        masks = [(mask, f"{100 * value:.2f}") for mask, value in variant.seeds[0].per_mask.items()]
        shown = masks[:16]
        more = f", first {len(shown)} of {len(masks)}" if len(masks) > len(shown) else ""
        print_table(f"{name}: by mask of {', '.join(found.order)}{more}", ("mask", "%"), shown)
    _write(json, found)


def _export(run: Path, out: Path) -> Any:
    from benchmarks.terminal import say
    from export.writer import export_bundle

    bundle = export_bundle(run, out, lambda what: say(f"exporting: {what}"))
    parity = bundle.manifest.parity
    say(
        f"exported {out}, bundle {bundle.id.hex()}: {parity.labels_equal} of {parity.labels_compared} labels equal "
        f"over {parity.masks} masks"
    )
    return bundle


def _check(path: Path, json: Path | None = None) -> None:
    from benchmarks.terminal import print_findings
    from export.check import check as check_bundle

    bundle, findings = check_bundle(path)
    print_findings(findings)
    _write(json, {"bundle": bundle.id.hex(), "checks": [finding._asdict() for finding in findings]})
    if bad := [finding for finding in findings if not finding.ok]:
        raise FailureFound(f"{path}: {len(bad)} of {len(findings)} checks failed, first: {bad[0].detail}")


def _write(json: Path | None, body: Any, start: Any = None) -> None:
    """Write a result with its head, if a file was asked for."""
    if json:
        import msgspec

        from benchmarks.environment import head, with_head, write_json

        write_json(json, with_head(start or head(), msgspec.to_builtins(body)))


def _require_writable(json: Path | None) -> None:
    """Fail before the work, not after it."""
    if json and not (json.parent.is_dir() and os.access(json.parent, os.W_OK) and not json.is_dir()):
        raise FogError(f"--json {json}: cannot be written there")


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Turn SIGTERM into an exit that closes every `with` block."""
    sys.exit(143)


def main() -> int:
    """Run the command line; return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()  # exits by itself, with 2 for wrong usage and 130 for Ctrl-C
    except FogError as error:
        print(f"fogguard: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
