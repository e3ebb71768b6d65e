"""Labs of four virtual devices for `fogguard provision`, and what else is done with them than a fleet's life holds."""

import os
import subprocess
import time
from contextlib import contextmanager

import pytest
from retrained import retrained
from support import command
from test_provision import NAME, NODES, Fleet, changes, reasons, uplink

from provisioning import pki
from provisioning.inventory import load_inventory
from provisioning.wheels import Target, wheelhouse

__all__ = ["NODES", "bare_fleet", "changes", "during", "other_bundle", "reasons", "require_answers", "require_serving"]


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


def require_answers(fleet, bundle, *options):
    """Feed the fleet: every step is answered, and with the label that was predicted."""
    words = ("--inventory", fleet.file, "--steps", "200", *options)
    assert "200 of 200" in fleet.command("run", bundle.path, *words)
