"""`fogguard drill`: fleets that lose nodes by plan, by chance and behind the drill's back."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest
from support import command
from terminals import drawn, terminal

from benchmarks.drill import Drill
from benchmarks.drill_view import table_of
from benchmarks.drilled import Drilled, NotAsPredicted, Tally, require_as_predicted
from benchmarks.fleet import running_trial
from benchmarks.hands import LocalHands
from benchmarks.scenario import Event, Plan
from benchmarks.uptime import Recording, uptimes
from broker.embedded import LocalBroker, running_broker
from export.failures import average_accuracy
from provisioning.asking import Operator
from provisioning.local import LocalFleet

SCENARIO = """
seconds = 8
events = [
  { at = 1, do = "kill", node = "f1" },
  { at = 2, do = "freeze", node = "e1" },
  { at = 4, do = "back", node = "f1" },
  { at = 4, do = "back", node = "e1" },
  { at = 6, do = "stop", node = "f2" },
]
"""


def told(folder):
    return json.loads((folder / "d.json").read_text())


def masks(found):
    return {each["mask"]: each for each in found["masks"]}


def require_whole(found):
    """Every step of a drill is accounted for, in the tallies and over time, and nobody is to blame."""
    assert found["findings"] == []
    course = found["course"]
    for name in ("sent", "answered"):
        assert sum(course[name]) == sum(each[name] for each in found["masks"])
    unanswered = sum(each["sent"] - each["answered"] for each in found["masks"])
    assert unanswered == sum(each["lost"] for each in found["masks"]) + found["lost_in_outages"]
    for each in found["masks"]:
        assert each["n"] + each["held_up"] <= each["sent"] - each["changing"]
        assert sum(each["answer_times"].values()) == each["answered"]
    ends = [each["to_s"] for each in found["stretches"]]
    assert ends[:-1] == [each["from_s"] for each in found["stretches"][1:]]


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
@pytest.mark.slow
def test_a_scenario_is_played_and_every_label_is_the_predicted_one(fogguard, bundle, tmp_path, kind):
    (tmp_path / "s.toml").write_text(SCENARIO)
    done = fogguard("drill", bundle.path, "s.toml", "--broker", kind, "--json", "d.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(tmp_path)
    require_whole(found)
    assert found["bundle"] == bundle.id.hex()
    assert found["finished"]
    assert 8 <= found["elapsed_s"] < 10
    by_mask = masks(found)
    assert {"111", "011", "010", "101"} <= set(by_mask)
    for mask in ("111", "011", "010", "101"):
        each = by_mask[mask]
        assert each["n"] == each["labels_equal"] > 50
        assert each["accuracy_measured"] == pytest.approx(each["accuracy_predicted"])
        assert each["lost"] == 0
    deeds = [(round(each["at_s"]), each["node"], each["what"]) for each in found["deeds"]]
    assert deeds == [(1, "f1", "kill"), (2, "e1", "freeze"), (4, "f1", "back"), (4, "e1", "back"), (6, "f2", "stop")]
    assert all(0 < each["sensed_ms"] < 2000 for each in found["deeds"])
    assert f"{sum(each['n'] for each in found['masks'])} labels equal, 0 steps lost" in done.stdout


@pytest.mark.slow
def test_chance_draws_from_the_setting_and_tells_what_it_comes_to_in_the_long_run(fogguard, bundle, tmp_path):
    arguments = ("--random", "--setting", "hazardous", "--every", "1s", "--for", "6s", "--seed", 4, "--by", "freeze")
    done = fogguard("drill", bundle.path, *arguments, "--json", "d.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(tmp_path)
    require_whole(found)
    assert {each["what"] for each in found["deeds"]} == {"freeze", "back"}
    manifest = bundle.manifest
    expected = average_accuracy(manifest.accuracy.per_mask, manifest.order, manifest.settings["hazardous"])
    assert f"in the long run {100 * expected:.2f} %" in done.stdout


def begin(tmp_path, *arguments):
    with (tmp_path / "log").open("a") as log:
        return subprocess.Popen(
            [command("fogguard"), "drill", *map(str, arguments), "--json", "d.json"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )


def wait_until(condition, timeout_s=40):
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.05)


def has_run(tmp_path, seconds):
    return (tmp_path / "d.json").exists() and told(tmp_path)["elapsed_s"] >= seconds


@pytest.mark.slow
def test_a_drill_that_is_killed_leaves_a_readable_file_and_goes_on_from_there(fogguard, bundle, tmp_path):
    (tmp_path / "s.toml").write_text(SCENARIO)
    arguments = (bundle.path, "s.toml", "--for", "9s")
    running = begin(tmp_path, *arguments)
    wait_until(lambda: has_run(tmp_path, 3))
    running.kill()
    running.wait()
    first = told(tmp_path)
    require_whole(first)
    assert (first["finished"], first["sittings"]) == (False, 1)
    assert sum(first["course"]["sent"]) > 50
    other = fogguard("drill", *arguments, "--seed", 1, "--json", "d.json")
    assert other.returncode == 0, other.stderr  # a scenario has no seed
    second = told(tmp_path)
    require_whole(second)
    assert (second["finished"], second["sittings"]) == (True, 2)
    assert second["stretches"][1] == first["stretches"][1]
    assert 9 <= second["elapsed_s"] < 11
    assert sum(second["course"]["sent"]) > sum(first["course"]["sent"])
    assert [each["what"] for each in second["deeds"]].count("stop") == 1
    again = fogguard("drill", *arguments, "--json", "d.json")
    assert (again.returncode, "that drill is finished" in again.stderr) == (2, True)
    otherwise = fogguard("drill", bundle.path, "--random", "--json", "d.json")
    assert (otherwise.returncode, "holds another drill" in otherwise.stderr) == (2, True)


def test_wrong_wishes_are_one_sentence(fogguard_here, bundle, tmp_path):
    (tmp_path / "s.toml").write_text(SCENARIO)
    (tmp_path / "d.json").write_text("{}")
    for words, sentence in (
        ("", "say what is to happen, one of three"),
        ("s.toml --random", "say what is to happen, one of three"),
        ("nothing.toml", "nothing.toml: cannot be read (No such file or directory)"),
        ("--random --setting stormy", "--setting 'stormy': the bundle's settings are"),
        ("--random --by unplug", "--by unplug cannot be done to this fleet: kill, stop, freeze, restart can"),
        ("--random --external --broker mqtt://127.0.0.1:9", "nothing can be done to them from here: only --by-hand"),
        ("--random --external", "name the broker where the agents are"),
        ("--random --json d.json", "is there already, and is no drill to go on with"),
        ("--random --for soon", "--for 'soon': write seconds, minutes or hours"),
        ("--random --every 1.5s", "--every '1.5s': write seconds, minutes or hours"),
        ("--random --lab nowhere", "there is no lab nowhere"),
    ):
        done = fogguard_here("drill", bundle.path, *words.split())
        assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr


def drilled(bundle, plan, seconds, meddle=lambda trial, found: trial, **options):
    found = Drilled(plan=plan, order=bundle.manifest.order, planned_s=seconds)
    said = []
    with running_trial(bundle.path, **options) as trial:
        trial = meddle(trial, found)
        Drill(trial, found, LocalHands(trial.agents), None, lambda _: None, said.append, lambda _: None).run()
    return found, said


def test_a_label_that_was_not_predicted_fails_the_drill(bundle):
    def wrong(trial, _found):
        return replace(trial, predicted={**trial.predicted, "111": trial.predicted["111"] + 1})

    plan = Plan(mode="scenario", events=(Event(at=1.5, do="kill", node="f1"),), seconds=3)
    found, _ = drilled(bundle, plan, 3, wrong)
    assert found.tally("111").labels_equal == 0
    assert found.tally("011").labels_equal == found.tally("011").n > 0
    with pytest.raises(NotAsPredicted, match=r"1 of 2 masks are not as predicted: 111: \d+ of \d+ labels differ, 0"):
        require_as_predicted(found)


def test_a_drill_in_which_nothing_could_be_compared_fails_once_it_is_over():
    found = Drilled(plan=Plan(mode="scenario"), order=("f1",), planned_s=1)
    found.tally("1").sent = found.tally("1").changing = 7
    require_as_predicted(found)  # a look at a file that is still written
    found.finished = True
    with pytest.raises(NotAsPredicted, match="no label could be compared: 0 of 7 steps were answered"):
        require_as_predicted(found)


@pytest.mark.slow
def test_a_broker_that_goes_away_is_an_outage_and_no_lost_step(bundle):
    plan = Plan(mode="scenario", events=(Event(at=90, do="kill", node="f1"),), seconds=100)
    with LocalBroker(None) as own:

        def restart_soon(trial, found):
            once = [own.restart]
            look = trial.driver.told.sink_states

            def looked():
                if once and sum(found.course.sent) > 100:
                    once.pop()()
                return look()

            trial.driver.told.sink_states = looked
            return trial

        found, said = drilled(bundle, plan, 10, restart_soon, broker=str(own.url))
    assert any("waiting for cloud" in each for each in said)
    assert "" in [stretch.mask for stretch in found.stretches[1:]]
    require_as_predicted(found)
    late = [at for at, sent in enumerate(found.course.sent) if sent][-1]
    assert late >= 8  # it went on afterwards
    assert found.tally("111").n == found.tally("111").labels_equal > 300


@contextmanager
def foreign_fleet(bundle, folder):
    """A fleet that somebody else runs, and its broker."""
    folder.mkdir()
    with running_broker() as url, LocalFleet(bundle, [url], "house", folder) as agents:
        agents.start(bundle.manifest.nodes)
        yield url, agents


@pytest.mark.slow
def test_an_operator_is_told_what_to_unplug_and_whatever_he_does_is_seen(bundle, tmp_path):
    patience = ("--hold", "2s", "--patience", "4s", "--json", "d.json")
    with foreign_fleet(bundle, tmp_path / "fleet") as (url, agents):
        place = ("--external", "--broker", url, "--fleet", "house")
        with terminal(("drill", bundle.path, "--by-hand", *place, *patience), tmp_path) as shown:
            first = shown.wait_for(r"s: unplug (\w+) now")[1]
            shown.wait_for("██")  # in large letters
            agents.kill([first])
            shown.wait_for(rf"s: {first} is dead")
            shown.wait_for(rf"{first} is gone, \d+\.\d s after you were asked")
            shown.wait_for(f"plug {first} back in now")
            agents.start([first])
            shown.wait_for(rf"{first} is back, \d+\.\d s after you were asked")

            second = shown.wait_for(r"s: unplug (\w+) now")[1]
            (third,) = set(bundle.manifest.order) - {first, second}
            agents.freeze([third])  # the wrong one
            shown.wait_for(f"that was {third}, not {second}")
            agents.kill([second])
            shown.wait_for(f"{second} is gone")
            shown.wait_for(f"plug {' and '.join(sorted((second, third)))} back in now")
            agents.thaw([third])
            agents.start([second])
            for _ in range(2):
                shown.wait_for(rf"({second}|{third}) is back")

            shown.wait_for(f"s: unplug {third} now")
            shown.wait_for(f"{third} is still there after 4 s: going on without")  # never
            agents.kill([third])
            shown.wait_for(f"{third} is gone now: late")  # too late
            shown.wait_for(f"plug {third} back in now")
            shown.wait_for(f"{third} is not back after 4 s: going on without it")
            assert shown.end() == 0, shown.shown[-3000:]
        assert set(agents.pids) == set(bundle.manifest.nodes) - {third}
        agents.require_running()  # the fleet is somebody else's
    found = told(tmp_path)
    require_whole(found)
    kinds = [each["kind"] for each in found["remarks"]]
    assert kinds.count("asked") == 6
    assert [kinds.count(kind) for kind in ("unplugged", "wrong", "returned", "never", "late", "missing")] == [
        *(2, 1, 3, 1, 1, 1)
    ]
    alone = bundle.manifest.mask_key(set(bundle.manifest.order) - {first})
    assert masks(found)[alone]["labels_equal"] == masks(found)[alone]["n"] > 50
    assert "accuracy" in shown.shown


@pytest.mark.slow
def test_a_drill_elsewhere_begins_with_whoever_is_there(fogguard, bundle, tmp_path):
    with foreign_fleet(bundle, tmp_path / "fleet") as (url, agents):
        agents.kill(["f1"])
        place = ("--external", "--broker", url, "--fleet", "house")
        done = fogguard("drill", bundle.path, "--by-hand", *place, "--hold", "30s", "--for", "4s", "--json", "d.json")
        assert done.returncode == 0, done.stderr
    found = told(tmp_path)
    require_whole(found)
    assert found["stretches"][-1]["mask"] == "011"
    assert masks(found)["011"]["labels_equal"] == masks(found)["011"]["n"] > 50
    assert [(each["node"], each["state"]) for each in found["changes"]][:1] == [("f1", "dead")]
    judged = found["evidence"]["judged"]  # also what was computed without it
    assert judged["cloud"]["n"] > judged["f1"]["n"] == 0


class SinkAway(LocalHands):
    """Besides what they are told to do, these freeze the sink after a second, for six."""

    def __init__(self, agents):
        super().__init__(agents)
        now_s = time.monotonic()
        self.due = [(now_s + 1, agents.freeze), (now_s + 7, agents.thaw)]

    def check(self):
        if self.due and time.monotonic() >= self.due[0][0]:
            self.due.pop(0)[1](["cloud"])


@pytest.mark.slow
def test_what_happens_while_nothing_is_watched_is_no_failure_that_was_seen_and_has_no_time(bundle, tmp_path):
    plan = Plan(mode="scenario", events=(Event(at=8, do="kill", node="f2"),), seconds=100)
    found = Drilled(plan=plan, order=bundle.manifest.order, planned_s=2)

    def go_on(hands):
        where = {"broker": str(url), "local": False, "fleet": "house", "whole": False}
        with running_trial(bundle.path, **where) as trial:
            Drill(trial, found, hands(agents), None, *[lambda _: None] * 3).run()

    def seen_alive():
        with Operator(url, "house", None, 30) as operator:
            view = operator.ask(["cloud"], "metrics")["cloud"].reply.metrics.view
        return {node for node, sensed in view.items() if sensed.state == "alive"}

    with foreign_fleet(bundle, tmp_path / "fleet") as (url, agents):
        wait_until(lambda: seen_alive() == {"f1", "f2", "e1"})
        agents.kill(["f1"])
        go_on(LocalHands)
        agents.kill(["e1"])
        agents.start(["f1"])
        wait_until(lambda: seen_alive() == {"f1", "f2"})
        found.planned_s = 12
        go_on(SinkAway)
    order = [(each.node, each.state) for each in found.changes]
    assert set(order[1:3]) == {("f1", "alive"), ("e1", "dead")}
    assert (order[0], order[3:]) == (("f1", "dead"), [("f2", "dead")])
    seen = uptimes(msgspec.convert(msgspec.to_builtins(found), Recording))
    assert {(each.failures, each.repairs) for each in seen.values()} == {(0, 0)}
    (killed, *_) = found.deeds
    assert (killed.node, killed.what, killed.sensed_ms) == ("f2", "kill", None)
    assert (found.total("lost"), found.lost_in_outages > 0) == (0, True)


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_terminal_shows_which_mask_is_which(width):
    found = Drilled(plan=Plan(mode="random"), order=tuple("abcdefgh"), planned_s=60.0)
    found.masks = [Tally(mask=f"1100011{k}", sent=1900 + k, answered=1900, n=1890, labels_equal=1890) for k in (0, 1)]
    shown = drawn(table_of(found), width)
    assert "11000110" in shown
    assert "11000111" in shown
    assert width < 80 or all(each in shown for each in ("answered", "measured", "predicted", "changing", "1901"))


@pytest.mark.slow
def test_the_sink_unplugged_by_mistake_is_waited_for(bundle, tmp_path):
    with foreign_fleet(bundle, tmp_path / "fleet") as (url, agents):
        place = ("--external", "--broker", url, "--fleet", "house")
        with terminal(
            ("drill", bundle.path, "--by-hand", *place, "--hold", "1s", "--json", "d.json"), tmp_path
        ) as shown:
            asked = shown.wait_for(r"s: unplug (\w+) now")[1]
            agents.kill(["cloud"])
            shown.wait_for(f"that was cloud, not {asked}")
            agents.start(["cloud"])
            shown.wait_for("cloud is back")
            agents.freeze([asked])
            shown.wait_for(f"{asked} is gone")
            shown.process.send_signal(signal.SIGINT)
            assert shown.end() == 130
        with terminal(
            ("drill", bundle.path, "--by-hand", *place, "--hold", "1s", "--json", "d.json"), tmp_path
        ) as shown:
            shown.wait_for(f"plug {asked} back in now")  # the drill goes on where it was
            agents.thaw([asked])
            shown.wait_for(rf"{asked} is back, \d+\.\d s after you were asked")
            shown.process.send_signal(signal.SIGINT)
            assert shown.end() == 130
        agents.require_running()
    found = told(tmp_path)
    require_whole(found)
    assert not found["finished"]
    assert {each["node"] for each in found["changes"]} == {asked}  # a sink that begins its life has heard of nobody
    assert [each["mask"] for each in found["stretches"]].count("") > found["sittings"]
    assert sum(each["lost"] for each in found["masks"]) == 0


def test_ctrl_c_ends_the_agents_of_this_machine_and_the_drill_can_go_on(bundle, tmp_path):
    running = begin(tmp_path, bundle.path, "--by-hand")
    wait_until(lambda: has_run(tmp_path, 2))
    log = (tmp_path / "log").read_text()
    pids = [int(pid) for pid in re.findall(r"\w+ (\d+)", log.split("stand for devices: ")[1].split(";")[0])]
    assert len(pids) == 4
    os.kill(pids[0], signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not told(tmp_path)["finished"]
    assert "Traceback" not in (tmp_path / "log").read_text()
