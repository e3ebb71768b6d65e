"""What goes wrong with one device is a sentence about it: the others go on, and nothing is half done."""

import datetime
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from fleets import NODES, bare_fleet, other_bundle, reasons, require_serving
from support import command

from edge_agent.bundle import load
from provisioning import certificates, pki
from provisioning.inventory import load_inventory
from provisioning.wheels import Target

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
ENVIRONMENT = Target("3.11", os.uname().machine).environment
DAY_S = 86_400
# as after a change of the locked wheels: what runs keeps its own
LACKS_ITS_ENVIRONMENT = (
    f"cd /opt/fogguard; rm -rf venvs/away; mv venvs/{ENVIRONMENT} venvs/away; ln -sfn ../../venvs/away current/venv"
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, bundle):
    with bare_fleet(tmp_path_factory.mktemp("fleet"), bundle) as found:
        found.provision("apply", found.bundle.path)
        yield found


@pytest.fixture(scope="module")
def other(fleet):
    return other_bundle(fleet)


@pytest.fixture(autouse=True)
def running_its_bundle(fleet):
    """Whatever a test left behind does no harm to the next."""
    yield
    fleet.provision("apply", fleet.bundle.path)


def require_untouched(fleet, culprit, report):
    """The others are staged, and every device runs what it ran."""
    assert all("staged, and kept on its old bundle" in reasons(report)[name] for name in NODES if name != culprit)
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    assert fleet.shell(culprit, "ls -A /opt/fogguard/* /etc/fogguard | grep -F .new; ls ~fog/.cache/fogguard") == ""
    fleet.require_answers(fleet.bundle)


FILL_UP = """cat > /run/fill << 'END'
cd ~fog/.cache/fogguard
until ls | grep -qxE '[0-9a-f]+'; do sleep 0.01; done
fallocate -l $(($(stat -f -c '%f * %S' /var/tmp) - 30000000)) /var/tmp/full
END
systemd-run -q sh /run/fill"""
"""Leaves a device's disk 30 MB once an archive has arrived whole."""


def test_a_disk_that_fills_up_while_an_environment_is_unpacked_is_left_as_it_was(fleet, other):
    fleet.shell("f2", f"{LACKS_ITS_ENVIRONMENT}; {FILL_UP}")
    try:
        report = fleet.provision("apply", other.path, code=1)
    finally:
        fleet.shell("f2", "rm /var/tmp/full")
    told = r"environment failed: No space left on device, \d+ MB free: make room: \d+ MB are needed"
    assert re.fullmatch(told, reasons(report)["f2"])
    require_untouched(fleet, "f2", report)


UPLOADS = "~fog/.cache/fogguard"
OF_ITS_OWN = f"mkdir -p {UPLOADS}; mount -t tmpfs -o size=100m,uid=$(id -u fog),mode=700 uploads {UPLOADS}"


def test_a_disk_that_fills_up_while_an_environment_is_copied_is_told_with_what_it_takes(fleet, other):
    fleet.shell("f2", f"{LACKS_ITS_ENVIRONMENT}; {OF_ITS_OWN}")
    try:
        with standing_still(fleet, other, "f2", "environment", "--json", "full.json") as process:
            fleet.shell("f2", f"fallocate -l $(($(stat -f -c '%f * %S' {UPLOADS}) - 5000000)) {UPLOADS}/full")
            process.send_signal(signal.SIGCONT)
            _, printed = process.communicate(timeout=60)
        assert process.returncode == 1, printed
        fleet.shell("f2", f"rm {UPLOADS}/full")
        report = json.loads((fleet.folder / "full.json").read_text())
        told = r"its environment cannot be copied, \d MB free in \S+/fogguard: make room: \d\d MB are needed"
        assert re.fullmatch(told, reasons(report)["f2"])
        require_untouched(fleet, "f2", report)
        fleet.provision("apply", other.path)
        fleet.require_answers(other)
    finally:
        fleet.shell("f2", f"umount {UPLOADS}")


SPOIL = """
cd ~fog/.cache/fogguard
while [ ! -e /tmp/enough ]; do
  for file in *.part; do if [ -s "$file" ]; then printf x | dd of="$file" conv=notrunc,nocreat status=none; fi; done
done
"""


def test_what_arrives_changed_is_refused_and_not_kept(fleet, other):
    fleet.shell("f2", LACKS_ITS_ENVIRONMENT)
    fleet.shell("f2", f"rm -f /tmp/enough; systemd-run -q sh -c '{SPOIL}'")
    try:
        report = fleet.provision("apply", other.path, code=1)
    finally:
        fleet.shell("f2", "touch /tmp/enough")
    assert "its environment arrived changed: run it again" in reasons(report)["f2"]
    require_untouched(fleet, "f2", report)


@pytest.fixture(scope="module")
def clocks(tmp_path_factory):
    """Make a library to preload, with which a device's clock is so many days wrong."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler on this machine: apt-get install gcc libc6-dev")

    def built(days):
        preloaded = tmp_path_factory.mktemp("clock") / "clock.so"
        source = Path(__file__).with_name("clock.c")
        offset = f"-DCLOCK_OFFSET=({days * DAY_S}L)"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", offset, "-o", preloaded, source], check=True)
        return preloaded

    return built


class WrongClock:
    """A device whose programs, from their next start on, see another time; put right at the end of the block."""

    def __init__(self, fleet, device, preloaded):
        self.fleet, self.device, self.preloaded = fleet, device, preloaded

    def __enter__(self):
        found = load_inventory(self.fleet.file).devices[self.device]
        known = self.fleet.folder / "known_hosts"
        login = ["-F", "none", "-i", found.key, "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
        subprocess.run(["scp", "-q", *login, self.preloaded, f"{found.user}@{found.address}:/tmp/"], check=True)
        self.fleet.shell(
            self.device,
            "install -m 755 /tmp/clock.so /usr/lib/clock.so && sync -f /usr/lib && "
            "echo /usr/lib/clock.so > /etc/ld.so.preload",
        )

    def __exit__(self, *_):
        self.fleet.shell(self.device, "rm -f /etc/ld.so.preload; systemctl restart fogguard-agent")
        require_serving(self.fleet, self.device)


@pytest.mark.parametrize(("days", "words"), [(-365, "365 days behind"), (365, "365 days ahead")])
def test_a_clock_that_is_a_year_wrong_is_told_with_what_to_do_about_it(fleet, other, clocks, days, words):
    with WrongClock(fleet, "f1", clocks(days)):
        doctor = fleet.provision("doctor", code=1)
        report = fleet.provision("apply", other.path, code=1)
    assert f"the clock is {words}: sudo date -s @" in reasons(doctor)["f1"]
    assert [name for name, device in doctor["devices"].items() if not device["ok"]] == ["f1"]
    assert f"the clock is {words}: sudo date -s @" in reasons(report)["f1"]
    require_untouched(fleet, "f1", report)


def test_a_device_that_boots_without_the_time_serves_over_tls_all_the_same(fleet, clocks):
    with WrongClock(fleet, "f1", clocks(-360)):
        fleet.lab("reboot", "f1")
        year = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=360)).year
        assert fleet.shell("f1", "date -u +%Y") == str(year)
        require_serving(fleet, "f1")
        fleet.require_answers(fleet.bundle)


def test_a_device_that_lives_years_ahead_says_why_it_does_not_serve(fleet, clocks):
    with WrongClock(fleet, "f1", clocks(800)):
        fleet.shell("f1", "systemctl restart --no-block fogguard-agent; sleep 3")
        told = fleet.shell("f1", "journalctl -u fogguard-agent -n 5 -o cat --no-pager")
        assert "expired: renew it, or set this machine's clock" in told
        assert "its agent is activating" in reasons(fleet.provision("status", code=1))["f1"]


def test_an_expired_certificate_is_told_before_anything_is_switched(fleet, other, monkeypatch):
    keys = fleet.folder / "pki"
    before = (keys / "f1.crt").read_bytes()
    (keys / "f1.crt").unlink()
    monkeypatch.setattr(certificates, "_LEAF_DAYS", -1)
    hosts = [device.address for device in load_inventory(fleet.file).devices.values()]
    pki.init(keys, load_inventory(fleet.file).fleet, load(fleet.bundle.path).manifest.names, hosts)
    try:
        doctor = fleet.provision("doctor", code=1)
        assert "f1.crt expired on" in reasons(doctor)["f1"]
        assert "remove it, and run `fogguard pki init` again" in reasons(doctor)["f1"]
        assert [name for name, device in doctor["devices"].items() if not device["ok"]] == ["f1"]
        for verb in ("plan", "apply"):
            assert "f1.crt expired on" in fleet.provision(verb, other.path, code=2)
        expired = (keys / "f1.crt").read_text()
    finally:
        (keys / "f1.crt").write_bytes(before)
    assert set(fleet.bundles().values()) == {fleet.bundle.id.hex()}
    # And if it were there all the same: the broker does not let it in.
    fleet.shell(
        "f1",
        f"cd /etc/fogguard/agent-* && cp f1.crt /root/kept && cat > f1.crt << 'END'\n{expired}END\n"
        "systemctl restart --no-block fogguard-agent; sleep 3",
    )
    try:
        told = fleet.shell("f1", "journalctl -u fogguard-agent -n 5 -o cat --no-pager")
        assert "f1.crt has expired: remove it, and run `fogguard pki init` again" in told
        status = fleet.provision("status", fleet.bundle.path, code=1)
        assert "its agent is activating" in reasons(status)["f1"]
    finally:
        fleet.shell("f1", "cp /root/kept /etc/fogguard/agent-*/f1.crt; systemctl restart fogguard-agent")
    fleet.provision("apply", fleet.bundle.path)
    fleet.require_answers(fleet.bundle)


@contextmanager
def standing_still(fleet, bundle, device="f1", step="release", *options):
    """Yield an apply that has claimed the fleet and just begins a step, stopped there; killed at the end."""
    fleet.shell(device, "cd /opt/fogguard; rm -rf $(ls -d releases/* | grep -v $(readlink current))")
    words = [command("fogguard"), "provision", "apply", fleet.file, bundle.path, *options]
    with subprocess.Popen(
        [*map(str, words)], cwd=fleet.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        next(line for line in process.stderr if line.startswith(f"{device}: {step} "))
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def elsewhere(fleet, tmp_path):
    """The same inventory as on another machine: nothing here tells that it is the same."""
    shutil.copytree(fleet.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("bundle", "other"))
    return tmp_path / "copy" / "fleet.toml"


def test_of_two_applies_at_once_one_is_told_that_there_is_another(fleet, other, elsewhere):
    with standing_still(fleet, other) as first:
        here = fleet.provision("apply", fleet.bundle.path, code=1)
        assert "another fogguard on this machine is changing the fleet" in here
        for words in (("apply", elsewhere, fleet.bundle.path), ("rollback", elsewhere)):
            there = fleet.command("provision", *words, code=1)
            assert f"@{socket.gethostname()}, process {first.pid} is changing it: nothing was changed" in there
        fleet.provision("doctor")  # who only looks is not kept out
        first.send_signal(signal.SIGCONT)
        _, printed = first.communicate(timeout=60)
        assert first.returncode == 0, printed
    assert set(fleet.bundles().values()) == {other.id.hex()}


def test_what_a_killed_apply_had_claimed_is_free(fleet, other, elsewhere):
    with standing_still(fleet, other):
        pass
    fleet.provision("apply", other.path)
    fleet.command("provision", "apply", elsewhere, fleet.bundle.path)


def test_a_device_lets_go_of_a_machine_that_fell_silent(fleet, other):
    """Stopped, as a machine whose power is gone: its connections stay, and say nothing."""
    with standing_still(fleet, other):
        began_s = time.monotonic()
        while fleet.shell("f1", "flock -n /run/fogguard.claim true && echo free") != "free":
            assert time.monotonic() < began_s + 50
            time.sleep(1)
        assert time.monotonic() > began_s + 5
