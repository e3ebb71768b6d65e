"""`fogguard report`: any result becomes one page that needs nothing else, with pictures and Markdown beside it."""

import json
import re
from itertools import combinations

import msgspec
import pytest
from matplotlib.figure import Figure
from support import ROOT

from benchmarks.comparison import compare
from benchmarks.drilled import Change, Course, Deed, Drilled, Remark, Stretch, Tally
from benchmarks.environment import NotWritten
from benchmarks.figures import Point, draw_quantiles, draw_scatter
from benchmarks.kinds import NoResult
from benchmarks.memory import Life
from benchmarks.report import report_of, write_page
from benchmarks.scenario import Plan
from benchmarks.soaked import Soaked, Steps
from benchmarks.switched import Switch, require_whole
from benchmarks.timeline import Topology
from broker.errors import FailureFound
from edge_agent.bundle import Hyperconnection

HEAD = {
    "command": "fogguard drill <bundle> --random",
    "version": "0.1.0",
    "commit": "abc",
    "bundle": "0123456789abcdef",
    "started": "2026-01-01T00:00:00+00:00",
    "host": {"system": "Linux", "machine": "x86_64", "kernel": "6", "cores": 2},
    "versions": {"numpy": "2.4.6", "torch": ""},
    "emulated": "every node is a process on this machine",
}
EDGES = (("iot", "e1", "simple"), ("e1", "f1", "simple"), ("f1", "cloud", "simple"), ("e1", "cloud", "skip"))
FOG = Topology(
    sensors=("iot",),
    nodes=("e1", "f1", "cloud"),
    sink="cloud",
    hyperconnections=tuple(Hyperconnection(source=a, target=b, kind=kind) for a, b, kind in EDGES),
)


def drilled(**changes):
    found = Drilled(plan=Plan(mode="by-hand"), order=("f1", "e1"), planned_s=60.0, elapsed_s=4.0, sittings=1)
    found.masks = [
        Tally(
            mask="11", sent=600, answered=600, n=590, labels_equal=590, accuracy_measured=0.95, accuracy_predicted=0.95
        )
    ]
    found.masks.append(Tally(mask="01", sent=200, answered=199, lost=1, n=190, labels_equal=180, accuracy_measured=0.8))
    found.masks[0].answer_times = {8: 500, 12: 100}
    found.masks[1].answer_times = {9: 199}
    found.course = Course(
        sent=[200] * 4, answered=[200, 200, 0, 199], right=[190.0] * 4, predicted=[190.0] * 4, ms=[400.0] * 4
    )
    found.stretches = [
        Stretch(mask="11", from_s=0, to_s=2), Stretch(mask="", from_s=2, to_s=3), Stretch(mask="01", from_s=3, to_s=4)
    ]  # fmt: skip
    found.deeds = [Deed(at_s=3.0, node="f1", what="kill", sensed_ms=5.5)]
    found.changes = [Change(at_s=3.0, node="f1", state="dead")]
    found.remarks = [Remark(at_s=1.0, kind="wrong", node="e1", text="that was e1, not <f1>")]
    for name, value in changes.items():
        setattr(found, name, value)
    return json.loads(msgspec.json.encode({**HEAD, **msgspec.to_builtins(found, str_keys=True), "topology": FOG}))


def accuracy():
    entry = {
        "guesses": 0,
        "cut": 0,
        "lost": 0,
        "late": 0,
        "settled_ms": 1.0,
        "accuracy_predicted": 0.9,
        "accuracy_measured": 0.9,
    }
    average = {"poor": {"measured": 0.91, "predicted": 0.9, "ci95": 0.01, "covered": 1.0}}
    masks = [{**entry, "mask": f"{k:04b}", "n": 10, "labels_equal": 10} for k in range(16)]
    return {**HEAD, "order": ["a", "b", "c", "d"], "by": "kill", "rows": 10, "masks": masks, "average": average}


def failover():
    spread = {"n": 3, "p50": 1.0, "p95": 2.0, "max": 30.0}
    times = {"sensed_ms": spread, "first_answer_ms": spread, "back_ms": spread, "answer_ms": spread}
    counts = {"n": 3, "cut": 0, "lost": 1, "late": 0, "wrong": 0, "false_suspicions": 0}
    failure = {
        "node": "f1",
        "feeds": 1,
        "sensed_ms": {"cloud": 30.0},
        "layers": {"cloud": "will"},
        "first_answer_ms": 31.0,
        "new_mask_ms": None,
        "back_ms": 400.0,
        "gap_steps": 3,
        "gap_right": 2.5,
        "gap_as_predicted": 3,
        "incomplete": 0,
    }
    each = [{**failure, **counts}]
    passing = {**times, **counts, "lost": 0, "sensed_ms": None, "answer_ms": None, "gap_accuracy": 0.0}
    killed = {**times, **counts, "gap_accuracy": 0.9, "each": each, "goal_ms": 30.0, "layers": {"will": 1}}
    return {**HEAD, "classes": {"kill": killed, "broker-kill": passing}}


def latency():
    figures = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0, "steps_per_s": 900.0}
    costs = {"rss_mb": {"f1": 70.0}, "ready_s": {"f1": 0.4}, "idle_cpu_percent": {"f1": 1.0}}
    return {
        **HEAD,
        **figures,
        "floor": {**figures, "ratio": figures},
        "each_round": [],
        "rounds": 5,
        "steps": 10,
        **costs,
    }


def soaked(**steps):
    return {**HEAD, **msgspec.to_builtins(Soaked(planned_s=1.0, seed=0, steps=Steps(**steps)))}


def committed(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


RESULTS = {
    "drill": (drilled(), 4, "bad"),
    "accuracy": (accuracy(), 1, "good"),
    "failover": (failover(), 2, "bad"),
    "latency": (latency(), 1, ""),
    "soak": (soaked(compared=9), 0, "good"),
    "demo": (committed("demo"), 4, "good"),
    "switch": (committed("switch"), 0, "good"),
    "health": (committed("health"), 0, ""),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_every_kind_of_result_becomes_a_page_with_pictures_and_markdown(tmp_path, kind):
    result, pictures, verdict = RESULTS[kind]
    files = write_page(result, "r.json", tmp_path / "page.html")
    assert {file.name for file in files} == {file.name for file in tmp_path.iterdir()}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files if file.suffix == ".png")
    page, text = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    assert page.count("<svg") == len(re.findall(r"!\[", text)) == len(files) - 2 == pictures
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert "@import" not in page
    assert f'<p class="verdict{" " if verdict else ""}{verdict}">' in page
    for column in report_of(result, "r.json").sections[-1].columns:
        assert column in text
    for known in (result["bundle"], result["commit"], f"{result['host']['cores']} cores"):
        assert known in page or not known
        assert known in text or not known


def names_on(size, draw):
    """What is written on a picture, and where."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    draw(axes)
    figure.draw_without_rendering()
    legend = axes.get_legend()
    texts = [text for text in (*axes.texts, *(legend.get_texts() if legend else ())) if text.get_text()]
    return axes, {text.get_text(): text.get_window_extent() for text in texts}


def require_readable(places):
    """No name lies on another."""
    for (one, a), (other, b) in combinations(places.items(), 2):
        assert not a.overlaps(b), f"{one} lies on {other}"


def test_no_name_lies_on_another_where_six_cameras_feed_the_fog():
    cameras = tuple(f"camera{k}" for k in range(1, 7))
    edges = [Hyperconnection(source=name, target="e1", kind="simple") for name in cameras]
    fog = Topology(sensors=cameras, nodes=FOG.nodes, sink="cloud", hyperconnections=(*edges, *FOG.hyperconnections[1:]))
    result = {**accuracy(), "topology": msgspec.to_builtins(fog)}
    picture = report_of(result, "r.json").sections[0].picture
    require_readable(names_on(picture.size, picture.draw)[1])


def test_masks_can_be_told_apart_around_the_diagonal_and_one_that_differs_is_named():
    points = [Point(f"{k:08b}", k / 255, k / 255, 100, equal=k != 250) for k in range(256)]
    axes, places = names_on((6, 5.4), lambda axes: draw_scatter(axes, points))
    require_readable(places)
    assert any(name.startswith("11111010") for name in places)
    assert not names_on((6, 5.4), lambda axes: draw_scatter(axes, [Point("0", 0, 0, 0, equal=True)]))[1]
    assert all(place.x0 >= axes.bbox.x0 for place in places.values())


def test_times_within_one_decade_are_written_as_plain_numbers():
    spreads = {"fleet": {"p50": 0.47, "p95": 2.04, "p99": 2.69}}
    axes, _ = names_on((10, 2.4), lambda axes: draw_quantiles(axes, spreads, "ms"))
    written = [label.get_text() for label in axes.get_xticklabels(which="both") if label.get_text()]
    assert {"0.6", "2"} <= set(written)
    assert all(float(text) and "e" not in text for text in written), written


def test_what_happened_in_a_drill_can_be_read(tmp_path):
    write_page(drilled(), "r.json", tmp_path / "page.html")
    page, text = (tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text()
    assert "| 01 | 200 | 199 | 1 | 0 | 0 | 0 | 0 | 80.00 | 0.00 | 180 of 190 |" in text
    assert "799 of 800" not in page  # the course says 599 were answered
    assert "Cut short after 4 s. 4 s: 599 of 800 steps answered, 770 of 780 labels as predicted, 1 steps lost" in page
    assert "that was e1, not &lt;f1&gt;" in page
    assert "every node is a process on this machine" in page.lower()
    assert page.count('<tr class="bad">') == 1


def test_a_class_that_misses_its_goal_is_marked(tmp_path):
    result = failover()
    for each, p95 in zip(result["classes"].values(), (30.1, 30.0), strict=True):
        each.update(lost=0, goal_ms=30.0, sensed_ms={"n": 30, "p50": 5.0, "p95": p95, "max": 40.0})
    report = report_of(result, "r.json")
    assert not report.ok
    assert "not every class was sensed within its goal" in report.verdict
    (times,) = [section for section in report.sections if section.title == "Times, ms"]
    assert times.bad == {0}


def test_failures_measured_by_an_earlier_fogguard_can_be_drawn(tmp_path):
    result = failover()
    result["classes"] = {"kill": {k: v for k, v in result["classes"]["kill"].items() if k not in ("each", "layers")}}
    assert write_page(result, "r.json", tmp_path / "page.html") == [tmp_path / "page.html", tmp_path / "page.md"]


def test_a_phase_that_never_settled_is_shown_without_an_accuracy(tmp_path):
    first, second, *_ = committed("demo")["phases"]
    nothing = {"accuracy_measured": None, "accuracy_predicted": None, "labels_compared": 0, "labels_equal": 0}
    unsettled = {**second, **nothing, "sent": 0, "answered": 0, "guesses": 0}
    result = {**HEAD, "phases": [first, unsettled]}
    write_page(result, "r.json", tmp_path / "page.html")
    assert report_of(result, "r.json").ok is True
    assert "| f1 dead | f1 | 0 | 0 | 0 | 0 | 0 | - | - | 0 of 0 | - | - | - |" in (tmp_path / "page.md").read_text()
    assert compare(result, result, "a", "b").left_out == [
        "answer times: the steps of one run are not independent of each other",
        "f1 dead: labels wrong: was not measured in both",
    ]
    assert report_of({**HEAD, "phases": [unsettled]}, "r.json").ok is None


def test_a_drill_that_has_just_begun_can_be_drawn(tmp_path):
    fresh = drilled(masks=[], course=Course(), stretches=[], deeds=[], remarks=[], elapsed_s=0.0)
    write_page(fresh, "r.json", tmp_path / "page.html")
    assert "0 of 0 steps answered" in (tmp_path / "page.html").read_text()


HELD_UP = Tally(mask="11", sent=600, answered=600, held_up=600, answer_times={0: 600})
NOTHING_MEASURED = {
    "drill": drilled(masks=[HELD_UP]),
    "accuracy": {**accuracy(), "masks": [], "average": {}},
    "failover": {**failover(), "classes": {}},
    "run": {**HEAD, "phases": []},
    "demo": {**committed("demo"), "phases": []},
    "soak": soaked(),
    "switch": {**HEAD, "switches": []},
}


@pytest.mark.parametrize("kind", NOTHING_MEASURED)
def test_a_result_without_a_comparison_is_neither_good_nor_bad(tmp_path, kind):
    write_page(NOTHING_MEASURED[kind], "r.json", tmp_path / "page.html")
    assert report_of(NOTHING_MEASURED[kind], "r.json").ok is None


def test_a_drill_that_is_over_and_compared_nothing_is_bad_as_the_command_says():
    assert report_of(drilled(masks=[HELD_UP], finished=True), "r.json").ok is False
    whole = Tally(mask="11", sent=600, answered=600, n=590, labels_equal=590)
    assert report_of(drilled(masks=[whole], finished=True), "r.json").ok is True


def test_a_switch_in_which_nothing_could_be_compared_is_bad_as_the_command_says():
    result = committed("switch")
    for each in result["switches"][1]["stretches"]:
        each.update(held_up=each["sent"], labels_compared=0, labels_equal=0)
    report = report_of(result, "r.json")
    assert report.ok is False
    assert "no label could be compared" in report.verdict
    with pytest.raises(FailureFound, match="no label could be compared: somebody was missing in every answer"):
        require_whole(msgspec.convert(result["switches"], list[Switch]))


def test_what_a_process_held_when_warm_is_not_told_of_one_that_never_was(tmp_path):
    lives = {"e1": [Life(pid=1, age_s=4.0, last_mb=71.5)], "f1": [Life(pid=2)]}
    lives["f1"][0].take(10.0, 72.0, warm_up_s=10.0)
    [held] = [each for each in report_of({**soaked(), "memory": lives}, "it").sections if "memory" in each.title]
    assert held.rows == [["e1", "1", "4.0", "-", "71.5"], ["f1", "1", "10.0", "72.0", "72.0"]]


def test_a_fleet_that_answers_at_no_load_can_be_drawn(tmp_path):
    result = committed("lab-latency")
    silent = {"offered_per_s": 0.2, "answered_per_s": 0.0, "lost": 1, "borne": False, "answers_ms": {}}
    result["loads"] = [{**silent, "sent_late_ms": {}}]
    files = write_page(result, "r.json", tmp_path / "page.html")
    assert tmp_path / "page-loads.png" not in files
    assert "| 0.2 | 0 | 1 |" in (tmp_path / "page.md").read_text()


def test_a_text_of_somebody_s_own_is_not_overwritten_and_that_of_an_earlier_report_is(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(NotWritten, match=r"README\.html: README\.md is there without it"):
        write_page(accuracy(), "r.json", tmp_path / "README.html")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("README.md", "mine")]
    write_page(accuracy(), "r.json", tmp_path / "page.html")
    write_page(latency(), "r.json", tmp_path / "page.html")
    assert (tmp_path / "page.md").read_text().startswith("# How fast a fleet answers")


def test_what_is_no_result_is_refused(tmp_path):
    without = {key: value for key, value in accuracy().items() if key != "by"}
    for result in ({}, {"plans": []}, {**accuracy(), "masks": [{"mask": "1"}]}, without, {**latency(), "floor": None}):
        with pytest.raises(NoResult, match=r"^r\.json: (no result|not as this fogguard writes it)"):
            write_page(result, "r.json", tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote_and_what_it_cannot(fogguard_here, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(drilled()))
    done = fogguard_here("report", "r.json", "-o", "page.html")
    assert done.returncode == 0, done.stderr
    assert "report: page.html, page.md, page-topology.png, page-course.png" in done.stderr
    for words, sentence in (
        ("nothing.json", "nothing.json: cannot be read"),
        ("page.md", "page.md: no JSON object"),
        ("r.json -o nowhere/page.html", "nowhere/page.html: cannot be written there"),
        ("r.json -o page.pdf", "call the page NAME.html"),
    ):
        refused = fogguard_here("report", *words.split())
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr
