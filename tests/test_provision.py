"""`fogguard provision` on four virtual devices with real SSH, systemd and mosquitto: from bare to answering, and back.

The tests stand in the order in which a fleet lives; each leaves it running.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from fleets import NAME, NODES, bare_fleet, changes, pids, reasons
from retrained import retrained
from support import ROOT, command

from benchmarks.driver import Driver
from benchmarks.switching import predict
from broker.link import Link
from broker.tls import files_of
from broker.topics import Topics
from broker.url import parse_url
from edge_agent.bundle import MANIFEST
from export.heldout import held_out_for_bundle
from provisioning.inventory import load_inventory
from provisioning.wheels import Target, wheelhouse

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
RATE = 200.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    with bare_fleet(tmp_path_factory.mktemp("fleet"), bundle) as found:
        found.shell("cloud", "DEBIAN_FRONTEND=noninteractive apt-get purge -qq --yes --auto-remove mosquitto")
        yield found


@pytest.fixture(scope="module")
def other(fleet):
    """The same bundle with other weights in f1."""
    return fleet.signed(retrained(fleet.bundle.path, fleet.folder / "other", "f1").path)


def test_bare_devices_are_fit_and_need_everything(fleet):
    doctor = fleet.provision("doctor")
    assert all(device["ok"] for device in doctor["devices"].values())
    plan = fleet.provision("plan", fleet.bundle.path)["plan"]
    names = {name: [step["name"] for step in steps] for name, steps in plan.items()}
    assert names["f1"] == ["environment", "release", "files", "self-test", "switch"]
    assert names["cloud"] == ["packages", "environment", "release", "files", "self-test", "broker", "switch"]
    assert fleet.shell("f1", "ls -d /opt/fogguard /etc/fogguard 2>&1 | grep -c cannot") == "2"


def test_a_bare_fleet_answers_within_a_minute(fleet):
    report = fleet.provision("apply", fleet.bundle.path)
    assert report["seconds"] < 60
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    fleet.require_answers(fleet.bundle)
    assert all(device["ok"] for device in fleet.provision("status", fleet.bundle.path)["devices"].values())


def test_a_second_apply_changes_nothing(fleet):
    before = fleet.shell("cloud", "systemctl show -p InvocationID --value fogguard-agent fogguard-broker")
    report = fleet.provision("apply", fleet.bundle.path)
    assert report["seconds"] < 5
    assert changes(report) == {name: [] for name in NODES}
    assert fleet.shell("cloud", "systemctl show -p InvocationID --value fogguard-agent fogguard-broker") == before


def test_services_have_few_rights_and_keys_are_roots_alone(fleet):
    for unit in ("fogguard-agent", "fogguard-broker"):
        exposure = fleet.shell("cloud", f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(re.search(r"service: ([\d.]+)", exposure)[1]) <= 2.0, exposure
        assert fleet.shell("cloud", f"stat -c %U /proc/$(systemctl show -p MainPID --value {unit})") != "root"
    assert fleet.shell("cloud", "find /etc/fogguard -name '*.key' ! -perm 600") == ""
    ports = fleet.shell("cloud", "ss -ltnH | awk '{print $4}' | sed 's/.*://' | sort -u").split()
    assert set(ports) == {"22", str(load_inventory(fleet.file).brokers[0].port)}  # on IPv4 and IPv6, and no other


def test_other_weights_are_one_release_on_each_device(fleet, other):
    report = fleet.provision("apply", other.path)
    assert report["seconds"] < 20
    assert {tuple(steps) for steps in changes(report).values()} == {("release", "self-test", "prepare", "commit")}
    fleet.require_answers(other)


def test_rollback_is_one_command_and_goes_there_and_back(fleet, other):
    report = fleet.provision("rollback")
    assert report["seconds"] < 10
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    fleet.require_answers(fleet.bundle)
    fleet.provision("rollback")
    assert set(fleet.bundles().values()) == {other.id.hex()}
    fleet.provision("rollback")


@contextmanager
def fed(fleet, *bundles):
    """The fleet under load; it may go over between these bundles, the first of which runs. Yields the driver."""
    inventory = load_inventory(fleet.file)
    held_out = held_out_for_bundle(bundles[0])
    brokers, tls = [*map(parse_url, inventory.broker_urls)], files_of(fleet.folder / "pki", "feeder")
    with Driver(brokers, NAME, bundles[0], held_out.raw, rate=RATE, window=64, tls=tls) as driver:
        for each in bundles[1:]:
            driver.feed.expect(each)
        driver.wait_for(bundles[0].manifest.nodes)
        driver.begin("switch", frozenset(bundles[0].manifest.order))
        driver.settle()
        yield driver


def during(driver, work):
    """What `work` returns, the fleet being fed until it does and two seconds more."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        driver.measure(1 << 62, until=done.done)
        ends_s = time.monotonic() + 2
        driver.measure(1 << 62, until=lambda: time.monotonic() > ends_s)
    return done.result()


def require_whole(driver, *bundles):
    """No step was lost, none answered by another bundle than it was fed for, and each label is what that predicts."""
    driver.drain()
    records = driver.phases[-1].steady
    assert {record.bundle for record in records} == {each.id.hex() for each in bundles}
    assert [record for record in records if not record.is_answered] == []
    assert [record for record in records if record.answered_by != record.bundle] == []
    predicted = {each.id.hex(): predict(each, held_out_for_bundle(each).raw) for each in bundles}
    whole = [record for record in records if record.complete and record.contributors.issuperset(NODES)]
    assert len(whole) > 0.9 * len(records)
    assert [record for record in whole if record.label != predicted[record.bundle][record.row]] == []


def test_a_switch_under_load_loses_no_step_and_mixes_none_there_and_back(fleet, other):
    fleet.provision("apply", fleet.bundle.path)
    before = pids(fleet)
    with fed(fleet, fleet.bundle, other) as driver:
        report = during(driver, lambda: fleet.provision("apply", other.path))
        assert all("commit" in steps for steps in changes(report).values())
        assert all(driver.told.held[node].bundle == other.id.hex() for node in NODES)
        during(driver, lambda: fleet.provision("rollback"))
        assert all(driver.told.held[node].bundle == fleet.bundle.id.hex() for node in NODES)
        ends_s = time.monotonic() + 20
        is_over = lambda: time.monotonic() > ends_s or not any(held.beside for held in driver.told.held.values())  # noqa: E731
        driver.measure(1 << 62, until=is_over)
        assert all(driver.told.held[node].beside == () for node in NODES)
        require_whole(driver, fleet.bundle, other)
    assert pids(fleet) == before
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}


def test_an_agent_that_cannot_hold_the_new_bundle_lets_all_abandon_it_and_no_step_is_lost(fleet, tmp_path):
    fresh = fleet.signed(retrained(fleet.bundle.path, tmp_path / "fresh", "f1", 1.2).path)
    fleet.lab("cut", "e1")
    try:
        fleet.provision("apply", fresh.path, code=1)  # only to have it staged
    finally:
        fleet.lab("heal", "e1")
    staged = "/opt/fogguard/releases/$(ls -t /opt/fogguard/releases | head -n 1)"
    # The self-test may read it, the agent not.
    fleet.shell("f1", f"chgrp fog {staged}/bundle; chmod 750 {staged}/bundle")
    with fed(fleet, fleet.bundle, fresh) as driver:
        report = during(driver, lambda: fleet.provision("apply", fresh.path, code=1))
        assert "prepare failed: its agent does not take it" in reasons(report)["f1"]
        assert all("kept on its old bundle: f1 failed" in reasons(report)[node] for node in NODES if node != "f1")
        assert {(held.bundle, held.beside) for held in driver.told.held.values()} == {(fleet.bundle.id.hex(), ())}
        require_whole(driver, fleet.bundle)
    fleet.shell("f1", f"chmod 755 {staged}/bundle")
    fleet.provision("apply", fresh.path)
    fleet.require_answers(fresh)
    fleet.provision("apply", fleet.bundle.path)


def test_an_agent_that_refuses_what_all_are_about_to_run_lets_all_go_back_and_no_step_is_lost(fleet, tmp_path):
    fresh = fleet.signed(retrained(fleet.bundle.path, tmp_path / "fresh", "f1", 1.3).path)
    result = tmp_path / "apply.json"
    words = [command("fogguard"), "provision", "apply", fleet.file, fresh.path, "--json", result]

    def apply():
        with subprocess.Popen(
            words, cwd=fleet.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            next(line for line in process.stderr if line.startswith("cloud: commit "))
            process.send_signal(signal.SIGSTOP)
            fleet.shell("f1", "chmod 700 /opt/fogguard/next/bundle")  # from now on the agent may not read it
            process.send_signal(signal.SIGCONT)
            process.communicate(timeout=60)
        return process.returncode

    before = pids(fleet)
    with fed(fleet, fleet.bundle, fresh) as driver:
        assert during(driver, apply) == 1
        report = json.loads(result.read_text())
        assert re.search("commit failed: its agent does not run it: .*Permission denied", reasons(report)["f1"])
        assert all(reasons(report)[node] == "f1 failed: it is back on its old bundle" for node in NODES if node != "f1")
        assert {held.bundle for held in driver.told.held.values()} == {fleet.bundle.id.hex()}
        require_whole(driver, fleet.bundle, fresh)
    assert pids(fleet) == before
    fleet.shell("f1", "chmod 755 /opt/fogguard/releases/*/bundle")
    fleet.provision("apply", fresh.path)
    assert pids(fleet) == before
    fleet.provision("apply", fleet.bundle.path)


def test_an_agent_that_hangs_is_ended_by_its_watchdog_which_tells_the_fleet_why(fleet):
    told = []
    fleet.provision("apply", fleet.bundle.path)
    url = parse_url(*load_inventory(fleet.file).broker_urls)
    tls = files_of(fleet.folder / "pki", "watcher")
    hear = lambda _topic, payload: told.append(json.loads(payload))  # noqa: E731
    with Link(url, "watcher", subscriptions=[(Topics(NAME).status("f1"), 1)], on_message=hear, tls=tls) as link:
        link.connect()
        assert link.poll_until(lambda: told, 5)
        fleet.shell("f1", "systemctl kill -s STOP fogguard-agent")
        assert link.poll_until(lambda: told[-1].get("reason") == "hung", 30), told
        assert link.poll_until(lambda: told[-1]["online"], 30), told
    assert told[-1]["epoch"] > told[0]["epoch"]


def test_a_sensor_beside_a_node_feeds_the_fleet_also_when_that_node_is_down(fleet):
    plain, answers = fleet.file.read_text(), []
    fleet.shell("e1", "mkfifo -m 644 /srv/iot")
    fleet.file.write_text(plain.replace('kind = "replay"', 'kind = "csv"\noptions = { file = "/srv/iot" }'))
    report = fleet.provision("apply", fleet.bundle.path)
    steps = [step for step in changes(report)["e1"] if step != "tidy"]  # an earlier test may have left a release
    assert steps == ["release", "files", "self-test", "switch", "sensors"]
    assert changes(fleet.provision("apply", fleet.bundle.path)) == {name: [] for name in NODES}
    exposure = fleet.shell("e1", "systemd-analyze security --no-pager fogguard-sensor-iot | tail -n 1")
    assert float(re.search(r"service: ([\d.]+)", exposure)[1]) <= 2.0, exposure
    line = ",".join(["0.5"] * 36)
    url = parse_url(*load_inventory(fleet.file).broker_urls)
    tls = files_of(fleet.folder / "pki", "watcher")
    hear = lambda _topic, payload: answers.append(json.loads(payload))  # noqa: E731
    with Link(url, "watcher", subscriptions=[(Topics(NAME).result, 0)], on_message=hear, tls=tls) as link:
        link.connect()
        for dead in ("", "e1"):
            answers.clear()
            script = f"for step in $(seq 30); do echo {line}; sleep 0.05; done > /srv/iot"
            stop = f"systemctl stop fogguard-agent; sleep 1; {script}" if dead else script
            feeding = threading.Thread(target=fleet.shell, args=("e1", stop))
            feeding.start()  # the link must be polled meanwhile
            assert link.poll_until(lambda: len(answers) == 30, 30), len(answers)
            feeding.join()
            assert {tuple(answer["contributors"]) for answer in answers} == {
                tuple(name for name in fleet.bundle.manifest.names if name != dead)
            }
    fleet.file.write_text(plain)
    report = fleet.provision("apply", fleet.bundle.path)
    assert changes(report)["e1"] == ["self-test", "switch", "retire", "tidy"]
    assert fleet.shell("e1", "ls -d /etc/systemd/system/*sensor* /srv/iot") == "/srv/iot"
    fleet.require_answers(fleet.bundle)


TWO_BROKERS = """[[broker]]
device = "f1"
port = 1883

[[broker]]
device = "cloud"
port = 1883
"""


def test_a_fleet_goes_on_at_its_second_broker_when_the_device_of_the_first_is_off_and_returns_when_told(fleet):
    plain, bundle = fleet.file.read_text(), fleet.bundle
    fleet.file.write_text(re.sub(r"^\[broker\]\n(.+\n)+", TWO_BROKERS, plain, flags=re.MULTILINE))
    report = fleet.provision("apply", bundle.path)
    assert [name for name, steps in changes(report).items() if "broker" in steps] == ["f1"]
    first, second = map(parse_url, load_inventory(fleet.file).broker_urls)
    with fed(fleet, bundle) as driver:
        assert driver.url == first
        during(driver, lambda: fleet.lab("unplug", "f1"))
        driver.begin("without f1", frozenset(bundle.manifest.order) - {"f1"})
        driver.settle(by_all=True)
        assert driver.url == second
        driver.measure(200)
        driver.drain()
        assert all(record.is_answered and record.complete for record in driver.phases[-1].steady)
    told = reasons(fleet.provision("status", bundle.path, code=1))
    assert told["f1"].startswith("nothing answers on SSH")
    assert told["e1"] == f"no broker answers it at {first.host} port 1883: is the device on that carries it?"
    fleet.lab("plug", "f1")
    ends_s = time.monotonic() + 20
    while fleet.shell("f1", "systemctl is-active fogguard-agent") != "active":
        assert time.monotonic() < ends_s
        time.sleep(0.3)
    told = reasons(fleet.provision("status", bundle.path, code=1))
    assert f"not all are there (e1, f2, cloud at {second}; f1 at {first}): `fogguard ask all return`" in told["e1"]
    assert "3 came back" in fleet.command("ask", "all", "return", "--inventory", fleet.file)
    words = ("--lab", NAME, "--by", "broker-kill", "--times", "2", "--steps", "20", "--json", "failover.json")
    fleet.command("bench", "failover", bundle.path, *words)
    found = json.loads((fleet.folder / "failover.json").read_text())["classes"]["broker-kill"]
    assert (found["n"], found["wrong"]) == (2, 0)
    fleet.provision("status")  # nobody was left at the second
    fleet.file.write_text(plain)
    report = fleet.provision("apply", bundle.path)
    assert changes(report)["f1"][-2:] == ["retire", "tidy"]
    fleet.require_answers(bundle)


def test_what_was_changed_on_a_device_is_seen_and_made_right(fleet):
    fleet.shell("f2", "echo '# mine' >> /opt/fogguard/current/lib/edge_agent/node.py")
    fleet.shell("f2", "systemctl stop fogguard-agent")
    status = fleet.provision("status", fleet.bundle.path, code=1)
    assert "its agent is inactive" in reasons(status)["f2"]
    assert any("lib/edge_agent/node.py" in line for line in status["drift"]["f2"])
    report = fleet.provision("apply", fleet.bundle.path)
    assert changes(report) == {**{name: [] for name in NODES}, "f2": ["release", "self-test", "switch"]}
    fleet.provision("status", fleet.bundle.path)


def test_bundles_that_nobody_signed_or_that_were_changed_do_not_come_near_a_device(fleet, tmp_path):
    unsigned = retrained(fleet.bundle.path, tmp_path / "unsigned", "f1", 1.1).path
    assert "is not signed" in fleet.provision("apply", unsigned, code=1)
    tampered = shutil.copytree(fleet.bundle.path, tmp_path / "tampered")
    (tampered / "f1.onnx").write_bytes((unsigned / "f1.onnx").read_bytes())
    report = fleet.provision("apply", tampered, code=1)
    assert "f1.onnx was changed" in reasons(report)["f1"]
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}


def test_a_device_that_is_away_keeps_the_others_on_their_bundle_until_it_is_left_out(fleet, other):
    fleet.lab("cut", "e1")
    try:
        report = fleet.provision("apply", other.path, code=1)
        assert "nothing answers on SSH" in reasons(report)["e1"]
        assert all("staged, and kept" in reasons(report)[name] for name in NODES if name != "e1")
        assert fleet.shell("f1", "sha256sum < /opt/fogguard/current/bundle/manifest.json")[:16] == fleet.bundle.id.hex()
        fleet.provision("apply", other.path, "--without", "e1")
    finally:
        fleet.lab("heal", "e1")
    assert "not all do" in str(reasons(fleet.provision("status", code=1)))
    assert changes(fleet.provision("apply", other.path))["f1"] == []
    fleet.require_answers(other)
    fleet.provision("apply", fleet.bundle.path)


def test_a_changed_host_key_is_refused(fleet):
    known = fleet.folder / "known_hosts"
    before = known.read_text()
    lines = before.splitlines()
    keys = [line.split()[-1] for line in lines]
    known.write_text(
        "\n".join(f"{line.rsplit(' ', 1)[0]} {key}" for line, key in zip(lines, keys[1:] + keys[:1], strict=True))
    )
    try:
        report = fleet.provision("apply", fleet.bundle.path, code=1)
        assert all("another host key than the one enrolled" in reason for reason in reasons(report).values())
        assert "another key than the one enrolled" in fleet.command("provision", "enrol", fleet.file, code=1)
    finally:
        known.write_text(before)
    assert "known, ssh-ed25519 SHA256:" in fleet.command("provision", "enrol", fleet.file)


def test_a_failing_self_test_leaves_all_on_the_old_bundle(fleet, tmp_path):
    broken = retrained(fleet.bundle.path, tmp_path / "broken", "f1", 1.5)
    golden = broken.manifest.nodes["f1"].golden
    (broken.path / golden).write_bytes((fleet.bundle.path / golden).read_bytes())
    files = {**broken.manifest.files, golden: fleet.bundle.manifest.files[golden]}
    manifest = msgspec.structs.replace(broken.manifest, files=files)
    (broken.path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    report = fleet.provision("apply", fleet.signed(broken.path).path, code=1)
    assert "f1 computes something else than its bundle" in reasons(report)["f1"]
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    fleet.require_answers(fleet.bundle)


def test_an_agent_that_does_not_come_up_sends_all_back(fleet, other):
    drop_in = "/run/systemd/system/fogguard-agent.service.d"
    broken = f"mkdir -p {drop_in}; printf '[Service]\\nExecStartPre=/bin/false\\n' > {drop_in}/broken.conf"
    fleet.shell("f1", f"systemctl stop fogguard-agent; {broken}; systemctl daemon-reload")  # so all are started anew
    try:
        report = fleet.provision("apply", other.path, code=1)
    finally:
        fleet.shell("f1", f"rm -r {drop_in}; systemctl daemon-reload")
    assert "its agent does not come up" in reasons(report)["f1"]
    assert "f1 failed: it is back on its old bundle" in reasons(report)["cloud"]
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    fleet.provision("apply", fleet.bundle.path)
    fleet.require_answers(fleet.bundle)


def test_an_onnxruntime_for_another_processor_stops_the_switch_in_words(fleet, tmp_path):
    code = b"import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    target = Target("3.11", os.uname().machine)
    real = wheelhouse(target, lambda what: None)
    fake = tmp_path / "cache" / "wheels" / target.environment / "site.tar.gz"
    fake.parent.mkdir(parents=True)
    with tarfile.open(real) as source, tarfile.open(fake, "w:gz", compresslevel=1) as out:
        for member in source:
            data = code if member.name == "onnxruntime/__init__.py" else source.extractfile(member).read()
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    fleet.shell("f2", f"mv /opt/fogguard/venvs/{target.environment} /opt/fogguard/venvs/kept")
    try:
        report = fleet.provision("apply", fleet.bundle.path, code=1, FOGGUARD_CACHE=str(tmp_path / "cache"))
    finally:
        fleet.shell("f2", f"mv /opt/fogguard/venvs/kept /opt/fogguard/venvs/{target.environment}")
    assert "an illegal instruction (SIGILL) when it is imported there" in reasons(report)["f2"]
    assert fleet.shell("f2", "ls -A /opt/fogguard/venvs") == target.environment
    fleet.provision("apply", fleet.bundle.path)


@pytest.mark.parametrize(
    ("device", "harm", "repair", "sentence"),
    [
        (
            "f2",
            "mv /usr/bin/python3.11 /usr/bin/python-away",
            "mv /usr/bin/python-away /usr/bin/python3.11",
            "no Python 3",
        ),
        (
            "e1",
            "fallocate -l $(($(df --output=avail -B1 /var/tmp | tail -n 1) - 20000000)) /var/tmp/full",
            "rm /var/tmp/full",
            "MB of disk free: make room",
        ),
    ],
)
def test_what_is_wrong_with_one_device_is_a_sentence_and_the_others_go_on(fleet, other, device, harm, repair, sentence):
    fleet.shell(device, harm)
    try:
        report = fleet.provision("apply", other.path, code=1)
    finally:
        fleet.shell(device, repair)
    assert sentence in reasons(report)[device]
    assert all("staged, and kept on its old bundle" in reasons(report)[name] for name in NODES if name != device)
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}


def test_sudo_with_a_password(fleet):
    fleet.shell(
        "f1",
        "useradd -m -s /bin/sh -G sudo ann; echo ann:secret | chpasswd; cp -r /home/fog/.ssh /home/ann/; "
        "chown -R ann /home/ann/.ssh",
    )
    before = fleet.file.read_text()
    section = before[before.index("[devices.f1]") :].split("\n\n")[0]
    fleet.file.write_text(before.replace(section, section.replace('user = "fog"', 'user = "ann"')))
    only = [word for name in NODES if name != "f1" for word in ("--without", name)]
    try:
        assert "sudo asks for a password" in str(fleet.provision("apply", fleet.bundle.path, *only, code=1))
        wrong = fleet.provision("apply", fleet.bundle.path, *only, code=1, FOGGUARD_SUDO_PASSWORD="wrong")
        assert "the sudo password is wrong" in reasons(wrong)["f1"]
        right = fleet.provision("apply", fleet.bundle.path, *only, FOGGUARD_SUDO_PASSWORD="secret")
        assert changes(right) == {"f1": []}
        assert "sudo does not let ann in" in str(fleet.provision("doctor", *only, code=1))
    finally:
        fleet.file.write_text(before)


def cut_power_during(fleet, bundle, device, step, delay_s):
    """Run apply, and unplug `device` so long after it began `step`."""
    words = [command("fogguard"), "provision", "apply", fleet.file, bundle.path]
    unplugged = None
    with subprocess.Popen(
        words, cwd=fleet.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if unplugged is None and line.startswith(f"{device}: {step} "):
                time.sleep(delay_s)
                unplugged = threading.Thread(target=fleet.lab, args=("unplug", device))
                unplugged.start()
    assert unplugged, f"{step} was not reached"
    unplugged.join()


@pytest.mark.parametrize(
    ("step", "delay_s"),
    [
        ("environment", 0.5),
        ("environment", 2.0),
        ("release", 0.1),
        ("files", 0.1),
        ("self-test", 0.2),
        ("prepare", 0.0),
        ("prepare", 0.3),
        ("commit", 0.0),
        ("commit", 0.2),
        ("switch", 0.0),
        ("switch", 0.15),
        ("switch", 0.5),
    ],
)
def test_after_a_power_cut_the_device_runs_the_old_or_the_new_and_apply_finishes(fleet, other, step, delay_s):
    fleet.provision("apply", fleet.bundle.path)
    target = Target("3.11", os.uname().machine).environment
    if step == "environment":  # as after a change of the locked wheels: what runs keeps its own
        fleet.shell(
            "f1",
            f"cd /opt/fogguard; mv venvs/{target} venvs/before; ln -sfn ../../venvs/before current/venv; sync -f .",
        )
    if step == "release":
        fleet.shell("f1", "cd /opt/fogguard; rm -rf $(ls -d releases/* | grep -v $(readlink current)); sync -f .")
    if step == "files":  # changed, and as good as before: the cut may come before it is put right
        fleet.shell("f1", "echo >> /etc/fogguard/signing.pub; sync -f /etc")
    if step == "switch":  # one whose agent is started anew lets all be started anew
        fleet.shell("f1", "systemctl stop fogguard-agent")
    cut_power_during(fleet, other, "f1", step, delay_s)
    fleet.lab("plug", "f1")
    runs = fleet.shell("f1", "sha256sum < /opt/fogguard/current/bundle/manifest.json")[:16]
    assert runs in (fleet.bundle.id.hex(), other.id.hex())
    ends = time.monotonic() + 20
    while (state := fleet.shell("f1", "systemctl is-active fogguard-agent")) != "active":
        assert time.monotonic() < ends, state + fleet.shell("f1", "journalctl -u fogguard-agent -n 20 --no-pager")
        time.sleep(0.3)
    fleet.provision("apply", other.path)
    assert set(fleet.bundles().values()) == {other.id.hex()}
    fleet.provision("status", other.path)
    fleet.require_answers(other)


def test_the_commands_that_the_pages_show_bring_up_a_bare_fleet(fleet, tmp_path):
    for node in NODES:
        fleet.shell(
            node,
            "systemctl disable --now fogguard-agent fogguard-broker; rm -rf /opt/fogguard /etc/fogguard "
            "/var/lib/fogguard /var/lib/private/fogguard /etc/systemd/system/fogguard-*.service",
        )
    inventory = load_inventory(fleet.file)
    blocks = [
        block
        for page in ("README.md", "docs/devices.md")
        for block in re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    ]
    shutil.copytree(fleet.bundle.path, tmp_path / "demo" / "bundle")
    (tmp_path / "demo" / "bundle" / "manifest.sig").unlink()
    (tmp_path / ".ssh").mkdir(mode=0o700)
    shutil.copy(inventory.devices["e1"].key, tmp_path / ".ssh" / "id_ed25519")
    for number, blocks_of_page in enumerate((blocks[:1], blocks[1:])):
        script = "\n".join(blocks_of_page).replace("enrol fleet.toml", "enrol fleet.toml --yes").replace("pi@", "fog@")
        for position, node in enumerate(("e1", "f2", "f1", "cloud"), 11):
            script = script.replace(f"192.168.1.{position}", inventory.devices[node].address)
        path = f"{Path(command('fogguard')).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "HOME": str(tmp_path), "PATH": path}
        environment.setdefault("FOGGUARD_CACHE", str(Path.home() / ".cache" / "fogguard"))
        done = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, f"page {number}: {done.stdout}{done.stderr}"
        assert "500 of 500" in done.stdout
        (tmp_path / "fleet.toml").unlink()
