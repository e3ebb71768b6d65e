"""What virtual devices survive: every class of failure, a benchmark that is killed, a smart plug."""

import json
import subprocess
import sys
import time

import pytest
from support import ROOT, command
from test_drill_lab import answering  # noqa: F401
from test_provision import NAME, fleet  # noqa: F401

from broker.embedded import running_broker

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


def bench(answering, kind, *arguments):  # noqa: F811
    (answering.folder / "bench.json").unlink(missing_ok=True)
    answering.command("bench", kind, answering.bundle.path, "--lab", NAME, *arguments, "--json", "bench.json")
    return told(answering)


def told(answering):  # noqa: F811
    return json.loads((answering.folder / "bench.json").read_text())


def test_every_class_of_failure_is_survived_and_the_lab_is_whole_afterwards(answering):  # noqa: F811
    found = bench(answering, "failover", "--by", "all", "--times", 2, "--steps", 50, "--hold", 1)["classes"]
    assert len(found) == 10
    for name in ("kill", "freeze", "cut", "unplug", "restart", "reboot"):
        each = found[name]
        assert each["sensed_ms"]["n"] == 3, name  # f1 feeds one node, f2 two
        assert (each["lost"], each["wrong"], each["unsensed"]) == (0, 0, 0), name
        assert each["sensed_ms"]["p50"] < 1500
        assert each["new_mask_ms"] is not None or name in ("restart", "reboot")
    for name in ("slow=5", "lossy=10"):
        assert found[name]["gap_steps"] > 20  # answers meanwhile
        assert found[name]["wrong"] == 0
    for each in found.values():
        assert each["back_ms"]["n"] == 2
    answering.require_answers(answering.bundle)
    status = answering.command("lab", "status", "--name", NAME)
    assert not any(word in status for word in ("off", "frozen", "cut", "loss", "processor"))


def test_a_benchmark_that_is_killed_leaves_the_fleet_running(answering):  # noqa: F811
    words = ("bench", "accuracy", answering.bundle.path, "--lab", NAME, "--by", "cut", "--rows", 5000)
    command_line = [command("fogguard"), *map(str, words), "--json", "bench.json"]
    (answering.folder / "bench.json").unlink(missing_ok=True)
    with subprocess.Popen(command_line, cwd=answering.folder, stderr=subprocess.DEVNULL) as running:
        ends_s = time.monotonic() + 60
        while "cut off" not in answering.command("lab", "status", "--name", NAME):
            assert time.monotonic() < ends_s
        running.kill()
    found = told(answering)
    assert found["finished"] is False
    answering.command("report", "bench.json", "--out", "bench.html")
    assert "Cut short after" in (answering.folder / "bench.md").read_text()
    ends_s = time.monotonic() + 20
    while "cut off" in answering.command("lab", "status", "--name", NAME):
        assert time.monotonic() < ends_s
    answering.require_answers(answering.bundle)


def test_a_smart_plug_cuts_the_power_of_a_device(answering):  # noqa: F811
    with running_broker() as url:
        plug = [sys.executable, ROOT / "tests" / "plug.py", str(url), "cmnd/plug1/POWER", NAME, "f1"]
        with subprocess.Popen(plug, stdout=subprocess.PIPE) as switched:
            try:
                assert switched.stdout.readline() == b"ready\n"
                words = ("--by", "power", "--mask", "111", "--mask", "011", "--rows", 100)
                found = bench(answering, "accuracy", *words, "--plug", f"f1={url}/cmnd/plug1/POWER")
                assert [switched.stdout.readline() for _ in range(2)] == [b"unplug\n", b"plug\n"]
            finally:
                switched.kill()
    assert [(each["mask"], each["labels_equal"]) for each in found["masks"]] == [("111", 100), ("011", 100)]
    answering.require_answers(answering.bundle)
