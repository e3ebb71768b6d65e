"""docs/RESULTS.md and its figure: made from the committed JSON alone, so that page and results cannot differ."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from broker.errors import FogError

FIGURE = "figure3.png"
SETTINGS = {"no_failure": "No failure", "normal": "Normal", "poor": "Poor", "hazardous": "Hazardous"}
_COLOURS = ("#9aa5b1", "#e07a1f", "#7b5ea7", "#5b8c5a", "#0b6e99", "#1f2933")
Result = Mapping[str, Any]


def write_page(results: Path, page: Path) -> None:
    """Write the page and, beside it, the figure; raises FogError if a result is missing."""
    found = load_results(results)
    page.write_text(render(found), encoding="utf-8")
    draw_figure(found).savefig(page.with_name(FIGURE), dpi=110)


def load_results(folder: Path) -> dict[str, Result]:
    """Return the results in `folder` by file name, without ending; raises FogError."""
    try:
        return {file.stem: msgspec.json.decode(file.read_bytes()) for file in sorted(folder.glob("*.json"))}
    except (OSError, msgspec.DecodeError) as error:
        raise FogError(f"{folder}: cannot be read ({error})") from error


def render(results: Mapping[str, Result]) -> str:
    """Return the page."""
    template = resources.files("benchmarks") / "templates" / "results.md"
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - Markdown of our own
    try:
        return environment.from_string(template.read_text(encoding="utf-8")).render(
            results=results, table=table, settings=SETTINGS, gain=gain, figure=FIGURE
        )
    except jinja2.UndefinedError as error:
        raise FogError(f"the page needs every table: fogguard reproduce all ({error})") from error


def table(result: Result, ceiling: str | None = None) -> str:
    """Return Eq. (3) of each variant under each setting as a Markdown table, in percent; and the ceiling of one."""
    lines = [f"| % | {' | '.join(SETTINGS.values())} |", f"| --- |{' --- |' * len(SETTINGS)}"]
    for name, variant in result["variants"].items():
        cells = [
            f"{100 * each['mean']:.2f} ± {100 * each['std']:.2f}" for each in map(variant["average"].get, SETTINGS)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if ceiling:
        cells = [f"{100 * result['ceiling'][ceiling][setting]:.2f}" for setting in SETTINGS]
        lines.append(f"| *ceiling: never wrong while a path lives* | {' | '.join(cells)} |")
    return "\n".join(lines)


def gain(result: Result, better: str, than: str, setting: str) -> str:
    """Return how many points one variant lies above another."""
    averages = [result["variants"][name]["average"][setting]["mean"] for name in (better, than)]
    return f"{100 * (averages[0] - averages[1]):.1f}"


def draw_figure(results: Mapping[str, Result]) -> Figure:
    """Draw the paper's Figure 3 anew: average accuracy by setting, both experiments, spread over the seeds."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, 2), (("health", "Health"), ("camera", "Camera")), strict=True):
        _draw_bars(axes, results[name], title)
    return figure


def _draw_bars(axes: Axes, result: Result, title: str) -> None:
    names = [name for name in result["variants"] if "initial" not in name]
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        average = result["variants"][name]["average"]
        places = [group - 0.4 + (position + 0.5) * width for group in range(len(SETTINGS))]
        means = [100 * average[setting]["mean"] for setting in SETTINGS]
        spread = [100 * average[setting]["std"] for setting in SETTINGS]
        axes.bar(places, means, width, yerr=spread, capsize=2, color=_COLOURS[position % len(_COLOURS)], label=name)
    axes.axhline(100 * result["chance"], color="#c0392b", linestyle=":", label="random guess")
    axes.set_xticks(range(len(SETTINGS)), list(SETTINGS.values()))
    axes.set_ylim(min(50.0, 100 * result["chance"]), 101)
    axes.set_ylabel("average accuracy, Eq. (3), %")
    axes.set_title(f"{title}: mean and spread of {len(result['variants'][names[0]]['seeds'])} seeds")
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)
