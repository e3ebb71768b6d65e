"""What a person sees of a fleet that is watched: on a terminal a picture that changes, elsewhere a line a change."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.terminal import flowing, notes, say
from benchmarks.timeline import Topology, places
from benchmarks.watched import STAGES, Seen, Snapshot

_STYLES: Final = {"alive": "green", "suspect": "yellow", "slow": "yellow", "hung": "bold magenta", "dead": "bold red"}
_DAY_S: Final = 86_400
_NOBODY: Final = "nobody is heard: is that the fleet's name?"


@contextlib.contextmanager
def watch_view(fog: Topology) -> Iterator[Callable[[Snapshot], None]]:
    """Yield a function that shows how a fleet stands."""
    if not notes.is_terminal:
        yield _plain_lines()
        return
    with Live(console=notes, auto_refresh=False) as live:
        yield lambda now: live.update(picture(fog, now), refresh=True)


def _plain_lines() -> Callable[[Snapshot], None]:
    before: Snapshot | None = None

    def show(now: Snapshot) -> None:
        nonlocal before
        for line in changes(before, now):
            say(f"{time.strftime('%H:%M:%S')} {line}")
        before = now

    return show


def changes(before: Snapshot | None, now: Snapshot) -> Iterator[str]:
    """Yield what has changed from one snapshot to the next, in words."""
    if before is None or before.broker_up != now.broker_up:
        yield "the broker is there" if now.broker_up else "the broker is away: waiting for it"
    if before is None and now.broker_up and not now.is_heard:
        yield _NOBODY
    known = {each.name: each for each in before.nodes} if before else {}
    fresh = [each for each in now.nodes if each.name not in known or known[each.name].state != each.state]
    told = ", ".join(f"{each.name} is {each.state}" for each in fresh if each.state)
    if told:
        yield f"{told}; mask {now.mask or '-'}, predicted {percent(now.expected_accuracy)}"
    for each in now.nodes:
        if each.runs and (each.name not in known or known[each.name].runs != each.runs):
            yield f"{each.name} runs another bundle, {each.runs}"


def percent(share: float | None) -> str:
    """Return a share in percent, if there is one."""
    return "-" if share is None else f"{100 * share:.2f} %"


def _since(for_s: float) -> str:
    return time.strftime("%H:%M:%S" if for_s < _DAY_S else "%d %b %H:%M", time.localtime(time.time() - for_s))


def picture(fog: Topology, now: Snapshot) -> Group:
    """Return what a terminal shows."""
    skips = ", ".join(f"{each.source} → {each.target}" for each in fog.hyperconnections if each.kind == "skip")
    parts = (_head(now), _summary(now), "", _fog(fog, now))
    named = flowing(f"skips: {skips}\n" if skips else "", "dim")
    return Group(*parts, named, _table(now), _latest(now))


def _head(now: Snapshot) -> Text:
    since = _since(now.broker_for_s)
    head = flowing(f"fleet {now.fleet}, bundle {now.bundle}   ", "bold")
    if not now.broker_up:
        return head.append(f"the broker is away since {since}: waiting for it; below, how it was", style="bold red")
    if not now.is_heard:
        return head.append(f"since {since} {_NOBODY}", style="yellow")
    return head.append(f"broker up since {since}", style="green")


def _summary(now: Snapshot) -> Text:
    answers = now.answers
    return flowing(
        f"mask {now.mask or '-'} of {', '.join(now.order)}, predicted {percent(now.expected_accuracy)}\n"
        f"{answers.per_s:.1f} answers/s, "
        f"{percent(answers.complete_share)} complete, {percent(answers.guess_share)} guesses"
    )


def _fog(fog: Topology, now: Snapshot) -> Table:
    """Return the fog from left to right, a column for each simple hop."""
    columns: dict[float, list[Text]] = {}
    seen = {each.name: each for each in now.nodes}
    for name, (x, _) in places(fog).items():
        columns.setdefault(x, []).append(Text(f"● {name} ", style=_style(seen[name], now)))
    grid = Table.grid(padding=(0, 1))
    cells: list[Text] = []
    for texts in columns.values():
        cells += [Text("──►", style="dim"), Text("\n").join(texts)]
    for _ in cells[1:]:
        grid.add_column(vertical="middle")
    grid.add_row(*cells[1:])
    return grid


def _style(seen: Seen, now: Snapshot) -> str:
    return _STYLES[seen.state] if seen.state and now.broker_up else "dim"


def _table(now: Snapshot) -> Table:
    """Return a row for each that has an agent, narrow enough for 80 columns."""
    caption = f"{', '.join(STAGES)}: p50/p99 in ms\n"
    table = Table(box=None, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    for column in ("node", "state", "since", "frames", "late", "dropped", "rejected", *STAGES):
        whole = column in ("node", "since", *STAGES)
        table.add_column(column, no_wrap=whole, min_width=len("suspect") if column == "state" else None)
    for each in now.nodes:
        if each.state is None:
            continue
        what = f"{each.state}, bundle {each.runs}" if each.runs else each.state
        cells = ["-"] * 7
        if each.work:
            counts = (each.work.frames, each.work.late, each.work.dropped, each.work.rejected)
            cells = [
                *map(str, counts),
                *(f"{p50:.1f}/{p99:.1f}" if p99 else "-" for p50, p99 in each.work.stages_ms.values()),
            ]
        table.add_row(each.name, Text(what, style=_style(each, now)), _since(each.for_s), *cells)
    return table


def _latest(now: Snapshot) -> Text:
    labels = (
        f"{each.label}{' (guess)' * each.guess}{'' if each.complete else ' (cut)'}" for each in now.answers.latest
    )
    return flowing(f"latest labels: {', '.join(labels) or '-'}")
