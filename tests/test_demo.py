"""The demo as a user runs it, and what makes it fail."""

import json
import re

import numpy as np
import pytest

from benchmarks.demo import NotAsPredicted, require_as_predicted
from benchmarks.phases import summarise
from benchmarks.recording import Phase, StepRecord
from export.failures import GUESS, masks

pytestmark = pytest.mark.timeout(600)
NAMES = ["all alive", "f1 dead", "f1 back", "two dead", "all dead", "all back"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    import subprocess

    from support import command

    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [command("fogguard"), "demo", "--json", "copy.json"], cwd=folder, capture_output=True, text=True, timeout=550
    )
    return folder, done


def test_the_demo_succeeds_and_leaves_run_bundle_and_reports(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    left = {path.name for path in (folder / "demo").iterdir()}
    assert left == {"run", "bundle", "report.json", "report.html", "report.png"}
    assert (folder / "copy.json").read_bytes() == (folder / "demo" / "report.json").read_bytes()


def test_every_phase_holds_what_the_contract_says(demo):
    folder, _ = demo
    result = json.loads((folder / "copy.json").read_text())
    assert result["command"] == "fogguard demo --json copy.json"
    assert [phase["name"] for phase in result["phases"]] == NAMES
    for phase in result["phases"]:
        assert phase["sent"] >= 200
        assert phase["answered"] == phase["sent"]
        assert phase["lost"] == phase["transition"]["lost"] == 0
        assert phase["latency_ms"]["p95"] < result["deadline_ms"] / 2  # answered by the nodes, not by their deadlines
        assert phase["labels_equal"] == phase["labels_compared"] == phase["sent"]
        assert phase["accuracy_measured"] == phase["accuracy_predicted"]
        assert 0 < phase["latency_ms"]["p50"] <= phase["latency_ms"]["p95"] <= phase["latency_ms"]["p99"]
    dead = [{node for node, alive in phase["mask"].items() if not alive} for phase in result["phases"]]
    assert dead == [set(), {"f1"}, set(), {"f1", "e1"}, {"f1", "f2", "e1"}, set()]
    assert [set(phase["sensed_ms"]) for phase in result["phases"]] == [
        set(),
        {"f1"},
        set(),
        {"f1", "e1"},
        {"f2"},
        set(),
    ]
    assert [phase["guesses"] > 0 for phase in result["phases"]] == [False] * 4 + [True, False]
    assert result["phases"][4]["guesses"] == result["phases"][4]["sent"]


def test_the_accuracy_measured_is_the_one_in_the_manifest(demo):
    folder, _ = demo
    manifest = json.loads((folder / "demo" / "bundle" / "manifest.json").read_text())
    for phase in json.loads((folder / "copy.json").read_text())["phases"]:
        mask = "".join(str(int(phase["mask"][node])) for node in manifest["order"])
        assert phase["sent"] == manifest["accuracy"]["n"]
        assert phase["accuracy_measured"] == pytest.approx(manifest["accuracy"]["per_mask"][mask])


def test_the_page_needs_nothing_from_elsewhere(demo):
    folder, _ = demo
    page = (folder / "demo" / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert "@import" not in page
    assert page.count("<svg") == 4
    assert all(name in page for name in NAMES)
    assert (folder / "demo" / "report.png").read_bytes().startswith(b"\x89PNG")


def phase_of(bundle, labels):
    phase = Phase("all alive", frozenset(bundle.manifest.order), 0)
    phase.steady = [StepRecord(row, row * 10**6, row * 10**6 + 10**6, label) for row, label in enumerate(labels)]
    return phase


def summarised(bundle, phase):
    predicted = {mask: np.array([0, 1, 2, 0]) for mask in masks(3)}
    return summarise(phase, bundle.manifest, predicted, np.array([0, 1, 2, 3]), 100.0)


def report(bundle, labels):
    return summarised(bundle, phase_of(bundle, labels))


def test_labels_as_predicted_are_right_even_where_the_network_is_wrong(bundle):
    good = report(bundle, [0, 1, 2, 0])
    assert (good.ok, good.accuracy_measured, good.accuracy_predicted) == (True, 0.75, 0.75)
    require_as_predicted([good])


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 1, 2, 3], "1 of 4 labels differ, 0 steps lost"),
        ([0, 1, 2, GUESS], "1 of 4 labels differ, 0 steps lost"),
        ([0, 1, 2, None], "0 of 3 labels differ, 1 steps lost"),
    ],
)
def test_another_label_a_guess_or_a_lost_step_fails_the_demo(bundle, labels, sentence):
    bad = report(bundle, labels)
    with pytest.raises(NotAsPredicted, match=sentence) as failure:
        require_as_predicted([bad])
    assert failure.value.exit_code == 1


def test_a_run_without_any_step_to_be_compared_fails(bundle):
    for nothing in ([], [report(bundle, [])]):
        with pytest.raises(NotAsPredicted, match="not as predicted: no step was fed"):
            require_as_predicted(nothing)


def test_a_phase_that_never_settled_has_no_accuracy_and_fails_only_if_it_lost_a_step(bundle):
    good, passing = report(bundle, [0, 1, 2, 0]), phase_of(bundle, [])
    passing.transition = phase_of(bundle, [0, 1]).steady
    unsettled = summarised(bundle, passing)
    assert (unsettled.sent, unsettled.accuracy_measured, unsettled.accuracy_predicted) == (0, None, None)
    require_as_predicted([good, unsettled])
    passing.transition[1].label = None
    with pytest.raises(NotAsPredicted, match="all alive: 0 of 0 labels differ, 1 steps lost"):
        require_as_predicted([good, summarised(bundle, passing)])


def test_an_answer_after_the_deadline_is_late(bundle):
    phase = phase_of(bundle, [0, 1, 2, 0])
    phase.steady[1].answered_ns += 10**9
    assert summarised(bundle, phase).late == 1
