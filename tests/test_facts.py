"""Facts and findings: what recorded devices said, and what follows from it.

`recorded-…` is what a real system printed; `composed-…` was put together from public documentation, until somebody
records it on the hardware: `ssh DEVICE sudo sh -s < provisioning/scripts/facts.sh`.
"""

import json
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest
from support import ROOT

from provisioning.doctor import chosen_python, examine, unfit
from provisioning.facts import SCRIPT, FactsError, parse_facts
from provisioning.inventory import Device
from provisioning.room import examine_room, room_of_any
from provisioning.wheels import Target

FOLDER = Path(__file__).with_name("facts")
DEVICE = Device(address="10.0.0.1", user="pi")
NOW_S = 1795593380


def said(name):
    return (FOLDER / f"{name}.txt").read_text()


def summary(text, device=DEVICE):
    """What a person learns of a device."""
    facts = parse_facts(text)
    findings = examine(facts, device, carries_broker=True, now_s=NOW_S)
    python = chosen_python(facts)
    if not unfit(findings):
        findings += examine_room(facts, room_of_any(Target(python.version, facts.machine), facts))
    return {
        "facts": json.loads(msgspec.json.encode(facts, order="deterministic")),
        "python": python.path if python else None,
        "findings": [f"{each.level}: {each.what}: {each.detail}" for each in findings],
        "unfit": unfit(findings),
    }


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_what_a_device_says_is_understood(file):
    golden = file.with_suffix(".json")
    assert summary(file.read_text()) == json.loads(golden.read_text())


def test_this_machine_is_understood():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        brokers = ("127.0.0.1", str(listener.getsockname()[1]), "127.0.0.1", "1")
        script = ["sh", "-c", SCRIPT, "facts", "0", *brokers]
        done = subprocess.run(script, capture_output=True, text=True, check=True)
    facts = parse_facts(done.stdout)
    assert done.stderr == ""
    assert facts.memory_mb > 0
    assert facts.glibc
    assert facts.unreachable == ("127.0.0.1 port 1",)


@pytest.mark.parametrize(
    "text", ["", "bash: sh: not found", "@@ uid\n0\n@@ machine\n", said("composed-pi4-bookworm")[:400]]
)
def test_what_is_not_understood_is_one_sentence(text):
    with pytest.raises(FactsError, match="said something unexpected"):
        parse_facts(text)


def test_a_home_on_a_file_system_of_its_own_is_noticed():
    text = said("composed-pi4-bookworm")
    disk = text.partition("@@ disk\n")[2].partition("\n")[0]
    assert parse_facts(f"{text}\n@@ home\n{disk}").home_free_mb is None
    apart = parse_facts(f"{text}\n@@ home\ntmpfs 10240 4096 6144 40% /home/pi/.cache/fogguard")
    assert apart.home_free_mb == 6


def test_a_card_that_the_kernel_has_shut_for_writing_is_told_before_anything_is_brought():
    text = said("composed-pi4-bookworm")
    mounts = "/dev/mmcblk0p2 / ext4 {},noatime 0 0"
    assert summary(f"{text}\n@@ root\n{mounts.format('rw')}") == summary(text)
    told = summary(f"{text}\n@@ root\n{mounts.format('ro')}")
    assert "unfit: card: the disk is read-only" in told["findings"]
    assert "is the card worn out? `sudo dmesg` tells" in told["unfit"]


@pytest.mark.parametrize(
    ("model", "has_power_chip"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", True),
        ("Raspberry Pi 500 Rev 1.0", True),
        ("Raspberry Pi Compute Module 5 Rev 1.0", True),
        ("Raspberry Pi 4 Model B Rev 1.5", False),
        ("Raspberry Pi Compute Module 4 Rev 1.1", False),
        ("", False),
    ],
)
def test_boards_with_a_power_chip_that_tells_are_known_by_their_model(model, has_power_chip):
    text = said("composed-pi5-trixie-hot").replace("Raspberry Pi 5 Model B Rev 1.0", model)
    assert parse_facts(text).has_power_chip is has_power_chip


@pytest.mark.parametrize(
    ("listener", "found"),
    [
        ("mosquitto fogguard-broker.service", ""),
        (
            "mosquitto mosquitto.service",
            "mosquitto listens on the port of the fleet's broker: sudo systemctl mask --now",
        ),
        ("docker-proxy docker.service", "docker listens on the port of the fleet's broker: end it, or give"),
        ("MQTT server", "MQTT server listens on the port"),
    ],
)
def test_whoever_has_the_broker_s_port_already_is_told_unless_it_is_the_fleet_s_own(listener, found):
    text = said("composed-pi5-trixie-hot") + f"\n@@ listening\n{listener}\n"
    assert summary(text)["unfit"].startswith(found)
    assert bool(summary(text)["unfit"]) is bool(found)
    assert examine(parse_facts(text), DEVICE, carries_broker=False, now_s=NOW_S)[-1].level != "unfit"


def test_who_listens_on_the_broker_s_port_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        done = subprocess.run(["sh", "-c", SCRIPT, "facts", port], capture_output=True, text=True, check=True)
        own = Path("/proc/self/comm").read_text().strip()
        assert [each.process for each in parse_facts(done.stdout).listening] == [own]
    assert done.stderr == ""


def test_a_device_with_an_agent_says_which_broker_it_does_not_reach():
    text = said("composed-pi4-bookworm") + "\n@@ unreachable\n10.0.0.9 port 8883\n"
    assert summary(text)["findings"] == summary(said("composed-pi4-bookworm"))["findings"]
    there = summary(text.replace("@@ current\n", "@@ current\nreleases/one\n", 1))
    assert "note: broker: no broker answers it at 10.0.0.9 port 8883" in there["findings"]


def test_the_broker_where_an_agent_is_is_what_it_told_systemd():
    text = said("composed-pi4-bookworm")
    for status, at in (("bundle 0a, at mqtts://[fd00::9]:8883, look 2", "mqtts://[fd00::9]:8883"), ("bundle 0a", "")):
        told = parse_facts(text.replace("StatusText=", f"StatusText={status}", 1))
        assert (told.services["fogguard-agent"].at, told.services["fogguard-broker"].at) == (at, "")


def test_another_device_than_the_inventory_says_is_unfit():
    device = msgspec.structs.replace(DEVICE, arch="x86_64")
    assert "is aarch64, the inventory says x86_64" in summary(said("composed-pi4-bookworm"), device)["unfit"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("@@ uid\n0", "@@ uid\n1000", "sudo does not let pi in"),
        ("glibc 2.36", "", "no glibc"),
        ("@@ machine\naarch64", "@@ machine\narmv7l", "no onnxruntime for armv7l"),
        ("systemd 252", "systemd 241", "systemd 241"),
        ("asimd", "neon", "lacks asimd"),
        (
            "3.11 cpython-311-aarch64-linux-gnu",
            "incomplete -",
            "lacks half its library: sudo apt-get",
        ),
        ("3885396", "120000", "an agent and its system need 200 MB"),
        ("@@ clock\n1795593380", "@@ clock\n1764057380", "the clock is 365 days behind: sudo date -s @1795593380"),
    ],
)
def test_what_does_not_fit_comes_with_a_remedy(old, new, sentence):
    text = said("composed-pi4-bookworm")
    assert summary(text)["unfit"] == ""
    assert old in text
    assert sentence in summary(text.replace(old, new))["unfit"]
    assert SCRIPT in (ROOT / "provisioning" / "scripts" / "facts.sh").read_text()
