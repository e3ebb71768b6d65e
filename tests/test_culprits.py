"""When one link corrupts, one node runs or computes something else, or one is slow: it is named, and nobody else."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import msgspec
import numpy as np
import pytest
from relay import relay
from retrained import retrained
from support import command

from benchmarks.culprits import (
    CulpritFound,
    Judged,
    corrupt_links,
    links_between,
    other_bundles,
    require_none,
    slow_nodes,
    slow_replies,
    slow_wires,
    without_echoes,
    wrong_nodes,
)
from benchmarks.latency import noise_of
from benchmarks.reached import Reached
from benchmarks.report import report_of
from benchmarks.running import examine
from broker.embedded import running_broker
from broker.frame import HEADER_BYTES, decode, encode
from broker.link import Link
from broker.topics import Topics
from edge_agent.metrics import Counters, Metrics, Source, Stages
from provisioning.local import LocalFleet

FLEET = "latency"
T = Topics(FLEET)
tell = msgspec.json.Decoder(Metrics).decode


def named(findings):
    return [(each.culprit, each.stage) for each in findings]


def told(node, **sources):
    tallies = {name: Source(frames=frames, rejected={"checksum": wrong}) for name, (frames, wrong) in sources.items()}
    nothing = {"counters": Counters(), "rejected": {}, "stages": Stages(), "view": {}}
    return Metrics(node=node, epoch=1, now_ns=0, sources=tallies, **nothing)


def corrupted(before, after):
    return corrupt_links(links_between(before, after))


def test_a_corrupt_link_is_named_by_what_came_between_two_readings():
    before = {"f1": told("f1", f2=(1000, 5), e1=(1000, 0)), "cloud": told("cloud", f2=(1000, 0))}
    after = {"f1": told("f1", f2=(1963, 42), e1=(2000, 0)), "cloud": told("cloud", f2=(2000, 0))}
    (finding,) = corrupted(before, after)
    assert (finding.culprit, finding.stage) == ("f2>f1", "wire")
    assert "37 of 1000 frames had a wrong checksum" in finding.what
    assert corrupted(after, after) == []
    assert "42 of 2005 frames" in corrupted({}, {"f1": after["f1"]})[0].what
    assert "2 of 10 frames" in corrupted(after, {"f1": told("f1", f2=(8, 2), e1=(8, 0))})[0].what  # started anew


def test_a_sender_whose_frames_are_corrupt_at_all_its_receivers_is_named_itself():
    before = {"f1": told("f1", f2=(0, 0)), "cloud": told("cloud", f2=(0, 0))}
    after = {"f1": told("f1", f2=(9, 1)), "cloud": told("cloud", f2=(8, 2))}
    assert named(corrupted(before, after)) == [("f2", "wire")]


def test_a_slow_node_is_named_beside_others_that_are_all_as_slow_as_their_machines():
    reference = {"e1": 0.1, "f2": 0.2, "f1": 0.3, "cloud": 0.4}
    usual = {"e1": 0.3, "f2": 0.7, "f1": 0.8, "cloud": 1.3}
    assert slow_nodes(usual, reference) == []
    assert named(slow_nodes({**usual, "f1": 9.5}, reference)) == [("f1", "infer")]
    assert slow_nodes({"f1": 9.0}, reference) == []  # nobody to compare it with


WIRES = ("iot>e1", "iot>f2", "e1>f2", "e1>f1", "f2>f1", "f2>cloud", "f1>cloud", "cloud>feeder")
QUICK = dict.fromkeys(WIRES, (0.1, 1.1))
F2 = {name: (20.0, 22.0) for name in QUICK if "f2" in name}


def test_a_slow_link_is_named_unless_its_node_is_slow_itself():
    nodes = ["e1", "f2", "f1", "cloud"]
    late = slow_wires({**QUICK, **F2}, nodes)
    assert named(late) == [("f2", "wire")]
    assert named(slow_wires({**QUICK, "e1>f1": (9.0, 9.5)}, nodes)) == [("e1>f1", "wire")]
    unsure = dict.fromkeys(F2, (0.0, 44.0))  # the clocks do not prove it
    assert slow_wires({**QUICK, **unsure}, nodes) == slow_wires(QUICK, nodes) == slow_wires({}, nodes) == []
    distant = slow_replies({"e1": 1.0, "f2": 44.0, "f1": 1.2, "cloud": 0.9})
    assert named(distant) == named(without_echoes(distant, late)) == [("f2", "wire")]
    assert slow_replies({"e1": 0.1, "f2": 1.9, "f1": 0.2, "cloud": 0.1}) == []
    slow = slow_nodes({"f2": 9.0, "e1": 0.1, "f1": 0.1}, {"f1": 0.1, "e1": 0.1, "f2": 0.1})
    assert named(without_echoes(slow, late)) == [("f2", "infer")]


def test_whoever_is_to_blame_is_said_and_nobody_is_no_failure():
    wrong = wrong_nodes({"f1": Judged(n=40, wrong=3, worst=0.5), "f2": Judged(n=40, wrong=0, worst=1e-7)})
    others = other_bundles("aa", {"e1": "aa", "f2": "bb"})
    with pytest.raises(CulpritFound, match=r"f1 computes wrong: 3 of 40 .*; f2 runs bundle bb"):
        require_none([*wrong, *others])
    require_none([])


def after_topic(data, node, change):
    """A piece of a stream in which `change` was done to the first whole frame of `node`, if there is one."""
    at = data.find(b"FOGT", max(0, data.find(T.tensor(node).encode())))
    if T.tensor(node).encode() not in data or at < 0 or len(data) < at + HEADER_BYTES:
        return data
    end = at + HEADER_BYTES + int.from_bytes(data[at + 64 : at + 68], "little")
    return data if end > len(data) else data[:at] + change(data[at:end]) + data[end:]


class NowAndThen:
    """Changes a bit of every twentieth frame of a node."""

    def __init__(self, node):
        self.node, self.count = node, 0

    def __call__(self, data):
        return after_topic(data, self.node, self._flip)

    def _flip(self, frame):
        self.count += 1
        return frame if self.count % 20 else frame[:200] + bytes([frame[200] ^ 4]) + frame[201:]


def other_values(frame):
    """What a node would send that computes something else."""
    sent = decode(frame)
    return frame if sent.is_null else encode(sent._replace(values=sent.values + np.float32(0.5)))


def wait_until_alive(url, bundle):
    """Return once the sink sees everybody alive."""
    views = [{}]
    heard = [(T.metrics(bundle.manifest.sink), 0)]
    with Link(
        url, "views", subscriptions=heard, on_message=lambda _, payload: views.append(tell(payload).view)
    ) as link:
        link.connect()
        assert link.poll_until(
            lambda: sum(sensed.state == "alive" for sensed in views[-1].values()) == len(bundle.manifest.order), 30
        )


@contextmanager
def fleet(tmp_path, bundle, *, odd="f1", odd_bundle=None, up=bytes, down=bytes, is_here=True):
    """A running fleet whose agent `odd` has a link, or a bundle, of its own; yields how to measure it, and its pid."""
    with ExitStack() as stack:
        url = stack.enter_context(running_broker("mosquitto"))
        cable = stack.enter_context(relay(url, up, down))
        for name in ("most", "odd"):
            (tmp_path / name).mkdir()
        most = stack.enter_context(LocalFleet(bundle, [url], FLEET, tmp_path / "most"))
        one = stack.enter_context(LocalFleet(odd_bundle or bundle, [cable.url], FLEET, tmp_path / "odd"))
        most.start(node for node in bundle.manifest.nodes if node != odd)
        one.start([odd])
        wait_until_alive(url, bundle)
        yield Reached(bundle, url, FLEET, noise_of(bundle), is_here=is_here), one.pids[odd]


def examined(reached, steps=500):
    return examine(reached, steps, 0.0, (), lambda _what: None)


@pytest.mark.slow
def test_a_clean_run_names_nobody_though_the_clocks_must_be_estimated(tmp_path, bundle):
    with fleet(tmp_path, bundle, is_here=False) as (reached, _):
        found = examined(reached)
    for clock in found["clocks"].values():
        assert abs(clock["offset_ms"]) <= clock["error_ms"] < 20  # the truth is nought: it is one clock
        assert not clock["shared"]
    assert all(wire["error"] > 0 for wire in found["wires_ms"].values())
    assert found["findings"] == []
    assert found["unanswered"] == 0
    assert found["n"] == 500
    for judged in found["judged"].values():
        assert judged.n > 30
        assert not judged.wrong


@pytest.mark.slow
def test_a_link_that_corrupts_is_named(tmp_path, bundle):
    with fleet(tmp_path, bundle, down=NowAndThen("f2")) as (reached, _):
        found = examined(reached, 60)
        where = ["--external", "--broker", str(reached.url), "--fleet", FLEET, "--steps", "100", "--json", "run.json"]
        said = subprocess.run(
            [command("fogguard"), "run", bundle.path, *where], cwd=tmp_path, capture_output=True, text=True
        )
    assert named(found["findings"]) == [("f2>f1", "wire")]
    assert found["unanswered"] == 0
    (finding,) = json.loads((tmp_path / "run.json").read_text())["findings"]
    assert (finding["culprit"], finding["stage"]) == ("f2>f1", "wire")
    assert "the link f2 → f1 corrupts" in " ".join(said.stderr.split())


def test_a_node_that_computes_wrong_is_named(tmp_path, bundle):
    with fleet(tmp_path, bundle, up=lambda data: after_topic(data, "f1", other_values)) as (reached, _):
        found = examined(reached, 60)
    assert named(found["findings"]) == [("f1", "infer")]
    assert "computes wrong" in found["findings"][0].what


def test_a_node_with_another_bundle_is_named(tmp_path, bundle):
    other = retrained(bundle.path, tmp_path / "other", "f1", 1.01)
    with fleet(tmp_path, bundle, odd_bundle=other) as (reached, _):
        found = examined(reached, 60)
    assert named(found["findings"]) == [("f1", "bundle")]
    assert other.id.hex() in found["findings"][0].what


@pytest.mark.slow
def test_a_sink_with_another_bundle_is_named_though_nothing_is_answered(tmp_path, bundle):
    other = retrained(bundle.path, tmp_path / "other", "f1", 1.01)
    with fleet(tmp_path, bundle, odd="cloud", odd_bundle=other) as (reached, _):
        found = examined(reached, 60)
    assert named(found["findings"]) == [("cloud", "bundle")]
    assert (found["n"], found["unanswered"]) == (0, 1)
    report = report_of(msgspec.to_builtins({**found, "host": {}}), "here")
    assert report.ok is False
    assert report.sections[1].title == "Who is to blame"


@pytest.mark.slow
def test_a_fleet_whose_answers_never_come_is_a_failure_though_nobody_is_named(fogguard, tmp_path, bundle):
    result = T.result.encode()
    with fleet(tmp_path, bundle, odd="cloud", up=lambda data: data.replace(result, result[::-1])) as (reached, _):
        where = ("--external", "--broker", reached.url, "--fleet", FLEET)
        done = fogguard("bench", "latency", bundle.path, *where, "--steps", 20, "--min-seconds", 0, "--json", "l.json")
    found = json.loads((tmp_path / "l.json").read_text())
    assert (found["n"], found["unanswered"], found["findings"]) == (0, 1, [])
    assert (done.returncode, "a step was not answered: after 0 that were nothing was timed" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("is_here", [True, False], ids=["one clock", "estimated clocks"])
def test_a_slow_link_is_named(tmp_path, bundle, is_here):
    def later(data):
        time.sleep(0.01)
        return data

    with fleet(tmp_path, bundle, up=later, down=later, is_here=is_here) as (reached, _):
        found = examined(reached, 60)
    assert named(found["findings"]) == [("f1", "wire")]


THROTTLE = """
import os, pathlib, signal, sys, time

pid, share = int(sys.argv[1]), 0.1
clock = pathlib.Path(f"/proc/{pid}/schedstat")

def used_s():
    return int(clock.read_text().split()[0]) / 1e9

may_s, used, at = 0.001, used_s(), time.monotonic()
print("begun", flush=True)
while True:
    time.sleep(0.0005)
    used, before, at, earlier = used_s(), used, time.monotonic(), at
    may_s = min(0.001, may_s + share * (at - earlier)) - (used - before)
    if may_s < 0:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(min(-may_s / share, 0.08))
        os.kill(pid, signal.SIGCONT)
"""


@pytest.mark.slow
def test_a_device_that_is_ten_times_slower_is_named(tmp_path, bundle):
    with fleet(tmp_path, bundle, odd="f2") as (reached, pid):
        throttle = subprocess.Popen([sys.executable, "-c", THROTTLE, str(pid)], stdout=subprocess.PIPE)
        try:
            throttle.stdout.readline()
            found = examined(reached)
        finally:
            throttle.kill()
            throttle.communicate()
    assert named(found["findings"]) == [("f2", "infer")], found["infer_ms"]
