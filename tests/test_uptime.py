"""Reliability from the field: what is counted, whether the intervals hold, and what is expected of it."""

import json
import shutil
import signal
import subprocess
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import command
from test_agent import listener

from benchmarks.drilled import Change, Stretch
from benchmarks.expected import next_skips, spec_of
from benchmarks.observe import Observer, observe
from benchmarks.sightings import Sightings
from benchmarks.uptime import METHOD, Recording, Uptime, UptimeError, estimate, of_uptimes, read_observed, uptimes
from broker.embedded import running_broker
from broker.errors import FailureFound
from broker.presence import Presence, Sensed, Status
from broker.topics import Topics
from edge_agent.bundle import MANIFEST
from export.failures import average_accuracy
from export.runs import RUN, load_run
from export.spec import load_spec
from export.variants import VARIANTS
from provisioning.local import LocalFleet

ORDER = ("f1", "f2", "e1")


def recording(*changes, elapsed_s=100.0, blind=()):
    return Recording(
        order=ORDER,
        elapsed_s=elapsed_s,
        changes=[Change(at_s=at_s, node=node, state=state) for at_s, node, state in changes],
        stretches=[Stretch(mask="", from_s=begin, to_s=end) for begin, end in blind],
    )


def test_up_and_down_times_are_counted_to_the_end_of_the_recording():
    seen = uptimes(
        recording(
            (10, "f1", "dead"), (15, "f1", "alive"), (60, "f1", "suspect"), (61, "f1", "dead"), (40, "f2", "alive")
        )
    )
    assert seen["f1"] == Uptime(up_s=55, down_s=45, failures=2, repairs=1)
    assert seen["f2"] == seen["e1"] == Uptime(up_s=100)


def test_what_nobody_could_see_counts_for_nothing():
    seen = uptimes(recording((30, "f1", "dead"), (50, "f1", "alive"), blind=[(25, 45)]))
    assert seen["f1"] == Uptime(up_s=75, down_s=5, failures=0, repairs=1)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["alive", "dead", "suspect"])), max_size=12),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), max_size=1),
)
def test_every_second_is_up_down_or_unseen(changes, blind):
    blind = [tuple(sorted(each)) for each in blind]
    seen = uptimes(recording(*((at_s, "f1", state) for at_s, state in sorted(changes)), blind=blind))["f1"]
    unseen_s = sum(end - begin for begin, end in blind)
    assert seen.up_s + seen.down_s == pytest.approx(100 - unseen_s, abs=1e-3)
    assert abs(seen.failures - seen.repairs) <= 1 + 2 * len(blind)


def test_the_interval_is_that_of_the_textbook():
    """Ten failures in 9,990 h, ten hours of repair: 0.9975 to 0.9996 (Trivedi, example 10.27)."""
    seen = dict.fromkeys(ORDER, Uptime(up_s=9990 * 3600, down_s=10 * 3600, failures=10, repairs=10))
    (found, *_) = of_uptimes(ORDER, seen, 3600).nodes.values()
    assert found.low == pytest.approx(0.9975, abs=2e-4)
    assert found.high == pytest.approx(0.9996, abs=1e-4)
    assert found.low < found.r < found.high
    assert found.share_up == 0.999
    assert found.repairs_from == "own"


def test_the_true_reliability_lies_in_the_interval_as_often_as_it_says():
    chance = np.random.default_rng(5)
    held = []
    for _ in range(300):
        seen = {}
        for node, mean_up_s in zip(ORDER, (90.0, 40.0, 400.0), strict=True):
            changes, at_s, is_up = [], 0.0, True
            while (at_s := at_s + chance.exponential(mean_up_s if is_up else 10.0)) < 1000:
                is_up = not is_up
                changes.append((at_s, node, "alive" if is_up else "dead"))
            seen[node] = uptimes(recording(*changes, elapsed_s=1000.0))[node]
        found = of_uptimes(ORDER, seen, 10.0).nodes
        truth = {"f1": 0.9, "f2": 0.8, "e1": 400 / 410}
        held += [found[node].low <= r <= found[node].high for node, r in truth.items()]
    assert 0.92 < np.mean(held) < 0.985


def test_more_recordings_make_it_surer_and_a_node_that_never_failed_is_not_taken_for_perfect():
    one = recording((10, "f1", "dead"), (15, "f1", "alive"))
    few, many = estimate([one]).nodes, estimate([one] * 20).nodes
    assert many["f1"].high - many["f1"].low < few["f1"].high - few["f1"].low
    assert few["e1"].share_up == 1
    assert few["e1"].low < 0.99 < few["e1"].high
    assert few["e1"].repairs_from == "all"
    assert estimate([recording()]).nodes["e1"].repairs_from == "assumed"
    assert estimate([one]) == estimate([one])


def test_recordings_of_different_fleets_are_refused():
    with pytest.raises(UptimeError, match="different fleets: one has f1, f2, e1, another f1"):
        estimate([recording(), Recording(order=("f1",), elapsed_s=1.0, changes=[])])
    with pytest.raises(UptimeError, match="f1 was never seen"):
        estimate([recording(elapsed_s=0.0)])


def test_the_skip_that_helps_most_stands_first():
    spec = load_spec("watch")
    assert spec.order == ORDER
    found = next_skips(spec, {"f1": 0.5, "f2": 0.99, "e1": 0.99})
    there = {(each.source, each.target) for each in spec.hyperconnections}
    assert not {tuple(each.skip.split(">")) for each in found} & there
    gains = [each.lives_points for each in found]
    assert gains == sorted(gains, reverse=True)
    assert all(gain >= 0 for gain in gains)


def test_a_network_without_skips_is_told_what_those_of_its_specification_would_add(run_path, tmp_path):
    run = msgspec.structs.replace(load_run(run_path), variant=VARIANTS["vanilla"])
    (tmp_path / RUN).write_bytes(msgspec.json.encode(run))
    found = next_skips(spec_of(tmp_path), {"f1": 0.9, "f2": 0.9, "e1": 0.9})
    assert {"iot>f2", "f2>cloud"} & {each.skip for each in found}
    assert found[0].lives_points > 5
    assert spec_of(run_path).hyperconnections == load_spec("watch").hyperconnections


@pytest.mark.parametrize(("old", "new"), [('"r":0.9', '"r":9.9'), ('"failures":1', '"failures":-1')])
def test_an_estimate_that_none_can_be_is_refused(tmp_path, old, new):
    file = tmp_path / "observed.json"
    text = msgspec.json.encode(estimate([recording((50, "f1", "dead"), (55, "f1", "alive"))])).decode()
    file.write_text(text)
    assert old in text
    assert read_observed(file).order == ORDER
    file.write_text(text.replace(old, new))
    with pytest.raises(UptimeError, match="no observed reliability"):
        read_observed(file)


def view(**states):
    return {node: Sensed(state=state, epoch=1, since_ns=0, layer="beat") for node, state in states.items()}


def test_an_observer_that_hears_nothing_knows_nothing():
    observer = Observer(ORDER)
    for at_s in range(1, 20):
        if at_s not in range(8, 14):  # the sink is away
            observer.on_view(float(at_s), view(f1="dead" if at_s > 4 else "alive", f2="alive", e1="alive"))
        observer.on_time(float(at_s))
    blind = [(each.from_s, each.to_s) for each in observer.seen.stretches if each.mask == ""]
    assert blind == [(0, 1), (7, 14)]
    assert [(each.at_s, each.node, each.state) for each in observer.seen.changes] == [(5, "f1", "dead")]


def told_by_a_sink_that_begins_its_life(at_s, heard):
    """What it tells, and when: the retained births come one by one, and it tells each at once."""
    presence = Presence(ORDER)
    for position, node in enumerate(heard):
        presence.on_status(node, Status(online=True, epoch=1), 0)
        yield at_s + position / 1000, dict(presence.view)


def observed(observer):
    return msgspec.convert(msgspec.to_builtins(observer.seen), Recording)


def test_a_restart_of_the_sink_is_no_failure_of_the_others():
    observer = Observer(ORDER)
    for at_s in range(1, 3600):
        observer.on_view(float(at_s), view(f1="alive", f2="alive", e1="alive"))
    for at_s, told in told_by_a_sink_that_begins_its_life(3601.5, ORDER):
        observer.on_view(at_s, told)
    observer.on_time(3602.0)
    assert observer.seen.changes == []
    found = estimate([observed(observer)]).nodes
    assert {(each.seen.failures, each.seen.repairs, each.repairs_from) for each in found.values()} == {
        (0, 0, "assumed")
    }


def test_who_was_never_heard_of_was_down_from_the_first_word_on():
    observer = Observer(ORDER)
    (*_, (at_s, told)) = told_by_a_sink_that_begins_its_life(1.00007, ["f1", "e1"])
    for later_s in range(100):
        observer.on_view(at_s + later_s, told)
    seen = uptimes(observed(observer))
    assert (seen["f2"].up_s, seen["f2"].failures) == (0, 0)  # it fell before anybody looked
    assert seen["f2"].down_s == seen["e1"].up_s == pytest.approx(99)


@pytest.mark.parametrize("at_s", [5.00004, 5.00006])
def test_who_is_down_at_the_first_word_has_not_been_seen_to_fail(at_s):
    observer = Observer(ORDER)
    observer.on_view(at_s, view(f1="dead", f2="alive", e1="alive"))
    observer.on_view(at_s + 1, view(f1="dead", f2="alive", e1="alive"))
    assert uptimes(observed(observer))["f1"] == Uptime(down_s=1)


def test_who_fell_while_the_sink_was_away_has_not_been_seen_to_fail():
    observer, presence = Observer(ORDER), Presence(ORDER)
    for at_s in (1.0, 2.0):
        observer.on_view(at_s, view(f1="alive", f2="alive", e1="alive"))
    observer.on_time(59.0)
    for position, (node, is_alive) in enumerate((("e1", True), ("f1", False), ("f2", True))):
        presence.on_status(node, Status(online=is_alive, epoch=1), 0)
        observer.on_view(60 + position / 1000, dict(presence.view))
    observer.on_time(61.0)
    assert uptimes(observed(observer))["f1"] == Uptime(up_s=1, down_s=1)
    assert uptimes(observed(observer))["f2"] == Uptime(up_s=2)


def test_what_a_sink_keeps_saying_of_who_it_never_heard_of_counts_in_the_end():
    sightings, told = Sightings(ORDER), dict(Presence(ORDER).view)
    assert sightings.look(7.0, told) == sightings.look(8.9, told) == []
    told.update(view(f1="alive"))
    assert sightings.look(9.0, told) == [Change(at_s=7.0, node=node, state="dead") for node in ("f2", "e1")]
    assert sightings.states == {"f1": "alive", "f2": "dead", "e1": "dead"}
    assert sightings.look(9.1, view(f1="alive", f2="alive", e1="alive"))[0] == Change(
        at_s=9.1, node="f2", state="alive"
    )


def test_a_message_of_somebody_else_does_not_end_a_recording(bundle):
    with running_broker() as url, listener(url) as (link, _):
        assert link.publish_confirmed(Topics("house").metrics("cloud"), b"{}", retain=True, timeout_s=2)
        with pytest.raises(FailureFound, match="nothing was heard of cloud of fleet house"):
            observe([url], "house", bundle.manifest, 0.5, lambda _: None, lambda _: None)


@pytest.mark.slow
def test_a_fleet_is_observed_estimated_and_evaluated(fogguard, bundle, tmp_path):
    (tmp_path / "fleet").mkdir()
    with running_broker() as url, LocalFleet(bundle, [url], "house", tmp_path / "fleet") as agents:
        agents.start(bundle.manifest.nodes)
        arguments = ["observe", bundle.path, "--broker", url, "--fleet", "house", "--json", "week.json"]
        watching = subprocess.Popen(
            [command("fogguard"), *map(str, arguments)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        lines = iter(watching.stderr.readline, "")
        assert any("cloud of fleet house tells who is up" in line for line in lines)
        for off, on in ((agents.kill, agents.start), (agents.freeze, agents.thaw)):
            time.sleep(2)
            off(["f1"])
            assert any("f1 is" in line and "alive" not in line for line in lines)
            time.sleep(1)
            on(["f1"])
            assert any("f1 is alive" in line for line in lines)
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)
        other = tmp_path / "other"
        shutil.copytree(bundle.path, other)
        (other / MANIFEST).write_bytes((other / MANIFEST).read_bytes().replace(b'"f1"', b'"f9"'))
        place = ("--broker", url, "--json", "not.json")
        for words, code, sentence in (
            ((other, "--fleet", "house"), 2, "cloud of fleet house knows no f9: it runs another bundle than this one"),
            (
                (bundle.path, "--fleet", "hose", "--for", "4s"),
                1,
                "nothing was heard of cloud of fleet hose: does it run",
            ),
        ):
            refused = fogguard("observe", *words, *place)
            assert (refused.returncode, sentence in refused.stderr) == (code, True), refused.stderr
            (tmp_path / "not.json").unlink()
    week = json.loads((tmp_path / "week.json").read_text())
    assert not week["finished"]
    done = fogguard("reliability", "week.json", "week.json", "--json", "observed.json")
    assert done.returncode == 0, done.stderr
    observed = json.loads((tmp_path / "observed.json").read_text())
    assert observed["method"] == METHOD
    assert observed["nodes"]["f1"]["seen"]["failures"] >= 4
    assert observed["nodes"]["f1"]["low"] < observed["nodes"]["f1"]["r"] < observed["nodes"]["e1"]["r"]
    done = fogguard("evaluate", bundle.path, "--reliability", "observed.json", "--json", "e.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "e.json").read_text())
    (expected,) = found["expected"].values()
    assert expected["low"] < expected["mean"] < expected["high"]
    setting = {node: each["r"] for node, each in observed["nodes"].items()}
    by_hand = average_accuracy(bundle.manifest.accuracy.per_mask, bundle.manifest.order, setting)
    assert expected["mean"] == pytest.approx(by_hand, abs=1e-4)
    assert found["settings"]["observed"] == setting
    assert found["next_skips"][0]["skip"] in done.stdout
    for words, sentence in (
        (["reliability", "e.json"], "e.json: no recording of ups and downs"),
        (["reliability", "nothing.json"], "nothing.json: cannot be read"),
        (["evaluate", bundle.path, "--reliability", "week.json"], "week.json: no observed reliability"),
        (["observe", bundle.path, "--broker", "mqtt://127.0.0.1:9", "--json", "week.json"], "is there already"),
    ):
        refused = fogguard(*words)
        assert (refused.returncode, sentence in refused.stderr) == (2, True), refused.stderr
