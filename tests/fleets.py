"""Labs of four virtual devices for `fogguard provision`, and the command line as their operator uses it."""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest
from retrained import retrained
from support import command

from edge_agent.bundle import load
from provisioning import pki
from provisioning.inventory import load_inventory
from provisioning.signing import sign_bundle
from provisioning.wheels import Target, wheelhouse

NAME = "provision"
ADDRESS = "10.77.0.254/24"
NODES = ("e1", "f2", "f1", "cloud")


class Fleet:
    """The command line, for a lab of four devices whose agents and broker are provisioned from this machine."""

    def __init__(self, folder, bundle):
        self.folder = folder
        self.file = folder / "fleet.toml"
        self.bundle = self.signed(shutil.copytree(bundle.path, folder / "bundle"))

    def signed(self, path):
        sign_bundle(path, self.folder / "pki" / "signing.key")
        return load(path)

    def command(self, *words, code=0, timeout=250, **environment):
        done = subprocess.run(
            [command("fogguard"), *map(str, words)],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def provision(self, verb, *words, code=0, **environment):
        """The JSON result of a command on the fleet."""
        result = self.folder / f"{verb}.json"
        result.unlink(missing_ok=True)
        output = self.command("provision", verb, self.file, *words, "--json", result, code=code, **environment)
        return json.loads(result.read_text()) if result.exists() else output

    def lab(self, verb, *words):
        return self.command("lab", verb, *([] if verb == "up" else ["--name", NAME]), *words)

    def shell(self, device, script):
        """The output of a shell script that root runs on a device."""
        inventory = load_inventory(self.file)
        found = inventory.devices[device]
        login = ["ssh", "-F", "none", "-i", found.key, "-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}"]
        done = subprocess.run(
            [*login, "-o", "BatchMode=yes", f"{found.user}@{found.address}", "sudo", "sh", "-s"],
            input=script,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout.strip()

    def bundles(self):
        """The bundle that each device runs."""
        return {node: self.shell(node, "sha256sum < /opt/fogguard/current/bundle/manifest.json")[:16] for node in NODES}

    def require_answers(self, bundle, *options):
        """Feed the fleet: every step is answered, and with the label that was predicted."""
        words = ("--inventory", self.file, "--steps", "200", *options)
        assert "200 of 200" in self.command("run", bundle.path, *words)


@contextmanager
def uplink():
    """An end of the lab's bridge in this machine's network: from here there is an internet, from the devices not."""
    subprocess.run(["ip", "link", "del", "fogguard-up"], capture_output=True)  # a run that was killed leaves it
    subprocess.run(
        f"ip link add fogguard-up type veth peer name uplink netns fogguard-{NAME} && "
        f"ip -n fogguard-{NAME} link set uplink master bridge up && "
        f"ip addr add {ADDRESS} dev fogguard-up && ip link set fogguard-up up",
        shell=True,
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", "fogguard-up"], check=True)


@contextmanager
def bare_fleet(folder, bundle, *options, pki_folder="pki", what="watch"):
    """A lab whose devices have nothing yet, and an inventory with certificates, or without if `pki_folder` is ""."""
    if os.geteuid() != 0:
        pytest.skip("virtual devices need root")
    lab = [command("fogguard"), "lab"]
    file = folder / "fleet.toml"
    up = [*lab, "up", what, "--name", NAME, "--fleet", file, *options]
    done = subprocess.run(up, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        with uplink():
            hosts = [device.address for device in load_inventory(file).devices.values()]
            pki.init(folder / "pki", NAME, bundle.manifest.names, hosts)
            if pki_folder:
                file.write_text(file.read_text().replace("[broker]", f'pki = "{pki_folder}"\n\n[broker]', 1))
            wheelhouse(Target("3.11", os.uname().machine), lambda what: None)
            yield Fleet(folder, bundle)
    finally:
        subprocess.run([*lab, "down", "--name", NAME], check=True, capture_output=True)


def other_bundle(fleet, name="other", factor=1.01):
    """The fleet's bundle with other weights in f1."""
    return fleet.signed(retrained(fleet.bundle.path, fleet.folder / name, "f1", factor).path)


def during(fleet, words, device, step, action):
    """Run `fogguard provision` with `words`, and `action` on its process as soon as `device` begins `step`.

    Returns the exit code and what was printed.
    """
    began, printed = False, []
    with subprocess.Popen(
        [command("fogguard"), "provision", *map(str, words)],
        cwd=fleet.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr:
            printed.append(line)
            if not began and line.startswith(f"{device}: {step}"):
                began = True
                action(process)
    assert began, f"{device} did not come to {step}: {''.join(printed)}"
    return process.returncode, "".join(printed)


def require_serving(fleet, device, timeout_s=20):
    """Wait until a device's agent serves."""
    ends = time.monotonic() + timeout_s
    while (state := fleet.shell(device, "systemctl is-active fogguard-agent")) != "active":
        assert time.monotonic() < ends, state + fleet.shell(device, "journalctl -u fogguard-agent -n 20 --no-pager")
        time.sleep(0.3)


def changes(report):
    return {
        name: [step["name"] for step in device["steps"] if step["name"] != "facts"]
        for name, device in report["devices"].items()
    }


def reasons(report):
    return {name: device["reason"] for name, device in report["devices"].items()}


def pids(fleet):
    """The process of each agent: another one was started anew."""
    return {node: fleet.shell(node, "systemctl show -p MainPID --value fogguard-agent") for node in NODES}
