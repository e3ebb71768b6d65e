"""A result as pictures and pages: drawn from its JSON alone, so that any result can be drawn again."""

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import msgspec
from matplotlib.figure import Figure

from benchmarks import bench_sections, drill_sections, failover_sections, running_sections
from benchmarks.environment import NotWritten, write_whole
from benchmarks.figures import draw_accuracy, draw_latency, draw_topology
from benchmarks.html import rendered
from benchmarks.kinds import Kind, NoResult, kind_of
from benchmarks.phases import PhaseReport
from benchmarks.sections import Picture, Report, Result, Section
from benchmarks.timeline import Timeline, Topology

_DPI = 110
_OF_KIND: dict[Kind, Callable[[Result], Report]] = {
    "phases": drill_sections.of_phases,
    "drill": drill_sections.of_drill,
    "accuracy": bench_sections.of_accuracy,
    "failover": failover_sections.of_failover,
    "latency": bench_sections.of_latency,
    "stages": running_sections.of_stages,
    "soak": bench_sections.of_soak,
    "switch": bench_sections.of_switch,
    "evaluation": bench_sections.of_evaluation,
}


def report_of(result: Result, where: str) -> Report:
    """Return what to show of a result that was read from `where`; raises NoResult."""
    try:
        found = _OF_KIND[kind_of(result, where)](result)
        cut = "" if result.get("finished", True) else f"Cut short after {result.get('elapsed_s', 0):.0f} s. "
        return found._replace(verdict=cut + found.verdict, sections=[*_fog(result), *found.sections])
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise NoResult(f"{where}: not as this fogguard writes it: {error!r}") from error


def _fog(result: Result) -> list[Section]:
    if "topology" not in result:
        return []
    fog = msgspec.convert(result["topology"], Topology)
    height = max(2.4, 0.55 * len(fog.sensors))
    return [Section("The fog", Picture("topology", (10, height), lambda axes: draw_topology(axes, fog)))]


def write_page(result: Result, where: str, page: Path) -> list[Path]:
    """Write a result as one page that needs nothing else, its pictures as PNG and its tables as Markdown beside it.

    Returns the files; raises NoResult, naming `where` the result came from, or NotWritten.
    """
    report = report_of(result, where)
    notes = page.with_suffix(".md")
    if notes.exists() and not page.exists():
        raise NotWritten(f"{page}: {notes.name} is there without it, and so of no report: name another page")
    pictures = [section.picture for section in report.sections if section.picture]
    files = {page: _html(result, report).encode(), notes: _markdown(result, report, page).encode()}
    files.update({_picture_file(page, picture): _png(_figure(picture)) for picture in pictures})
    for file, data in files.items():
        write_whole(file, data)
    return list(files)


def write_report(result: Result, folder: Path) -> None:
    """Write a demo's `report.html`, one page that needs nothing else, and `report.png`, a summary, into `folder`."""
    phases = msgspec.convert(result["phases"], list[PhaseReport])
    steps = msgspec.convert(result["timeline"], Timeline)
    fog = msgspec.convert(result["topology"], Topology)
    summary = Figure(figsize=(12, 8), layout="constrained")
    upper, middle, lower = summary.subplots(3, 1, height_ratios=[1.4, 2, 1.2])
    draw_topology(upper, fog)
    draw_accuracy(middle, steps, phases)
    draw_latency(lower, steps, phases)
    write_whole(folder / "report.png", _png(summary))
    write_whole(folder / "report.html", _html(result, report_of(result, str(folder))).encode())


def _picture_file(page: Path, picture: Picture) -> Path:
    return page.with_name(f"{page.stem}-{picture.name}.png")


def _figure(picture: Picture) -> Figure:
    figure = Figure(figsize=picture.size, layout="constrained")
    picture.draw(figure.subplots())
    return figure


def _png(figure: Figure) -> bytes:
    output = io.BytesIO()
    figure.savefig(output, format="png", dpi=_DPI)
    return output.getvalue()


def _html(result: Result, report: Report) -> str:
    pictures = {number: _svg(each.picture) for number, each in enumerate(report.sections) if each.picture}
    return rendered(
        "report.html",
        report=report,
        pictures=pictures,
        conditions=conditions(result),
        command=result.get("command", ""),
    )


def conditions(result: Result) -> str:
    """Return under which conditions a result was measured, in a sentence or two."""
    host, versions = result.get("host", {}), result.get("versions", {})
    emulated = result.get("emulated") or "nothing was emulated"
    programs = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return (
        f"{emulated[0].upper()}{emulated[1:]}. Bundle {result.get('bundle') or 'none'}, commit "
        f"{result.get('commit') or 'unknown'}, {result.get('started', '')}; {host.get('system', '')} "
        f"{host.get('machine', '')}, {host.get('cores', '?')} cores; {programs}."
    )


def _markdown(result: Result, report: Report, page: Path) -> str:
    lines = [f"# {report.title}", "", report.verdict, ""]
    for section in report.sections:
        lines += [f"## {section.title}", ""]
        if section.picture:
            lines += [f"![{section.title}]({_picture_file(page, section.picture).name})", ""]
        if section.columns:
            rows = [section.columns, ["---"] * len(section.columns), *section.rows]
            lines += [f"| {' | '.join(each.replace('|', '¦') for each in row)} |" for row in rows]
            lines.append("")
        if section.note:
            lines += [section.note, ""]
    return "\n".join([*lines, conditions(result), "", f"Made by `{result.get('command', '')}`.", ""])


def _svg(picture: Picture) -> str:
    """Return a drawing as an <svg> element whose text stays text."""
    output = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fogguard"}):
        _figure(picture).savefig(output, format="svg", metadata={"Date": None})
    text = output.getvalue()
    return text[text.index("<svg") :]
