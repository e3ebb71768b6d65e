"""Commands that make a network: data, training, evaluation, the choice of skips, export and check."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmarks.options import BundlePath, Json, require_writable, write
from broker.errors import FailureFound

if TYPE_CHECKING:
    from export.variants import Choice

network = typer.Typer()
data_app = typer.Typer(no_args_is_help=False, invoke_without_command=True)
network.add_typer(data_app, name="data")

SpecName = Annotated[str, typer.Argument(help="A fog.toml, or the name of a built-in specification.")]
Seeds = Annotated[int, typer.Option(help="How many networks to train, from different first weights.", min=1)]
VariantName = Literal["vanilla", "deepfogguard", "failout", "mux", "fogguard"]
Weights = Literal["one", "reliability", "normalised", "learned"]
Maps = Literal["none", "widths", "all"]
Initial = Literal["uniform", "glorot"]
Split = Literal["row", "group", "given"]


@network.command(epilog="Example: fogguard train watch --variant failout --failures 0.2 --seeds 10")
def train(
    spec: SpecName,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. (default: runs/SPEC-VARIANT)")] = None,
    variant: Annotated[VariantName, typer.Option(help="How the network is joined and trained.")] = "fogguard",
    seeds: Seeds = 1,
    seed: Annotated[
        int, typer.Option(help="The first; of first weights and simulated failures.", min=0, max=1 << 31)
    ] = 0,
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
    epochs: Annotated[int | None, typer.Option(help="(default: the specification's)", min=1)] = None,
    split: Annotated[Split | None, typer.Option(help="Of the rows. (default: the specification's)")] = None,
    json: Json = None,
) -> None:
    """Train a network centrally, with simulated node failures; several seeds at once, resumable after Ctrl-C."""
    from export.variants import Choice

    require_writable(json)
    network = {"mux": mux, "weights": weights, "maps": maps, "normalise": normalise, "initial": initial}
    choice = Choice.of(variant, {"failures": failures, **network}, skips=skips, split=split, epochs=epochs)
    _evaluate(train_choice(spec, out, choice, range(seed, seed + seeds)), "validation", json)


@network.command(epilog="Example: fogguard evaluate runs/watch-fogguard --json accuracy.json")
def evaluate(
    path: Annotated[
        Path | None, typer.Argument(metavar="[RUN|BUNDLE]", help="A run or a bundle. (default: the newest in runs/)")
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


@network.command("plan-skips", epilog="Example: fogguard plan-skips health --setting hazardous --skips 3 --train 4")
def plan_skips(
    spec: SpecName,
    setting: Annotated[str | None, typer.Option(help="A reliability setting. (default: the last one)")] = None,
    skips: Annotated[int | None, typer.Option(help="How many skips at the most. (default: any number)", min=0)] = None,
    max_bytes: Annotated[int | None, typer.Option("--bytes", help="How many bytes a step they may add.", min=0)] = None,
    top: Annotated[int, typer.Option(help="How many sets to show.", min=1)] = 10,
    train_best: Annotated[
        int, typer.Option("--train", metavar="K", help="Train with the best K sets, and rank these by accuracy.", min=0)
    ] = 0,
    variant: Annotated[VariantName, typer.Option(help="What is trained.")] = "fogguard",
    seeds: Seeds = 3,
    epochs: Annotated[int | None, typer.Option(help="(default: the specification's)", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the specification with the best set to this file.")] = None,
    json: Json = None,
) -> None:
    """Rank sets of skip hyperconnections by the probability that information gets through, then by accuracy."""
    from benchmarks import planning
    from benchmarks.environment import write_whole
    from benchmarks.terminal import say
    from export.variants import VARIANTS

    require_writable(json, out)
    ranking = planning.plan(spec, setting, skips, max_bytes, top)
    if train_best:
        planning.train_best(ranking, train_best, VARIANTS[variant], range(seeds), epochs)
    planning.print_ranking(ranking)
    if out:
        write_whole(out, ranking.best_spec().text.encode())
        say(f"wrote {out}: fogguard train {out}")
    write(json, ranking.as_result())


@network.command(epilog="Example: fogguard reproduce camera")
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

    require_writable(None, page=page)
    for each in tables.named(table):
        file = tables.reproduce(each, runs, results)
        say(f"{each.name}: {file}")
    if page:
        write_page(results, page)
        say(f"page: {page}")


@network.command(epilog="Example: fogguard export runs/watch --out bundle")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder made by `fogguard train`.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    seed: Annotated[int | None, typer.Option(help="Which of the run's. (default: the one that validates best)")] = None,
    wire: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NODE=]FORMAT",
            help="How vectors travel: float32, float16, int8; all or one node's; repeatable. (default: float32)",
        ),
    ] = None,
    deadlines: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="By `fogguard deadlines`. (default: the specification's, a hop 100 ms)"),
    ] = None,
    json: Json = None,
) -> None:
    """Cut a trained network into one ONNX graph per node, verified under every mask."""
    import msgspec

    require_writable(json)
    bundle = export_run(run, out, seed, wire or (), deadlines)
    write(json, {"bundle": bundle.id.hex(), "parity": msgspec.to_builtins(bundle.manifest.parity)})


@network.command(epilog="Example: fogguard check bundle")
def check(
    bundle: BundlePath,
    verify_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="It must be signed with the private half of this key.")
    ] = None,
    json: Json = None,
) -> None:
    """Check that torch, the whole graph and the parts agree under every mask, and that no file was changed."""
    require_writable(json)
    check_bundle(bundle, json, verify_key)


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


def train_choice(spec_name: str, out: Path | None, choice: "Choice", seeds: Sequence[int]) -> Path:
    """Train a network of a specification, and return the run."""
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
    from edge_agent.bundle import MANIFEST, load
    from export.average import evaluate as evaluate_path

    observed = read_observed(reliability) if reliability else None
    more = {expected.OBSERVED: {node: each.r for node, each in observed.nodes.items()}} if observed else {}
    with progress_bar("evaluating") as update:
        found = evaluate_path(path, part, lambda done, rows: update(done, rows, "rows"), more)
    print_evaluation(found)
    of = {"bundle": load(path).id.hex()} if (path / MANIFEST).exists() else {}
    measured = {**of, **asdict(found)}
    if observed is None:
        write(json, measured)
        return
    expectations = expected.expected(found, observed)
    skips = expected.next_skips(expected.spec_of(path), more[expected.OBSERVED])
    expected.print_expected(expectations, skips)
    write(json, {**measured, "observed": observed, "expected": expectations, "next_skips": skips})


def export_run(
    run: Path, out: Path, seed: int | None = None, wire: Sequence[str] = (), deadlines: Path | None = None
) -> Any:
    """Export a run, say how well all forms of it agree, and return the bundle."""
    from benchmarks.terminal import say
    from export.writer import export_bundle

    bundle = export_bundle(run, out, lambda what: say(f"exporting: {what}"), seed, wire, deadlines)
    parity = bundle.manifest.parity
    say(
        f"exported {out}, bundle {bundle.id.hex()}: {parity.labels_equal} of {parity.labels_compared} labels equal "
        f"over {parity.masks} masks"
    )
    return bundle


def check_bundle(path: Path, json: Path | None = None, verify_key: Path | None = None) -> None:
    """Check a bundle and print what was found; raises FailureFound if anything is wrong."""
    from benchmarks.terminal import print_findings
    from edge_agent.signature import load_public_key
    from export.check import check as find

    bundle, findings = find(path, load_public_key(verify_key) if verify_key else None)
    print_findings(findings)
    write(json, {"bundle": bundle.id.hex(), "checks": [finding._asdict() for finding in findings]})
    if bad := [finding for finding in findings if not finding.ok]:
        raise FailureFound(f"{path}: {len(bad)} of {len(findings)} checks failed, first: {bad[0].detail}")
