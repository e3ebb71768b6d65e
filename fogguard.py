"""`fogguard`: the one command of the workstation. Each subcommand imports what it needs when it is used."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from broker.errors import FailureFound, FogError

try:
    import typer
except ImportError:
    sys.exit("fogguard: the workstation's commands are not installed here: pip install 'fogguard[all]'")

from benchmarks.commands import bench
from benchmarks.drill_commands import field
from benchmarks.options import BrokerChoice, BundlePath, Json, Rate, TlsFolder, require_writable, write
from provisioning.commands import provision
from provisioning.lab.commands import lab
from provisioning.owner_commands import owner

if TYPE_CHECKING:
    from export.variants import Choice

# Threads that wait for work sleep: spinning, two trainings side by side would slow each other many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="fogguard",
    help="Run one deep network across unreliable devices, and keep getting right answers when they are unplugged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(no_args_is_help=False, invoke_without_command=True)
app.add_typer(data_app, name="data")
app.add_typer(bench, name="bench")
app.add_typer(provision, name="provision")
app.add_typer(lab, name="lab")
app.add_typer(owner)
app.add_typer(field)

SpecName = Annotated[str, typer.Argument(help="A fog.toml, or the name of a built-in specification.")]
Seeds = Annotated[int, typer.Option(help="How many networks to train, from different first weights.", min=1)]
VariantName = Literal["vanilla", "deepfogguard", "failout", "mux", "fogguard"]
Weights = Literal["one", "reliability", "normalised", "learned"]
Maps = Literal["none", "widths", "all"]
Initial = Literal["uniform", "glorot"]
Split = Literal["row", "group", "given"]


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
    _train("watch", out / "run", Choice.of("failout"), [seed])
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


@app.command(epilog="Example: fogguard train watch --variant failout --failures 0.2 --seeds 10")
def train(
    spec: SpecName,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. [default: runs/SPEC-VARIANT]")] = None,
    variant: Annotated[VariantName, typer.Option(help="How the network is joined and trained.")] = "fogguard",
    seeds: Seeds = 1,
    seed: Annotated[int, typer.Option(help="The first; of first weights and simulated failures.", min=0)] = 0,
    skips: Annotated[
        str | None,
        typer.Option(help="specified, none, one (past one node), nodes (from nodes), all, or a>b,c>d"),
    ] = None,
    failures: Annotated[
        str | None,
        typer.Option(
            metavar="RATE|SETTING", help="In training nodes fail at this rate, or as in a setting, or settings."
        ),
    ] = None,
    mux: Annotated[
        bool | None, typer.Option(help="A skip counts only if every simple input it passes is absent.")
    ] = None,
    weights: Annotated[Weights | None, typer.Option(help="Of the hyperconnections, w_ji of Eq. (1).")] = None,
    maps: Annotated[
        Maps | None, typer.Option(help="What passes through a trained map on arrival: none is padded.")
    ] = None,
    normalise: Annotated[bool | None, typer.Option(help="Divide the Add by the share of inputs present.")] = None,
    initial: Annotated[Initial | None, typer.Option(help="How first weights are drawn.")] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: the specification's]", min=1)] = None,
    split: Annotated[Split | None, typer.Option(help="Of the rows. [default: the specification's]")] = None,
    json: Json = None,
) -> None:
    """Train a network centrally, with simulated node failures; several seeds at once, resumable after Ctrl-C."""
    from export.variants import Choice

    require_writable(json)
    network = {"mux": mux, "weights": weights, "maps": maps, "normalise": normalise, "initial": initial}
    choice = Choice.of(variant, {"failures": failures, **network}, skips=skips, split=split, epochs=epochs)
    _evaluate(_train(spec, out, choice, range(seed, seed + seeds)), "validation", json)


@app.command(epilog="Example: fogguard evaluate runs/watch-fogguard --json accuracy.json")
def evaluate(
    path: Annotated[
        Path | None, typer.Argument(metavar="[RUN|BUNDLE]", help="A run or a bundle. [default: the newest in runs/]")
    ] = None,
    rows: Annotated[Literal["test", "validation"], typer.Option(help="Choose by validation, report on test.")] = "test",
    reliability: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As observed, by `fogguard reliability`: what to expect of it.")
    ] = None,
    json: Json = None,
) -> None:
    """Measure accuracy under every node failure combination, and its average under every reliability setting."""
    from export.runs import newest_run

    require_writable(json)
    _evaluate(path or newest_run(), rows, json, reliability)


@app.command("plan-skips", epilog="Example: fogguard plan-skips health --setting hazardous --skips 3 --train 4")
def plan_skips(
    spec: SpecName,
    setting: Annotated[str | None, typer.Option(help="A reliability setting. [default: the last one]")] = None,
    skips: Annotated[int | None, typer.Option(help="How many skips at the most. [default: any number]", min=0)] = None,
    max_bytes: Annotated[int | None, typer.Option("--bytes", help="How many bytes a step they may add.", min=0)] = None,
    top: Annotated[int, typer.Option(help="How many sets to show.", min=1)] = 10,
    train_best: Annotated[
        int, typer.Option("--train", metavar="K", help="Train with the best K sets, and rank these by accuracy.", min=0)
    ] = 0,
    variant: Annotated[VariantName, typer.Option(help="What is trained.")] = "fogguard",
    seeds: Seeds = 3,
    epochs: Annotated[int | None, typer.Option(help="[default: the specification's]", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the specification with the best set to this file.")] = None,
    json: Json = None,
) -> None:
    """Rank sets of skip hyperconnections by the probability that information gets through, then by accuracy."""
    from benchmarks import planning
    from benchmarks.terminal import say
    from export.variants import VARIANTS

    require_writable(json, out)
    ranking = planning.plan(spec, setting, skips, max_bytes, top)
    if train_best:
        planning.train_best(ranking, train_best, VARIANTS[variant], range(seeds), epochs)
    planning.print_ranking(ranking)
    if out:
        out.write_text(ranking.best_spec().text, encoding="utf-8")
        say(f"wrote {out}: fogguard train {out}")
    write(json, ranking.as_result())


@app.command(epilog="Example: fogguard reproduce camera")
def reproduce(
    table: Annotated[str, typer.Argument(help="One of the tables of docs/RESULTS.md, or all.")] = "all",
    runs: Annotated[Path, typer.Option(help="Where the trained networks are kept: none is trained twice.")] = Path(
        "runs"
    ),
    results: Annotated[Path, typer.Option(help="Where the results go.")] = Path("benchmarks/results"),
    page: Annotated[Path | None, typer.Option(help="The page to make anew, with its figure.")] = None,
) -> None:
    """Make the result tables anew: hours of training, resumable at any time; run it again to go on."""
    from benchmarks import tables
    from benchmarks.results_page import write_page
    from benchmarks.terminal import say

    for each in tables.named(table):
        file = tables.reproduce(each, runs, results)
        say(f"{each.name}: {file}")
    if page:
        write_page(results, page)
        say(f"page: {page}")


@app.command(epilog="Example: fogguard export runs/watch --out bundle")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `fogguard train`.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    seed: Annotated[int | None, typer.Option(help="Which of the run's. [default: the one that validates best]")] = None,
    wire: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NODE=]FORMAT",
            help="How vectors travel: float32, float16, int8; all or one node's; repeatable. [default: float32]",
        ),
    ] = None,
    deadlines: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="By `fogguard deadlines`. [default: the specification's, a hop 100 ms]"),
    ] = None,
    json: Json = None,
) -> None:
    """Cut a trained network into one ONNX graph per node, verified under every mask."""
    import msgspec

    require_writable(json)
    bundle = _export(run, out, seed, wire or (), deadlines)
    write(json, {"bundle": bundle.id.hex(), "parity": msgspec.to_builtins(bundle.manifest.parity)})


@app.command(epilog="Example: fogguard check bundle")
def check(
    bundle: BundlePath,
    verify_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="It must be signed with the private half of this key.")
    ] = None,
    json: Json = None,
) -> None:
    """Check that torch, the whole graph and the parts agree under every mask, and that no file was changed."""
    require_writable(json)
    _check(bundle, json, verify_key)


@app.command(epilog="Example: fogguard broker --port 1883")
def broker(
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 1883,
    host: Annotated[str, typer.Option(help="The address to listen on; nobody is asked for a password.")] = "127.0.0.1",
    kind: Annotated[Literal["embedded", "mosquitto"] | None, typer.Option(help="[default: what is here]")] = None,
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
    fleet: Annotated[str | None, typer.Option(help="The fleet's name [default: the bundle's]")] = None,
    external: Annotated[
        bool, typer.Option("--external", help="The agents run elsewhere: feed and record only.")
    ] = False,
    tls: TlsFolder = None,
    json: Json = None,
) -> None:
    """Run a fleet of agents on this machine, fed with the test rows; unplug nodes as you like, and watch."""
    from benchmarks.culprits import corrupt_links
    from benchmarks.demo import require_as_predicted
    from benchmarks.environment import head
    from benchmarks.fleet import running_trial
    from benchmarks.live import follow
    from benchmarks.terminal import print_phases, say
    from broker.tls import files_of

    if external and not broker:
        raise FogError("--external: name the broker where the agents are with --broker mqtt://HOST:PORT")
    if tls and not external:
        raise FogError("--tls is for agents that run elsewhere: add --external")
    require_writable(json)
    start = head(emulated="" if external else "every node is a process on this machine and the network is loopback")
    missing = frozenset(filter(None, down.split(",")))
    options: dict[str, Any] = {"broker": broker, "local": not external, "fleet": fleet, "rate": rate}
    options["tls"] = files_of(tls, "feeder") if tls else None
    with running_trial(bundle, **options, down=missing, progress=say) as trial:
        if trial.agents:
            pids = ", ".join(f"{node} {pid}" for node, pid in trial.agents.pids.items())
            say(f"unplug a node with kill -9 PID: {pids}; Ctrl-C ends it")
        ended: BaseException | None = None
        before = dict(trial.driver.metrics)
        try:
            follow(trial, steps, missing, say)
        except KeyboardInterrupt as interrupt:  # the way to end it, unless a number of steps was asked for
            ended = interrupt if steps else None
            trial.driver.drain()
        except FailureFound as failure:
            ended = failure
        reports = [report for report in trial.reports() if report.sent]
    print_phases("Answers by phase", reports)
    findings = corrupt_links(before, trial.driver.metrics)
    for each in findings:
        say(each.what)
    write(json, {"bundle": trial.bundle.id.hex(), "phases": reports, "findings": findings}, start)
    if ended:
        raise ended
    require_as_predicted(reports)


@data_app.callback()
def data(context: typer.Context) -> None:
    """List the data sets: what they are, whether they are here, and where they come from."""
    if context.invoked_subcommand:
        return
    from benchmarks.terminal import results
    from export.data import KNOWN, OWN, imported_sets, status

    for name, known in KNOWN.items():
        results.print(f"{name:10} {status(name)}: {known.title}", soft_wrap=True)
        results.print(f"{'':10} {known.origin}", soft_wrap=True)
    for name in imported_sets():
        results.print(f"{name:10} {status(name)}: imported from CSV files", soft_wrap=True)
    results.print(f"\nyour own, from a folder of CSV files: {OWN}", soft_wrap=True)


@data_app.command("import", epilog="Example: fogguard data import mhealth MHEALTHDATASET.zip")
def data_import(
    name: Annotated[str, typer.Argument(help="As `fogguard data` lists it, or a new one for CSV files of your own.")],
    source: Annotated[Path, typer.Argument(help="The file or folder that you downloaded or made.")],
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="CSV: the column with the class.")] = None,
    sensor: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN,…", help="CSV: the columns that a sensor reads; once for each sensor."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="CSV: what a split by group keeps together, such as a person.")
    ] = None,
) -> None:
    """Check a downloaded data set, or read a folder of CSV files, and keep the rows for training."""
    from benchmarks.terminal import say
    from export.data import data_folder, import_data, status

    rows = import_data(name, source, label, sensor or [], group)
    widths = ", ".join(f"{each} = {values.shape[1]}" for each, values in rows.sensors.items())
    say(f"{name}: {len(rows.labels)} rows, {len(rows.class_names)} classes, sensors {widths}; {data_folder(name)}")
    say(f"{name}: {status(name)}")


def _train(spec_name: str, out: Path | None, choice: "Choice", seeds: Sequence[int]) -> Path:
    """Train, and return the run."""
    from export.data import load_data
    from export.folder import require_replaceable
    from export.skips import chosen_spec
    from export.spec import load_spec

    spec = chosen_spec(load_spec(spec_name), choice)
    out = out or Path("runs") / f"{spec.name}-{choice.slug}"
    rows = load_data(spec.data.set)
    # torch takes seconds to import: what the user got wrong is said first
    from benchmarks.training import train_run
    from export.runs import RUN

    require_replaceable(out, RUN)
    train_run(spec, rows, choice, seeds, out)
    return out


def _evaluate(
    path: Path, part: Literal["test", "validation"], json: Path | None, reliability: Path | None = None
) -> None:
    from msgspec.structs import asdict

    from benchmarks import expected
    from benchmarks.terminal import print_evaluation, progress_bar
    from benchmarks.uptime import read_observed
    from export.average import evaluate as evaluate_path

    observed = read_observed(reliability) if reliability else None
    more = {expected.OBSERVED: {node: each.r for node, each in observed.nodes.items()}} if observed else {}
    with progress_bar("evaluating") as update:
        found = evaluate_path(path, part, lambda done, rows: update(done, rows, "rows"), more)
    print_evaluation(found)
    if observed is None:
        write(json, found)
        return
    expectations = expected.expected(found, observed)
    skips = expected.next_skips(expected.spec_of(path), more[expected.OBSERVED])
    expected.print_expected(expectations, skips)
    write(json, {**asdict(found), "observed": observed, "expected": expectations, "next_skips": skips})


def _export(
    run: Path, out: Path, seed: int | None = None, wire: Sequence[str] = (), deadlines: Path | None = None
) -> Any:
    from benchmarks.terminal import say
    from export.writer import export_bundle

    bundle = export_bundle(run, out, lambda what: say(f"exporting: {what}"), seed, wire, deadlines)
    parity = bundle.manifest.parity
    say(
        f"exported {out}, bundle {bundle.id.hex()}: {parity.labels_equal} of {parity.labels_compared} labels equal "
        f"over {parity.masks} masks"
    )
    return bundle


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


def _check(path: Path, json: Path | None = None, verify_key: Path | None = None) -> None:
    from benchmarks.terminal import print_findings
    from edge_agent.signature import load_public_key
    from export.check import check as check_bundle

    bundle, findings = check_bundle(path, load_public_key(verify_key) if verify_key else None)
    print_findings(findings)
    write(json, {"bundle": bundle.id.hex(), "checks": [finding._asdict() for finding in findings]})
    if bad := [finding for finding in findings if not finding.ok]:
        raise FailureFound(f"{path}: {len(bad)} of {len(findings)} checks failed, first: {bad[0].detail}")


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
