"""Deadlines from what a fleet has measured, into a bundle."""

import json

import pytest

from benchmarks.fleet import FLAT_OUT, running_trial
from broker.embedded import running_broker
from edge_agent.bundle import load
from edge_agent.metrics import Counters, Histogram, Metrics, Source, Stages
from export.deadlines import DeadlinesError, load_deadlines
from provisioning.deadlines import LEAST_FRAMES, TooFew, derive

INPUTS = {"e1": ("iot",), "f2": ("e1", "iot"), "f1": ("f2", "e1")}


def told(node, waits_ms, frames=LEAST_FRAMES):
    sources = {}
    for source, wait_ms in waits_ms.items():
        wait = Histogram()
        for _ in range(100):
            wait.add(round(wait_ms * 1e6))
        sources[source] = Source(frames=frames, wait=wait)
    return Metrics(
        node=node, epoch=1, now_ns=0, counters=Counters(), rejected={}, sources=sources, stages=Stages(), view={}
    )


def test_a_deadline_is_the_slowest_sources_and_a_multiple_of_the_own_wait():
    fleet = {
        "e1": told("e1", {"iot": 0}),
        "f2": told("f2", {"e1": 1.5, "iot": 0}),
        "f1": told("f1", {"f2": 3, "e1": 0}),
    }
    found = derive(INPUTS, fleet, 4)
    assert found["e1"].deadline_ms == 5  # the least: waits of nothing promise nothing
    assert found["f2"] == ("e1", 2.048, round(5 + 4 * 2.048, 1))
    assert found["f1"].deadline_ms == pytest.approx(found["f2"].deadline_ms + 4 * 4.096, abs=0.1)
    assert derive(INPUTS, fleet, 8)["f1"].deadline_ms > found["f1"].deadline_ms


def test_a_few_vectors_say_nothing():
    fleet = {"e1": told("e1", {"iot": 0}), "f2": told("f2", {"e1": 1, "iot": 0}, frames=12), "f1": None}
    with pytest.raises(TooFew, match="f2 has had 12 vectors of e1"):
        derive(INPUTS, fleet, 4)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "Input data was truncated"),
        ("{}", "deadlines_ms"),
        ('{"deadlines_ms": {"e1": 5}}', "is for e1, not for e1, f2"),
        ('{"deadlines_ms": {"e1": 5, "f2": 0}}', "f2: a deadline of 0.0 ms is not positive"),
    ],
)
def test_a_file_that_tells_no_deadlines_is_refused(tmp_path, text, complaint):
    file = tmp_path / "deadlines.json"
    file.write_text(text)
    with pytest.raises(DeadlinesError, match=complaint):
        load_deadlines(file, ("e1", "f2"))
    with pytest.raises(DeadlinesError, match="cannot be read"):
        load_deadlines(tmp_path / "none.json", ("e1",))


@pytest.mark.slow
def test_a_fleets_deadlines_are_measured_exported_and_kept(fogguard, run_path, bundle, tmp_path):
    with (
        running_broker(None) as url,
        running_trial(bundle.path, broker=str(url), rate=FLAT_OUT, window=8) as trial,
    ):
        trial.driver.begin("all alive", frozenset(bundle.manifest.order))
        trial.driver.settle()
        asked = ("deadlines", bundle.path, "--broker", str(url))
        early = fogguard(*asked)
        assert early.returncode == 1, early.stderr
        assert "let all nodes run for a while" in early.stderr
        trial.driver.measure(LEAST_FRAMES + 100)
        done = fogguard(*asked, "--margin", "6", "--json", "deadlines.json")
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "deadlines.json").read_text())["deadlines_ms"]
    assert 0 < found["e1"] < found["f2"] < found["f1"] < found["cloud"]
    out = tmp_path / "tight"
    done = fogguard("export", run_path, "--out", out, "--deadlines", "deadlines.json")
    assert done.returncode == 0, done.stderr
    assert load(out).manifest.deadlines_ms == found
