"""`fogguard run`: a fleet that is watched while its nodes come and go."""

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager

import msgspec
import pytest
from support import command

from benchmarks.report import report_of
from broker.embedded import running_broker
from edge_agent.config import Config


@contextmanager
def running(tmp_path, *arguments):
    """A `fogguard run` in the background; yields a function that waits for a line of its log."""
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [command("fogguard"), "run", *map(str, arguments)], cwd=tmp_path, stderr=output, stdout=output
        )

    def wait_for(pattern, timeout_s=30):
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            if found := re.search(pattern, log.read_text()):
                return found
            assert process.poll() is None or re.search(pattern, log.read_text()), log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} not in: {log.read_text()}")

    try:
        yield process, wait_for
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(20)


@pytest.mark.parametrize(
    ("kind", "down", "guesses"),
    [
        *(pytest.param(kind, "", 0, marks=pytest.mark.slow) for kind in ("embedded", "mosquitto")),
        pytest.param("mosquitto", "f1,e1", 0, marks=pytest.mark.slow),
        pytest.param("embedded", "f1,f2", 237, marks=pytest.mark.slow),
        ("embedded", "f1,e1", 0),
        ("mosquitto", "f1,f2", 237),
    ],
)
def test_a_fleet_answers_as_predicted_whoever_is_missing(fogguard, bundle, tmp_path, kind, down, guesses):
    done = fogguard(
        "run", bundle.path, "--steps", 237, "--rate", 400, "--down", down, "--broker", kind, "--json", "r.json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert "The fog" in [section.title for section in report_of(result, "r.json").sections]
    (phase,) = result["phases"]
    assert (phase["sent"], phase["answered"], phase["lost"], phase["guesses"]) == (237, 237, 0, guesses)
    assert phase["labels_equal"] == phase["labels_compared"] == 237
    mask = bundle.manifest.mask_key(node for node, alive in phase["mask"].items() if alive)
    assert phase["accuracy_measured"] == phase["accuracy_predicted"]
    assert phase["accuracy_measured"] == pytest.approx(bundle.manifest.accuracy.per_mask[mask])


def test_a_broker_that_remembers_an_earlier_fleet_is_no_obstacle(fogguard, bundle):
    with running_broker() as url:
        for _ in range(2):
            done = fogguard("run", bundle.path, "--steps", 50, "--broker", url)
            assert done.returncode == 0, done.stderr


def settled(tmp_path):
    """The phases that lasted until the fleet had settled."""
    return [phase for phase in json.loads((tmp_path / "r.json").read_text())["phases"] if phase["sent"]]


def test_a_node_that_a_user_kills_begins_a_new_phase(bundle, tmp_path):
    with running(tmp_path, bundle.path, "--rate", 300, "--json", tmp_path / "r.json") as (process, wait_for):
        pid = int(wait_for(r"f1 (\d+)")[1])
        wait_for("all alive: [1-9]")
        os.kill(pid, signal.SIGKILL)
        wait_for("f1 dead: [1-9]")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    first, second = settled(tmp_path)
    assert (first["name"], second["name"]) == ("all alive", "f1 dead")
    for phase in (first, second):
        assert phase["lost"] == phase["transition"]["lost"] == 0
        assert phase["labels_equal"] == phase["labels_compared"] == phase["sent"] > 0


def test_two_nodes_killed_at_once_are_one_phase_in_the_end(bundle, tmp_path):
    with running(tmp_path, bundle.path, "--rate", 300, "--json", tmp_path / "r.json") as (process, wait_for):
        pids = [int(wait_for(rf"{node} (\d+)")[1]) for node in ("f1", "e1")]
        wait_for("all alive: [1-9]")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for("f1, e1 dead: [1-9]")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    *_, last = json.loads((tmp_path / "r.json").read_text())["phases"]
    assert (last["name"], last["lost"]) == ("f1, e1 dead", 0)
    assert last["labels_equal"] == last["labels_compared"] == last["sent"] > 0


def test_a_node_that_a_user_freezes_is_suspected_and_back_when_it_thaws(bundle, tmp_path):
    with running(tmp_path, bundle.path, "--rate", 300, "--json", tmp_path / "r.json") as (process, wait_for):
        pid = int(wait_for(r"f1 (\d+)")[1])
        wait_for("all alive: [1-9]")
        os.kill(pid, signal.SIGSTOP)
        wait_for("f1 suspect: [1-9]")
        os.kill(pid, signal.SIGCONT)
        wait_for("f1 suspect: [1-9](.|\n)*all alive: [1-9]")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    phases = settled(tmp_path)
    assert [phase["name"] for phase in phases] == ["all alive", "f1 suspect", "all alive"]
    for phase in phases:
        assert phase["lost"] == 0
        assert phase["labels_equal"] == phase["labels_compared"] == phase["sent"] > 0


@pytest.mark.slow
def test_a_dead_sink_ends_the_run_with_a_sentence_and_what_was_measured(bundle, tmp_path):
    with running(tmp_path, bundle.path, "--rate", 300, "--json", tmp_path / "r.json") as (process, wait_for):
        pid = int(wait_for(r"cloud (\d+)")[1])
        wait_for("all alive: [1-9]")
        os.kill(pid, signal.SIGKILL)
        assert process.wait(20) == 1
        wait_for("cloud, the sink, is dead: nobody is left to answer")
    (phase,) = json.loads((tmp_path / "r.json").read_text())["phases"]
    assert phase["answered"] > 0


def test_agents_that_run_elsewhere_are_only_fed(fogguard, bundle, tmp_path):
    with running_broker() as url:
        agents = []
        for node in bundle.manifest.nodes:
            config = Config(node=node, bundle=str(bundle.path), broker=str(url), fleet="house", state=str(tmp_path))
            (tmp_path / f"{node}.json").write_bytes(msgspec.json.encode(config))
            agents.append(
                subprocess.Popen(
                    [command("fogguard-agent"), "--config", tmp_path / f"{node}.json"], stderr=subprocess.DEVNULL
                )
            )
        try:
            done = fogguard("run", bundle.path, "--external", "--broker", url, "--fleet", "house", "--steps", 200)
            assert done.returncode == 0, done.stderr
            assert "200 of 200" in done.stdout
            assert all(agent.poll() is None for agent in agents)
        finally:
            for agent in agents:
                agent.terminate()
            assert [agent.wait(10) for agent in agents] == [0] * len(agents)


def test_a_fleet_of_another_bundle_never_answers(bundle, bundle_copy, tmp_path):
    """One agent runs a changed bundle: its frames are refused, so the answers come without it, and it is noticed."""
    manifest = bundle_copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    with running_broker() as url:
        agents = []
        for node in bundle.manifest.nodes:
            path = bundle_copy if node == "cloud" else bundle.path
            config = Config(node=node, bundle=str(path), broker=str(url), fleet="house", state=str(tmp_path))
            (tmp_path / f"{node}.json").write_bytes(msgspec.json.encode(config))
            agents.append(
                subprocess.Popen(
                    [command("fogguard-agent"), "--config", tmp_path / f"{node}.json"], stderr=subprocess.DEVNULL
                )
            )
        try:
            arguments = ["run", bundle.path, "--external", "--broker", url, "--fleet", "house", "--steps", "20"]
            done = subprocess.run(
                [command("fogguard"), *map(str, arguments)], capture_output=True, text=True, timeout=90
            )
            assert done.returncode == 1
            assert "cloud runs bundle" in done.stderr
        finally:
            for agent in agents:
                agent.terminate()
                agent.wait(10)


def test_nobody_there_is_one_sentence(bundle, tmp_path, monkeypatch):
    from benchmarks.driver import Driver, FleetSilent

    with running_broker() as url:
        raw = {"iot": __import__("numpy").zeros((3, 36), "float32")}
        with (
            Driver([url], "empty", bundle, raw) as driver,
            pytest.raises(FleetSilent, match="nothing is heard of cloud, e1, f1, f2"),
        ):
            driver.wait_for(list(bundle.manifest.nodes), timeout_s=0.3)
