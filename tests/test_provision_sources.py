"""A device that carries a sensor alone: its source is a package with compiled code, and opens a device of a group."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from fleets import NAME, NODES, bare_fleet, changes, other_bundle, pids, reasons

from broker.frame import decode
from broker.link import Link
from broker.tls import files_of
from broker.topics import Topics
from broker.url import parse_url
from provisioning.inventory import load_inventory

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
TOPICS = Topics(NAME)
SHED = """
import ujson


def gadget(leaf, *, device):
    with open(device, "rb", buffering=0) as file:
        while True:
            yield ujson.loads(ujson.dumps(list(file.read(leaf.shape[0]))))
"""
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "shed"
version = "1.0"
[project.entry-points."fogguard.sources"]
gadget = "shed:gadget"
[tool.setuptools]
py-modules = ["shed"]
"""


def wheels_of_the_source(folder):
    """A wheel of one's own, and the one with compiled code that it needs."""
    (folder / "shed").mkdir()
    (folder / "shed" / "shed.py").write_text(SHED)
    (folder / "shed" / "pyproject.toml").write_text(PROJECT)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, folder / "shed"], check=True)
    target = ["--python-version", "3.11", "--only-binary=:all:", "--platform", f"manylinux_2_28_{os.uname().machine}"]
    subprocess.run([*pip, "download", "--no-deps", "--dest", folder, *target, "ujson"], check=True)
    return sorted(str(file) for file in folder.glob("*.whl"))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    folder = tmp_path_factory.mktemp("fleet")
    with bare_fleet(folder, bundle, what="5") as found:
        text = found.file.read_text()
        for position, node in enumerate(("cloud", *(node for node in NODES if node != "cloud")), 1):
            text = text.replace(f"[devices.d{position}]", f'[devices.{node}]\nnode = "{node}"')
        text = text.replace('device = "d1"', 'device = "cloud"').replace("[devices.d5]", "[devices.shed]")
        wheels = wheels_of_the_source(folder)
        source = f'\n[sources.iot]\ndevice = "shed"\nkind = "gadget"\nrate = 50\nwheels = {json.dumps(wheels)}\n'
        found.file.write_text(text + source + 'options = { device = "/dev/full" }\n')
        yield found


class Listener:
    """Which steps the sensor raises, and what the sink answers."""

    def __init__(self, fleet):
        self.steps, self.answers = [], {}
        topics = [(TOPICS.step, 0), (TOPICS.result, 0)]
        url, tls = parse_url(*load_inventory(fleet.file).broker_urls), files_of(fleet.folder / "pki", "watcher")
        self.link = Link(url, "watcher", subscriptions=topics, on_message=self._hear, tls=tls)

    def _hear(self, topic, payload):
        if topic == TOPICS.step:
            self.steps.append(decode(payload).step)
        else:
            answer = json.loads(payload)
            self.answers[answer["step"]] = answer

    def during(self, *works):
        """What each of `works` returns, done one after the other while this listens."""
        with ThreadPoolExecutor(1) as pool:
            done = [pool.submit(work) for work in works]
            self.until(lambda: all(each.done() for each in done), 120)
        return [each.result() for each in done]

    def until(self, condition, seconds=30):
        assert self.link.poll_until(condition, seconds), (len(self.steps), list(self.answers.values())[-1:])


@contextmanager
def listening(fleet):
    found = Listener(fleet)
    with found.link as link:
        link.connect()
        yield found


def test_a_mosquitto_of_somebody_s_own_is_told_before_it_is_in_the_way(fleet):
    unmask = "rm /etc/systemd/system/mosquitto.service && systemctl daemon-reload && systemctl start mosquitto"
    fleet.shell("cloud", unmask)
    doctor = fleet.provision("doctor", code=1)
    assert [name for name, device in doctor["devices"].items() if not device["ok"]] == ["cloud"]
    problem, remedy = reasons(doctor)["cloud"].split(": ")
    assert problem == "mosquitto listens on the port of the fleet's broker"
    fleet.shell("cloud", remedy)
    fleet.provision("doctor")


def test_a_source_opens_the_devices_of_its_groups_and_no_others(fleet):
    fleet.shell("shed", "groupadd gadget; chgrp gadget /dev/full; chmod 640 /dev/full")
    fleet.provision("apply", fleet.bundle.path)
    assert changes(fleet.provision("apply", fleet.bundle.path)) == {name: [] for name in (*NODES, "shed")}
    fleet.provision("status", fleet.bundle.path)
    before = pids(fleet)
    exposure = fleet.shell("shed", "systemd-analyze security --no-pager fogguard-agent | tail -n 1")
    assert float(re.search(r"service: ([\d.]+)", exposure)[1]) <= 2.0, exposure
    with listening(fleet) as listener:
        listener.until(lambda: len(listener.answers) > 20)
        assert all(each["guess"] for each in listener.answers.values())
    assert "Permission denied: '/dev/full'" in fleet.shell("shed", "journalctl -u fogguard-agent -n 20 -o cat")
    fleet.file.write_text(fleet.file.read_text() + 'groups = ["gadget"]\n')
    report = fleet.provision("apply", fleet.bundle.path)
    assert changes(report) == {**{name: [] for name in NODES}, "shed": ["files", "follow"]}
    with listening(fleet) as listener:
        listener.until(lambda: len(listener.answers) > 20)
        contributors = {tuple(each["contributors"]) for each in listener.answers.values()}
        assert contributors == {tuple(fleet.bundle.manifest.names)}
    assert pids(fleet) == before


def test_the_nodes_go_over_to_another_bundle_and_back_and_the_sensor_follows_without_a_lost_step(fleet):
    other = other_bundle(fleet)
    before = pids(fleet)
    with listening(fleet) as listener:
        listener.until(lambda: len(listener.answers) > 20)
        reports = listener.during(lambda: fleet.provision("apply", other.path), lambda: fleet.provision("rollback"))
        steps = listener.steps[2:]
        listener.until(lambda: len(listener.steps) > len(steps) + 50)
        lost = [step for step in steps if step not in listener.answers]
        bundles = {listener.answers[step]["bundle"] for step in steps if step in listener.answers}
    assert lost == []
    assert bundles == {fleet.bundle.id.hex(), other.id.hex()}
    there, back = map(changes, reports)
    assert there["shed"][-1] == "follow"
    assert there["f1"][-2:] == back["f1"] == ["prepare", "commit"]
    assert back["shed"] == ["rollback"]
    assert pids(fleet) == before
    alone = fleet.provision("rollback", *(f"--without={name}" for name in NODES))
    assert changes(alone) == {"shed": ["rollback"]}
