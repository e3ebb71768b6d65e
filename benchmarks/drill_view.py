"""What a person sees of a drill: on a terminal a picture of it that changes, elsewhere a line about each thing."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.drill import Drill
from benchmarks.drilled import Drilled, Tally
from benchmarks.letters import large
from benchmarks.terminal import flowing, notes, print_blame, print_table, results, say
from benchmarks.times import quantile_ms

_RECENT_S = 10.0
_LINE_EVERY_S = 10.0
_LISTED = 12


@contextlib.contextmanager
def drill_view() -> Iterator[Callable[[Drill], None]]:
    """Yield a function that shows how a drill stands."""
    if not notes.is_terminal:
        yield _plain_lines()
        return
    with Live(console=notes, auto_refresh=False, transient=True) as live:
        yield lambda drill: live.update(_picture(drill), refresh=True)


def _plain_lines() -> Callable[[Drill], None]:
    next_s = 0.0

    def show(drill: Drill) -> None:
        nonlocal next_s
        if drill.at_s >= next_s:
            next_s = drill.at_s + _LINE_EVERY_S
            say(f"{drill.at_s:.0f} s: {line(drill.found)}")

    return show


def line(found: Drilled) -> str:
    """Return how a drill stands, in one line."""
    sent, answered, right, predicted = found.course.last(_RECENT_S)
    mask = found.stretches[-1].mask if found.stretches else ""
    now = f"mask {mask or 'unknown'}, {answered} of {sent} answered in the last {_RECENT_S:.0f} s, "
    if sent:
        now += f"accuracy {100 * right / sent:.2f} % (predicted {100 * predicted / sent:.2f} %), "
    return now + f"{found.total('labels_equal')} of {found.total('n')} labels equal"


def _picture(drill: Drill) -> RenderableType:
    found = drill.found
    parts: list[RenderableType] = []
    if drill.by_hand is not None:
        parts.append(_headline(drill))
    planned = f" of {found.planned_s:.0f}" if found.planned_s else ""
    nodes = flowing(f"{drill.at_s:.0f}{planned} s   ")
    for node, state in drill.states.items():
        nodes.append(f"{node} {state}  ", style="green" if state == "alive" else "bold red")
    parts += [nodes, flowing(line(found)), table_of(found)]
    return Group(*parts)


def _headline(drill: Drill) -> Text:
    by_hand = drill.by_hand
    if by_hand is None or not by_hand.headline:
        return Text("leave all as it is\n", style="dim")
    left = f"\n\nwithin {by_hand.seconds_left(drill.at_s):.0f} s\n"
    style = "bold red" if by_hand.headline.startswith("unplug") else "bold green"
    return Text(large(by_hand.headline, notes.width), style=style, no_wrap=True).append(left)


_COLUMNS = ("mask", "steps", "answered", "measured %", "predicted %", "labels equal", "changing", "held up", "p50 ms")


def table_of(found: Drilled) -> Table:
    """Return the masks that held longest, narrow enough for 80 columns."""
    table = Table(*_COLUMNS, box=None, padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for each in _most(found)[:_LISTED]:
        table.add_row(*_cells(each))
    return table


def _most(found: Drilled) -> list[Tally]:
    return sorted(found.masks, key=lambda tally: -tally.sent)


def _cells(each: Tally) -> tuple[str, ...]:
    return (
        *(each.mask, str(each.sent), str(each.answered)),
        *((f"{100 * each.accuracy_measured:.2f}", f"{100 * each.accuracy_predicted:.2f}") if each.n else ("-", "-")),
        *(f"{each.labels_equal} of {each.n}", str(each.changing), str(each.held_up)),
        f"{quantile_ms(each.answer_times, 0.5):.1f}",
    )


def print_drill(found: Drilled, expected: float | None, masks: int = 32) -> None:
    """Print what a drill found; `expected` is Eq. (3) under the setting that chance drew from."""
    listed = _most(found)[:masks]
    more = f": the {len(listed)} longest of {len(found.masks)}" if len(listed) < len(found.masks) else ""
    print_table(f"Masks of {', '.join(found.order)}, as the sink saw them{more}", _COLUMNS, map(_cells, listed))
    deeds = [
        (f"{deed.at_s:.1f}", deed.node, deed.what, "-" if deed.sensed_ms is None else f"{deed.sensed_ms:.1f}")
        for deed in found.deeds[-masks:]
    ]
    if deeds:
        print_table("What was done, the last at the end", ("at s", "node", "what", "seen by the sink after ms"), deeds)
    remarks = [(f"{each.at_s:.1f}", each.kind, each.text) for each in found.remarks[-masks:]]
    if remarks:
        print_table("By hand", ("at s", "what", "said"), remarks, wraps=True)
    print_blame(found.findings)
    sent, answered, right, predicted = found.course.last(found.elapsed_s + found.course.bucket_s)
    results.print(
        f"{found.elapsed_s:.0f} s, {answered} of {sent} steps answered, {found.total('labels_equal')} of "
        f"{found.total('n')} labels equal, {found.total('lost')} steps lost, {found.lost_in_outages} in outages",
        soft_wrap=True,
    )
    if sent:
        told = f"accuracy over all steps {100 * right / sent:.2f} %, predicted {100 * predicted / sent:.2f} %"
        results.print(told + (f"; in the long run {100 * expected:.2f} %" if expected is not None else ""))
