"""Whoever holds a drill or the accuracy benchmark up is named, by what is seen beside the feeding, and nobody else."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
from retrained import retrained
from test_culprits import FLEET, NowAndThen, after_topic, fleet, named, other_values

from benchmarks.culprits import Arrived, Judged
from benchmarks.drill import Drill
from benchmarks.drilled import Drilled
from benchmarks.evidence import Evidence
from benchmarks.fleet import running_trial
from benchmarks.hands import NoHands
from benchmarks.kinds import read_result
from benchmarks.live import follow
from benchmarks.report import report_of
from benchmarks.scenario import Event, Plan
from benchmarks.witness import Witness

HERE_MS = {"e1": 0.006, "f2": 0.02, "f1": 0.03, "cloud": 0.04}
USUAL_MS = {"e1": 0.05, "f2": 0.1, "f1": 0.13, "cloud": 0.17}  # a call takes longer where something else goes on


def timed(infer_ms, spells=3):
    evidence = Evidence(here_ms=HERE_MS)
    for node, ms in infer_ms.items():
        for _ in range(spells):
            evidence.add_spell(node, ms)
    return evidence


@pytest.mark.parametrize(
    ("evidence", "culprits"),
    [
        (Evidence(), []),
        (timed(USUAL_MS), []),
        (timed({node: 20 * ms for node, ms in USUAL_MS.items()}), []),  # all devices are alike
        (timed({**USUAL_MS, "e1": 0.5}), [("e1", "infer")]),
        (timed({**USUAL_MS, "cloud": 1.7}), [("cloud", "infer")]),
        (timed({**USUAL_MS, "f1": 2 * 0.13}), []),
        (timed({**USUAL_MS, "cloud": 1.7}, spells=2), []),  # too little to tell
        (Evidence(bundle="aa", others={"f1": "bb"}), [("f1", "bundle")]),
        (Evidence(judged={"f1": Judged(n=9, wrong=1, worst=0.1), "f2": Judged(n=9)}), [("f1", "infer")]),
        (Evidence(links={"f2>f1": Arrived(frames=9, corrupt=1), "f2>cloud": Arrived(frames=9)}), [("f2>f1", "wire")]),
    ],
)
def test_evidence_names_who_is_to_blame(evidence, culprits):
    assert named(evidence.findings()) == culprits


def test_one_hold_up_of_a_machine_is_no_slow_processor():
    evidence = timed(USUAL_MS)
    evidence.add_spell("f1", 0.13 + 100 / 200)
    assert evidence.findings() == []
    for _ in range(5):
        evidence.add_spell("f1", 1.9)
    assert named(evidence.findings()) == [("f1", "infer")]


WARM_MS = {"e1": 0.032, "f2": 0.035, "f1": 0.065, "cloud": 0.25}  # the sink's steps came seldom, the others' at once


@pytest.mark.parametrize(
    ("rest_ms", "culprits"),
    [
        ({}, [("cloud", "infer")]),
        ({node: 1.3 * ms for node, ms in HERE_MS.items()}, []),
        ({**HERE_MS, "cloud": 3.5 * HERE_MS["cloud"]}, [("cloud", "infer")]),
        ({node: 9 * ms for node, ms in HERE_MS.items()}, []),  # all devices are alike
        ({node: ms for node, ms in HERE_MS.items() if node != "cloud"}, [("cloud", "infer")]),  # it said nothing
        ({"cloud": HERE_MS["cloud"]}, [("cloud", "infer")]),  # nobody to compare it with
        ({**HERE_MS, "f2": 9 * HERE_MS["f2"]}, []),  # slow now, quick when it was fed
    ],
)
def test_who_seems_slow_is_not_named_if_it_is_as_quick_as_the_others_at_rest(rest_ms, culprits):
    evidence = timed(WARM_MS)
    evidence.add_rest(rest_ms)
    assert named(evidence.suspects()) == [("cloud", "infer")]
    assert named(evidence.findings()) == culprits


def test_who_was_slow_at_rest_once_remains_named():
    evidence = timed(WARM_MS)
    for times in (1, 9, 1):
        evidence.add_rest({**HERE_MS, "cloud": times * HERE_MS["cloud"]})
    assert named(evidence.findings()) == [("cloud", "infer")]


def test_a_drill_tells_who_is_to_blame_and_who_is_not_after_all():
    plan = Plan(mode="scenario", events=(), seconds=1)
    found = Drilled(plan=plan, order=("e1", "f2", "f1"), planned_s=1, evidence=timed(WARM_MS))
    (news,) = found.blame()
    assert news.startswith("cloud infers slowly")
    assert found.blame() == []
    found.evidence.add_rest(HERE_MS)
    assert found.blame() == ["cloud is not to blame after all (stage infer)"]
    assert found.blame() == found.findings == []


def test_evidence_adds_up_over_sittings():
    evidence = Evidence()
    for _ in range(2):
        evidence.add_links({"f2>f1": Arrived(frames=100, corrupt=2)})
        evidence.add_judged({"f1": Judged(n=40, wrong=1, worst=0.25), "f2": Judged(n=40, worst=1e-7)})
    assert [each.what.split(": ")[1] for each in evidence.findings()] == [
        "4 of 200 frames had a wrong checksum",
        "2 of 80 vectors are not what its graph makes of what it got, by up to 25 % of the largest value",
    ]


def test_another_bundle_is_in_the_file_and_in_the_report(fogguard, tmp_path, bundle):
    other = retrained(bundle.path, tmp_path / "other", "f1", 1.01)
    with fleet(tmp_path, bundle, odd_bundle=other) as (reached, _):
        where = ("--external", "--broker", reached.url, "--fleet", FLEET)
        drill = fogguard("drill", bundle.path, "--by-hand", *where, "--json", "d.json")
        measured = fogguard("bench", "accuracy", bundle.path, "--by", "hand", *where, "--json", "a.json")
        run = fogguard("run", bundle.path, *where, "--json", "r.json")
    for done, file in ((drill, "d.json"), (measured, "a.json"), (run, "r.json")):
        assert (done.returncode, f"f1 runs bundle {other.id.hex()}" in done.stderr) == (1, True), done.stderr
        found = read_result(tmp_path / file)
        assert [(each["culprit"], each["stage"]) for each in found["findings"]] == [("f1", "bundle")]
        report = report_of(found, file)
        assert report.ok is (None if done is run else False)
        (blamed,) = [section for section in report.sections if section.title == "Who is to blame"]
        assert blamed.rows == [("f1", "bundle", found["findings"][0]["what"])]


@pytest.mark.slow
def test_drill_accuracy_and_run_name_a_corrupt_link_and_a_node_that_computes_wrong(fogguard, tmp_path, bundle):
    wrong = {"up": lambda data: after_topic(data, "f1", other_values), "down": NowAndThen("f2")}
    with fleet(tmp_path, bundle, **wrong) as (reached, _):
        where = ("--external", "--broker", reached.url, "--fleet", FLEET)
        drill = ("drill", bundle.path, "--by-hand", *where, "--hold", "60s", "--json", "d.json")
        first = fogguard(*drill, "--for", "3s")
        kept = read_result(tmp_path / "d.json")
        second = fogguard(*drill, "--for", "6s")
        by_hand = ("--by", "hand", "--mask", "111", "--rows", "100")
        measured = fogguard("bench", "accuracy", bundle.path, *by_hand, *where, "--json", "a.json")
        run = fogguard("run", bundle.path, *where, "--steps", 300, "--json", "r.json")
    culprits = [("f2>f1", "wire"), ("f1", "infer")]
    for done, file in ((second, "d.json"), (measured, "a.json"), (run, "r.json")):
        found = read_result(tmp_path / file)
        assert [(each["culprit"], each["stage"]) for each in found["findings"]] == culprits
        said = " ".join(done.stderr.split())
        assert done.returncode == 1, said
        assert "the link f2 → f1 corrupts" in said
        assert "f1 computes wrong" in said
        assert "Who is to blame" in done.stdout
        assert report_of(found, file).verdict.endswith("To blame: f2>f1 (wire), f1 (infer).")
    assert first.returncode == 1
    both = read_result(tmp_path / "d.json")["evidence"]["links"]["f2>f1"]
    assert both["corrupt"] > kept["evidence"]["links"]["f2>f1"]["corrupt"] > 0


HOLD_BACK = """
import os, signal, sys, time

while True:
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    time.sleep(0.009)
    os.kill(int(sys.argv[1]), signal.SIGCONT)
    time.sleep(0.0005)
"""


@contextmanager
def held_back(pid):
    """A process that gets its processor for less than a tenth of the time."""
    holding = subprocess.Popen([sys.executable, "-c", HOLD_BACK, str(pid)])
    try:
        yield
    finally:
        holding.kill()
        holding.wait()
        os.kill(pid, signal.SIGCONT)


class Slowing(NoHands):
    """Makes an agent of this machine slow, as a lab's device can be."""

    def __init__(self, pid):
        self.pid = pid
        self.stack = ExitStack()

    def do(self, harm, node):
        self.stack.enter_context(held_back(self.pid))

    def undo(self, harm, node):
        self.stack.close()


def drilled(reached, hands, seconds, *events):
    plan = Plan(mode="scenario", events=events, seconds=100)
    found = Drilled(plan=plan, order=reached.bundle.manifest.order, planned_s=seconds)
    where = {"broker": str(reached.url), "fleet": FLEET, "local": False}
    with running_trial(reached.bundle.path, **where) as trial:
        Drill(trial, found, hands, None, lambda _: None, lambda _: None, lambda _: None).run()
    return found


@pytest.mark.slow
def test_a_device_that_is_ten_times_slower_is_named_unless_the_plan_makes_it_so(tmp_path, bundle):
    with fleet(tmp_path, bundle, odd="f2") as (reached, pid):
        ordered = drilled(reached, Slowing(pid), 4, Event(at=0, do="slow", node="f2"))
        with held_back(pid):
            found = drilled(reached, NoHands(), 10)
    assert ordered.findings == []
    assert "f2" not in ordered.evidence.infer_times
    assert named(found.findings) == [("f2", "infer")], found.evidence.infer_times
    assert found.evidence.slow_at_rest == ["f2"]


@pytest.mark.slow
def test_who_was_held_up_while_it_was_fed_is_not_named_if_it_is_quick_at_rest(tmp_path, bundle):
    evidence = Evidence()
    with (
        fleet(tmp_path, bundle, odd="f2") as (reached, pid),
        running_trial(bundle.path, broker=str(reached.url), fleet=FLEET, local=False) as trial,
        Witness(trial, evidence),
        held_back(pid),
    ):
        follow(trial, 1500, frozenset(), lambda _line: None)
    assert named(evidence.suspects()) == [("f2", "infer")], evidence.infer_times
    assert evidence.findings() == [], evidence.rest_ms
