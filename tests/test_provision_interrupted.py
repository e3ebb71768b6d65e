"""Apply that a power cut or Ctrl-C interrupts, in every step: a device runs the old or the new, and apply goes on."""

import os
import re
import signal
import threading
import time

import pytest
from fleets import NODES, bare_fleet, during, other_bundle, require_serving

from provisioning.wheels import Target

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
PURGE = "DEBIAN_FRONTEND=noninteractive apt-get purge -qq --yes --auto-remove mosquitto; sync"
KEEP_ONLY_CURRENT = "cd /opt/fogguard; rm -rf $(ls -d releases/* | grep -v $(readlink current)); sync -f ."
ENVIRONMENT = Target("3.11", os.uname().machine).environment
PREPARED = {
    # as after a change of the locked wheels: what runs keeps its own
    "environment": f"cd /opt/fogguard; mv venvs/{ENVIRONMENT} venvs/before; ln -sfn ../../venvs/before current/venv; "
    "sync -f .",
    "packages": PURGE,
    "release": KEEP_ONLY_CURRENT,
    "files": "rm /etc/fogguard/signing.pub; sync -f /etc",
    "broker": "systemctl stop fogguard-broker",
    "switch": "systemctl stop fogguard-agent",  # one that runs goes on: prepare and commit
    "tidy": "mkdir -p /opt/fogguard/releases/stray; sync -f /opt",
}
"""What makes a device need a step, by its name."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    with bare_fleet(tmp_path_factory.mktemp("fleet"), bundle) as found:
        yield found


@pytest.fixture(scope="module")
def other(fleet):
    return other_bundle(fleet)


def require_old_or_new(fleet, other, node):
    require_serving(fleet, node)
    runs = fleet.shell(node, "sha256sum < /opt/fogguard/current/bundle/manifest.json")[:16]
    assert runs in (fleet.bundle.id.hex(), other.id.hex())
    assert fleet.shell(node, "cd /opt/fogguard/current && sha256sum --quiet -c SHA256SUMS 2>&1") == ""


def require_finished(fleet, bundle):
    fleet.provision("apply", bundle.path)
    assert set(fleet.bundles().values()) == {bundle.id.hex()}
    fleet.provision("status", bundle.path)
    fleet.require_answers(bundle)
    for node in NODES:
        assert fleet.shell(node, "ls -A /opt/fogguard/releases /opt/fogguard/venvs | grep -E '^\\.new|^stray'") == ""


@pytest.mark.parametrize(
    ("device", "step", "delay_s"),
    [
        ("f1", "looking", 0.1),
        ("cloud", "packages", 0.5),
        ("cloud", "broker", 0.1),
        ("cloud", "prepare", 0.05),
        ("cloud", "commit", 0.05),
        ("f1", "tidy", 0.05),
    ],
)
def test_after_a_power_cut_in_the_other_steps_apply_finishes_too(fleet, other, device, step, delay_s):
    fleet.provision("apply", fleet.bundle.path)
    fleet.shell(device, PREPARED.get(step, ":"))
    restarts = "systemctl show -P NRestarts fogguard-agent"
    unplugging, before = [], fleet.shell("f2", restarts)

    def unplug(process):
        time.sleep(delay_s)
        unplugging.append(threading.Thread(target=fleet.lab, args=("unplug", device)))
        unplugging[0].start()

    began_s = time.monotonic()
    _, printed = during(fleet, ("apply", fleet.file, other.path), device, step, unplug)
    unplugging[0].join()
    assert "Traceback" not in printed
    if step in ("prepare", "commit"):  # nothing is waited for that cannot come; to wait for a broker is not to hang
        assert time.monotonic() < began_s + 60, printed
        assert fleet.shell("f2", restarts) == before
    fleet.lab("plug", device)
    if step == "packages":  # what dpkg had begun is nobody's: apply goes on with it, and only then is there a broker
        fleet.provision("apply", fleet.bundle.path)
    for node in NODES:
        require_old_or_new(fleet, other, node)
    require_finished(fleet, other)


def test_a_power_cut_while_the_broker_moves_away_leaves_one_that_all_agree_on(fleet, other):
    fleet.provision("apply", fleet.bundle.path)
    before = fleet.file.read_text()
    fleet.file.write_text(before.replace('[broker]\ndevice = "cloud"', '[broker]\ndevice = "f2"'))
    assert fleet.file.read_text() != before
    try:
        unplug = threading.Thread(target=fleet.lab, args=("unplug", "cloud"))
        during(fleet, ("apply", fleet.file, fleet.bundle.path), "cloud", "retire", lambda process: unplug.start())
        unplug.join()
        fleet.lab("plug", "cloud")
        require_finished(fleet, fleet.bundle)
        assert fleet.shell("cloud", "systemctl is-active fogguard-broker") == "inactive"
    finally:
        fleet.file.write_text(before)
    require_finished(fleet, fleet.bundle)
    assert fleet.shell("f2", "systemctl is-active fogguard-broker") == "inactive"


@pytest.mark.parametrize(
    ("device", "step", "delay_s"),
    [
        ("f1", "looking", 0.1),
        ("f1", "environment", 1.0),
        ("f1", "release", 0.05),
        ("f1", "files", 0.05),
        ("f1", "self-test", 0.1),
        ("cloud", "broker", 0.05),
        ("f1", "switch", 0.1),
        ("f1", "prepare", 0.05),
        ("cloud", "commit", 0.05),
        ("f1", "tidy", 0.0),
    ],
)
def test_after_ctrl_c_every_device_runs_the_old_or_the_new_and_apply_finishes(fleet, other, device, step, delay_s):
    fleet.provision("apply", fleet.bundle.path)
    fleet.shell(device, PREPARED.get(step, ":"))

    def interrupt(process):
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)

    began_s = time.monotonic()
    code, printed = during(fleet, ("apply", fleet.file, other.path), device, step, interrupt)
    assert (code, time.monotonic() - began_s < 30) == (130, True), printed
    assert not re.search("Traceback|Exception", printed)
    for node in NODES:
        require_old_or_new(fleet, other, node)
    require_finished(fleet, other)
