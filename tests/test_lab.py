"""Virtual devices as others see them: booted, reached by SSH, unplugged, frozen, slowed, rebooted and gone."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import ROOT, command

from broker.errors import FogError
from provisioning.lab import network, programs
from provisioning.lab.base import lab_folder

pytestmark = pytest.mark.lab


def reason_to_skip():
    try:
        programs.require_root()
        programs.require(programs.PACKAGE)
    except FogError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", autouse=True)
def needs():
    if reason := reason_to_skip():
        pytest.skip(reason)


class Run:
    """`fogguard lab` for one lab, in a folder of its own."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.up = ["up", "--name", name, "--fleet", str(folder / "fleet.toml")]

    def __call__(self, verb, *words, fails=0, timeout=250):
        mine = [verb, "--name", self.name] if verb != "up" else self.up
        done = subprocess.run(
            [command("fogguard"), "lab", *mine, *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == fails, done.stdout + done.stderr
        return done.stdout if verb in ("run", "ssh") else done.stdout + done.stderr

    def state(self, device):
        file = self.folder / "status.json"
        self("status", "--json", file)
        return json.loads(file.read_text())["devices"][device]

    def inside(self, function, *arguments):
        """Call a function in the lab's network, as a controller there would."""
        with ThreadPoolExecutor(1, initializer=network.enter, initargs=(f"fogguard-{self.name}",)) as thread:
            return thread.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    run = Run(f"test-{os.getpid()}", tmp_path_factory.mktemp("lab"))
    run("up", 2)
    yield run
    run("down")


def everything(name):
    """All that a lab of that name could leave behind on this machine, by kind."""

    def lines(*words):
        printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return {line for line in printed.splitlines() if name in line}

    def paths(*folders):
        return {str(path) for folder in folders for path in Path(folder).rglob("*") if name in str(path)}

    return {
        "mounts": lines("cat", "/proc/self/mounts"),
        "links": set(subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.split()),
        "loops": lines("losetup", "--noheadings", "--output", "BACK-FILE"),
        "processes": lines("ps", "-eo", "args"),
        "files": paths(network.NAMESPACES, lab_folder() / "labs", "/proc/sys/fs/binfmt_misc", "/run/systemd"),
        "cgroups": paths("/sys/fs/cgroup"),
    }


def test_a_device_has_a_name_an_address_an_init_and_a_user_who_may_become_root(lab):
    told = lab("ssh", "d2", "hostname; id -un; sudo id -un; cat /proc/1/comm; ip -br -4 addr show eth0; pwd")
    assert told.split()[:4] == ["d2", "fog", "root", "systemd"]
    assert "10.77.0.11/24" in told
    assert lab("ssh", "d2", "systemctl is-system-running --wait").strip() == "running"
    assert lab("ssh", "d2", "python3 -m venv --without-pip v && v/bin/python -c 'print(1 + 1)'").strip() == "2"


def test_devices_reach_one_another_by_name_and_nobody_else(lab):
    assert "1 received" in lab("ssh", "d1", "ping -c 1 -W 2 d2")
    assert lab("ssh", "d1", "ip route").split()[0] == "10.77.0.0/24"
    assert "default" not in lab("ssh", "d1", "ip route")


def test_a_device_with_another_host_key_is_refused(lab):
    known = lab.folder / "known_hosts"
    right = known.read_text()
    first, second = right.splitlines()
    known.write_text(f"{first.split()[0]} {second.split(maxsplit=1)[1]}\n")
    try:
        assert lab("ssh", "d1", "id", fails=255) == ""
    finally:
        known.write_text(right)
    assert "fog" in lab("ssh", "d1", "id")


def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was(lab):
    lab("ssh", "d1", "echo kept > kept; sync kept; sync -f kept; echo lost > lost")
    assert "power cut" in lab("unplug", "d1")
    assert (lab.state("d1")["state"], lab.state("d1")["processes"]) == ("off", 0)
    lab("plug", "d1")
    assert lab("ssh", "d1", "cat kept; ls").split() == ["kept", "kept"]


def test_a_killed_device_keeps_what_was_not_synced(lab):
    lab("ssh", "d1", "echo there > unsynced")
    lab("kill", "d1")
    lab("plug", "d1")
    assert lab("ssh", "d1", "cat unsynced").strip() == "there"


def connected(address):
    connection = socket.create_connection((address, 22), 5)
    try:
        assert connection.recv(100).startswith(b"SSH-")
    except BaseException:
        connection.close()
        raise
    return connection


def test_a_power_cut_says_no_farewell_and_a_kill_does(lab):
    with lab.inside(connected, "10.77.0.10") as cut:
        lab("unplug", "d1")
        cut.settimeout(1)
        with pytest.raises(TimeoutError):
            cut.recv(1)
        lab("plug", "d1")
        with pytest.raises(TimeoutError):  # nor does the device that is back say anything of its former life
            cut.recv(1)
    with lab.inside(connected, "10.77.0.10") as killed:
        lab("kill", "d1")
        killed.settimeout(5)
        assert killed.recv(1) == b""
    lab("plug", "d1")


def test_a_frozen_device_keeps_its_connections_and_goes_on_when_thawed(lab):
    with lab.inside(connected, "10.77.0.10") as connection:
        lab("freeze", "d1")
        assert (lab.state("d1")["state"], lab.state("d1")["answers"]) == ("frozen", False)
        connection.sendall(b"SSH-2.0-test\r\n")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        lab("thaw", "d1")
        connection.settimeout(5)
        assert connection.recv(1)
    assert lab.state("d1")["state"] == "on"


def test_a_cut_cable_is_silent_until_it_is_healed(lab):
    with lab.inside(connected, "10.77.0.10") as connection:
        lab("cut", "d1")
        assert lab.state("d1")["state"] == "cut off"
        assert "0 received" in lab("run", "ping", "-c", "1", "-W", "1", "10.77.0.10", fails=1)
        lab("heal", "d1")
        connection.sendall(b"SSH-2.0-test\r\n")
        connection.settimeout(5)
        assert connection.recv(1)


SPIN = """python3 -c '
import time
start = time.monotonic(), time.process_time()
while time.monotonic() - start[0] < 2: pass
print((time.process_time() - start[1]) / (time.monotonic() - start[0]))'"""


def test_a_slow_device_has_its_share_of_the_processor(lab):
    lab("slow", "d1", "--cpu", 10)
    assert lab.state("d1")["state"] == "processor 10 %"
    assert 0.02 < float(lab("ssh", "d1", SPIN)) < 0.2
    lab("slow", "d1", "--cpu", 2)
    assert lab.state("d1")["state"] == "processor 2 %"
    lab("heal", "d1")
    assert float(lab("ssh", "d1", SPIN)) > 0.2
    assert lab.state("d1")["state"] == "on"


def seconds_for(lab, kilobytes):
    start = time.monotonic()
    assert len(lab("ssh", "d1", f"head -c {kilobytes * 1000} /dev/zero | tr '\\0' x")) == kilobytes * 1000
    return time.monotonic() - start


def test_a_slow_cable_takes_its_time(lab):
    lab("slow", "d1", "--rate", 400)
    assert "400Kbit" in lab.state("d1")["state"]
    assert seconds_for(lab, 150) > 2.5  # 3 s and the login's
    lab("heal", "d1")
    assert seconds_for(lab, 150) < 2.5


def received(lab, sent=300):
    first = "ping -q -c 1 -w 20 d1 > /dev/null"  # until a packet gets through, there may be no address to send to
    told = lab("ssh", "d2", f"{first} && ping -q -i 0.005 -c {sent} -W 1 d1 || true")
    return int(re.search(r"(\d+) received", told)[1]) / sent


def test_a_lossy_cable_loses_packets_both_ways(lab):
    lab("lossy", "d1", "--loss", 30)
    assert "loss 30%" in lab.state("d1")["state"]
    assert 0.35 < received(lab) < 0.63  # 0.49 expected, 0.03 is a standard deviation
    lab("lossy", "d1", "--loss", 2)
    assert received(lab) > 0.85
    lab("heal", "d1")
    assert received(lab) == 1


def test_a_reboot_is_in_good_order(lab):
    lab("ssh", "d1", "echo there > rebooted")
    before = lab("ssh", "d1", "cat /proc/sys/kernel/random/boot_id")
    lab("reboot", "d1")
    assert lab("ssh", "d1", "cat /proc/sys/kernel/random/boot_id") != before
    lab("unplug", "d1")  # what was on its disk stays there, and its plug can still be pulled
    lab("plug", "d1")
    assert lab("ssh", "d1", "cat rebooted").strip() == "there"


def test_what_cannot_be_done_is_one_sentence(lab):
    assert "has no device d9: it has d1, d2" in lab("unplug", "d9", fails=2)
    assert "d2 is on already" in lab("plug", "d2", fails=2)
    lab("kill", "d2")
    for verb in ("unplug", "kill", "freeze", "thaw", "reboot", "cut", "slow", "lossy", "heal"):
        assert f"fogguard: d2 is off: `fogguard lab plug --name {lab.name} d2` boots it\n" in lab(verb, "d2", fails=2)
    lab("plug", "d2")


def test_a_second_up_says_what_is_there(lab):
    told = lab("up", 2)
    assert f"lab {lab.name} is up already" in told
    assert "10.77.0.11" in told
    assert f"lab {lab.name} is up already, with d1, d2: take it down first" in lab("up", 3, fails=2)


def test_a_lab_that_is_not_there_is_one_sentence(tmp_path):
    assert "there is no lab none: `fogguard lab up --name none` makes one" in Run("none", tmp_path)("down", fails=2)


def test_up_overwrites_nothing(tmp_path):
    (tmp_path / "fleet.toml").write_text("mine")
    run = Run(f"test-{os.getpid()}-b", tmp_path)
    assert "fleet.toml is there already" in run("up", 1, fails=2)
    assert (tmp_path / "fleet.toml").read_text() == "mine"


def test_down_leaves_nothing_whatever_state_devices_are_in(tmp_path, lab):
    run = Run(f"test-{os.getpid()}-c", tmp_path / "deep")
    run.folder.mkdir()
    before = everything(run.name)
    run("up", 4)
    there = everything(run.name)
    assert all(there[kind] for kind in ("loops", "processes", "files", "cgroups"))
    for verb, device in (("unplug", "d1"), ("freeze", "d2"), ("lossy", "d3"), ("cut", "d3"), ("slow", "d4")):
        run(verb, device)
    run("down")
    assert everything(run.name) == before
    assert not list(tmp_path.rglob("*"))


def begun(run, until):
    """Start `lab up`, and return its process once a file is there."""
    process = subprocess.Popen(
        [command("fogguard"), "lab", *run.up, "4"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not until.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return process


@pytest.mark.parametrize("moment", ["lab.json", "d2/disk.img", "d4/console.log"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_up_that_is_interrupted_leaves_nothing(tmp_path, lab, moment, number):
    run = Run(f"test-{os.getpid()}-d", tmp_path)
    before = everything(run.name)
    process = begun(run, lab_folder() / "labs" / run.name / moment)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode in (130, 143), complaint
    assert "Traceback" not in complaint
    assert everything(run.name) == before
    assert not list(tmp_path.glob("fleet*"))


@pytest.mark.parametrize("moment", ["lab.json", "d2/disk.img", "d4/console.log"])
def test_what_a_killed_up_left_behind_is_taken_down(tmp_path, lab, moment):
    run = Run(f"test-{os.getpid()}-e", tmp_path)
    before = everything(run.name)
    process = begun(run, lab_folder() / "labs" / run.name / moment)
    process.kill()
    process.communicate()
    assert "was left half made" in run("up", 4, fails=2)
    run("down")
    assert everything(run.name) == before


def test_a_device_that_switched_itself_off_is_booted_by_plug(lab):
    lab("ssh", "d2", "nohup sh -c 'sleep 0.3; sudo systemctl poweroff' > /dev/null 2>&1 &")
    until = time.monotonic() + 20
    while lab.state("d2")["state"] != "off":
        assert time.monotonic() < until
    lab("plug", "d2")
    assert lab("ssh", "d2", "hostname").strip() == "d2"


def test_every_command_that_the_page_shows_runs(tmp_path, lab):
    block = re.search(r"^```sh\n(.*?)^```", (ROOT / "docs" / "lab.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    path = f"{Path(command('fogguard')).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        subprocess.run([command("fogguard"), "lab", "down"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 received" in done.stdout
    assert "f1: power cut" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_arm64_device_stands_beside_one_like_this_machine(tmp_path):
    run = Run(f"test-{os.getpid()}-f", tmp_path)
    before = everything(run.name)
    run("up", 2, "--arch", "d2=arm64", timeout=800)
    assert run("ssh", "d2", "uname -m; sudo id -un").split() == ["aarch64", "root"]
    assert run("ssh", "d2", "cat /sys/firmware/devicetree/base/model").startswith("Raspberry Pi 4")
    assert "0xd08" in run("ssh", "d2", "cat /proc/cpuinfo")
    for word in ("", "sudo "):
        assert "QEMU_CPU=cortex-a72" in run("ssh", "d2", f"{word}env")
    assert "1 received" in run("ssh", "d2", "ping -c 1 d1")
    unit = r"[Service]\nType=oneshot\nPrivateUsers=yes\nDynamicUser=yes\nExecStart=/bin/true\n"
    run("ssh", "d2", f"printf '{unit}' | sudo tee /etc/systemd/system/hard.service && sudo systemctl start hard")
    run("ssh", "d2", "echo kept > kept; sync kept; sync -f kept; echo lost > lost")
    run("unplug", "d2")
    run("plug", "d2")
    assert run("ssh", "d2", "ls").split() == ["kept"]
    run("reboot", "d2")
    assert run("ssh", "d2", "systemctl is-system-running --wait").strip() == "running"
    run("down")
    assert everything(run.name) == before


@pytest.mark.slow
def test_debian_13_boots_too(tmp_path):
    run = Run(f"test-{os.getpid()}-g", tmp_path)
    run("up", 1, "--suite", "trixie")
    try:
        assert "trixie" in run("ssh", "d1", "cat /etc/os-release")
        assert run("ssh", "d1", "systemctl is-system-running --wait").strip() == "running"
        run("reboot", "d1")
    finally:
        run("down")
