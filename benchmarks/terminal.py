"""What a person sees: a progress bar on a terminal, plain lines elsewhere, tables at the end."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from benchmarks import memory
from benchmarks.phases import PhaseReport

if TYPE_CHECKING:
    from benchmarks.accuracy import Accuracy
    from benchmarks.culprits import Finding as Culprit
    from benchmarks.failover import Failover
    from benchmarks.soaked import Soaked
    from export.average import Average, Evaluation
    from export.check import Finding  # brings torch, which most commands do not need

_WIDEST: Final = 10_000
notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
results = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)


def flowing(text: str, style: str = "") -> Text:
    """Return a text of a picture that goes on in the next line where the terminal ends; otherwise it would be cut."""
    return Text(text, style=style, no_wrap=False, overflow="fold")


def say(text: str) -> None:
    """Print what is being done, to standard error."""
    notes.print(text)


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function that takes what is done, of how many, and a remark."""
    if not notes.is_terminal:
        yield _plain_lines(label)
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[remark]}"))
    with Progress(*columns, TimeRemainingColumn(), console=notes) as bars:
        task = bars.add_task(label, remark="")
        yield lambda done, total, remark: bars.update(task, completed=done, total=total, remark=remark)


def _plain_lines(label: str) -> Callable[[int, int, str], None]:
    """Return a function that prints a line at the beginning, and one for each quarter of the way."""
    printed = -1

    def update(done: int, total: int, remark: str) -> None:
        nonlocal printed
        if 4 * done // total > printed:
            printed = 4 * done // total
            say(f"{label}: {done} of {total}  {remark}")

    return update


@contextlib.contextmanager
def live_table(
    columns: Sequence[str], rows: dict[str, Sequence[str]]
) -> Iterator[Callable[[str, Sequence[str]], None]]:
    """Yield a function that changes the row of a name, or adds one; any thread may call it. It is gone afterwards."""

    def drawn() -> Table:
        table = Table(*columns)
        for name, cells in list(rows.items()):
            table.add_row(name, *cells)
        return table

    with Live(console=notes, transient=True, get_renderable=drawn, refresh_per_second=8):
        yield lambda name, cells: rows.update({name: cells})


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wraps: bool = False) -> None:
    """Print a table to standard output: figures, the first column to the left, or text that wraps."""
    results.print(title, style="bold", soft_wrap=True)
    table = Table()
    for position, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if position and not wraps else "left"
        table.add_column(column, justify=justify, no_wrap=not wraps, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if not wraps:  # a narrow terminal may break lines, but never cut a figure
        table.width = results.measure(table, options=results.options.update(max_width=_WIDEST)).maximum
    results.print(table, crop=False)


def print_latency(found: Mapping[str, Any]) -> None:
    """Print what `benchmarks.latency` measured: times and rates beside the yardsticks, and what the agents cost."""
    yardsticks = {name: found[key] for name, key in (("bare relay", "floor"), ("yours", "beside")) if found[key]}
    columns = ["", "fleet", *(column for name in yardsticks for column in (name, "ratio"))]
    rows = [
        (
            name,
            f"{found[name]:.2f}",
            *(f"{value:.2f}" for each in yardsticks.values() for value in (each[name], each["ratio"][name])),
        )
        for name in ("p50_ms", "p95_ms", "p99_ms", "steps_per_s")
    ]
    print_table(f"{found['fog']}: medians of {found['rounds']} rounds", columns, rows)
    columns = ["agent", "resident MB", "ready after s", "idle, % of a core"]
    costs = [
        (node, *(f"{found[key][node]:.1f}" for key in ("rss_mb", "ready_s", "idle_cpu_percent")))
        for node in found["rss_mb"]
    ]
    print_table("what the agents cost", columns, costs)


def print_evaluation(found: "Evaluation", masks: int = 16) -> None:
    """Print Eq. (3) for each setting, and the first masks."""
    for name, variant in found.variants.items():
        rows = [(setting, _over_seeds(average)) for setting, average in variant.average.items()]
        seeds = f"{len(variant.seeds)} seeds" if len(variant.seeds) > 1 else f"seed {variant.seeds[0].seed}"
        title = f"{name}, {seeds}, {found.n} {found.part} rows: average accuracy, Eq. (3)"
        print_table(title, ("setting", "%"), rows)
        listed = list(variant.seeds[0].per_mask)
        means = {
            mask: sum(seed.per_mask[mask] for seed in variant.seeds) / len(variant.seeds) for mask in listed[:masks]
        }
        more = f", first {masks} of {1 << len(found.order)}" if len(listed) > masks else ""
        rows = [(mask, f"{100 * mean:.2f}") for mask, mean in means.items()]
        print_table(f"{name}: by mask of {', '.join(found.order)}{more}", ("mask", "%"), rows)


def _over_seeds(average: "Average") -> str:
    spread = f" ± {100 * average.std:.2f}" if average.n > 1 else ""
    sampled = f" (sampled, ± {100 * average.ci95:.2f})" if average.ci95 else ""
    return f"{100 * average.mean:.2f}{spread}{sampled}"


def print_phases(title: str, phases: Iterable[PhaseReport]) -> None:
    """Print the figures of each phase."""
    columns = (
        "phase",
        "dead",
        "sent",
        "answered",
        "late",
        "measured %",
        "predicted %",
        "labels equal",
        "p50 ms",
        "p99 ms",
        "sensed ms",
    )
    print_table(title, columns, [_phase_row(phase) for phase in phases])


def _phase_row(phase: PhaseReport) -> list[str]:
    return [
        phase.name,
        " ".join(node for node, alive in phase.mask.items() if not alive) or "-",
        str(phase.sent),
        str(phase.answered) + (f" ({phase.guesses} guesses)" if phase.guesses else ""),
        str(phase.late),
        *("-" if each is None else f"{100 * each:.2f}" for each in (phase.accuracy_measured, phase.accuracy_predicted)),
        f"{phase.labels_equal} of {phase.labels_compared}",
        *(f"{ms:.1f}" if phase.answered else "-" for ms in (phase.latency_ms.p50, phase.latency_ms.p99)),
        " ".join(f"{ms:.1f}" for ms in phase.sensed_ms.values()) or "-",
    ]


def print_findings(findings: "Iterable[Finding]") -> None:
    """Print a checklist."""
    for finding in findings:
        results.print("ok  " if finding.ok else "FAIL", style="green" if finding.ok else "bold red", end=" ")
        results.print(f"{finding.name}: {finding.detail}", soft_wrap=True)


def print_blame(findings: "Sequence[Culprit]") -> None:
    """Print who is to blame, if anybody is."""
    from benchmarks.culprits import COLUMNS, rows_of

    if findings:
        print_table("Who is to blame", COLUMNS, rows_of(findings), wraps=True)


def print_failovers(classes: "Mapping[str, Failover]") -> None:
    """Print what each class of failure does."""
    from benchmarks.failover import COSTS, costs, layers, quantiles

    columns = ("class", "n", "sensed p50", "p95", "max ms", "goal", "by", "back p50", "p95 ms", "answer p95")
    times = [
        (
            *(name, str(each.n), *quantiles(each.sensed_ms, "p50", "p95", "max")),
            "-" if each.goal_ms is None else f"{each.goal_ms:.0f}",
            layers(each),
            *(*quantiles(each.back_ms, "p50", "p95"), *quantiles(each.answer_ms, "p95")),
        )
        for name, each in classes.items()
    ]
    print_table("Failures as the nodes sense them", columns, times)
    print_table("What they cost", COSTS, [costs(name, each) for name, each in classes.items()])


def print_accuracy(found: "Accuracy", masks: int = 32) -> None:
    """Print what was measured beside what was predicted, by mask and by setting."""
    from benchmarks.accuracy import is_as_predicted

    columns = (
        "mask",
        "rows",
        "measured %",
        "predicted %",
        "labels equal",
        "guesses",
        "cut",
        "lost",
        "late",
        "settled ms",
    )
    odd = [each for each in found.masks if not is_as_predicted(each, found.rows)]
    listed = found.masks if len(found.masks) <= masks else (odd or found.masks)[:masks]
    rows = [
        (
            *(each.mask or "-", str(each.n)),
            *(f"{100 * each.accuracy_measured:.2f}", f"{100 * each.accuracy_predicted:.2f}"),
            *(f"{each.labels_equal} of {each.n}", *map(str, (each.guesses, each.cut, each.lost, each.late))),
            f"{each.settled_ms:.0f}",
        )
        for each in listed
    ]
    more = f": {len(listed)} of {len(found.masks)}" if len(listed) < len(found.masks) else ""
    print_table(f"Masks of {', '.join(found.order)}, nodes fail by {found.by}{more}", columns, rows)
    averages = [
        (
            *(name, f"{100 * each.measured:.2f}", f"{100 * each.predicted:.2f}"),
            *(f"{100 * each.ci95:.2f}", f"{each.covered:.4f}"),
        )
        for name, each in found.average.items()
    ]
    columns_of_settings = ("setting", "measured %", "predicted %", "± rows", "probability covered")
    print_table("Average accuracy, Eq. (3)", columns_of_settings, averages)
    print_blame(found.findings)
    keys = ("labels_equal", "n", "lost", "late")
    equal, compared, lost, late = (sum(getattr(each, key) for each in found.masks) for key in keys)
    results.print(
        f"{len(found.masks)} masks, {equal} of {compared} labels equal, {lost} steps lost, {late} answered after the "
        f"deadline, {found.steps_per_s:.0f} steps a second while rows were fed"
    )


def print_soak(found: "Soaked") -> None:
    """Print what became of the steps, what each agent holds in memory, and what was violated."""
    steps = found.steps
    rows = [(name.replace("_", " "), str(getattr(steps, name))) for name in steps.__struct_fields__]
    rows += [(f"{event} events", str(count)) for event, count in sorted(found.events.items())]
    rows += [
        ("malformed messages, all refused" if found.ok else "malformed messages", str(found.malformed)),
        ("times all counters were held against each other", str(found.books)),
        ("longest outage, ms", f"{found.longest_outage_ms:.0f}"),
    ]
    print_table(f"{found.elapsed_s:.0f} s of soak, seed {found.seed}", ("", "n"), rows)
    print_table("resident memory", memory.COLUMNS, memory.rows_of(found.memory))
    for text in found.violations:
        results.print(f"VIOLATED {text}", style="bold red", soft_wrap=True)
