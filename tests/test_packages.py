"""Packages on a device whose own upgrades are under way: dpkg lets one in at a time."""

import fcntl
import os
import shutil
import subprocess
import threading

import pytest
from support import ROOT

from provisioning.release import pack

CONTROL = "Package: shed\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: nothing\n"


@pytest.mark.skipif(shutil.which("dpkg") is None or os.geteuid() != 0, reason="needs dpkg, and root")
def test_packages_wait_until_the_device_s_own_upgrades_are_done(tmp_path):
    (tmp_path / "shed/DEBIAN").mkdir(parents=True)
    (tmp_path / "shed/DEBIAN/control").write_text(CONTROL)
    subprocess.run(["dpkg-deb", "--build", tmp_path / "shed", tmp_path / "shed.deb"], check=True, capture_output=True)
    (tmp_path / "archive").write_bytes(pack({"shed.deb": (tmp_path / "shed.deb").read_bytes()}, {}))
    database = tmp_path / "dpkg"
    for name in ("updates", "info"):
        (database / name).mkdir(parents=True)
    for name in ("status", "available"):
        (database / name).touch()
    units = tmp_path / "system"
    units.mkdir()
    script = (ROOT / "provisioning/scripts/packages.sh").read_text().replace("/etc/systemd/system", str(units))

    with (database / "lock-frontend").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        threading.Timer(1, lock.close).start()
        done = subprocess.run(
            ["sh", "-c", script, "fogguard", tmp_path / "archive"],
            env={**os.environ, "LC_ALL": "C", "DPKG_ADMINDIR": str(database), "DPKG_ROOT": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert "Status: install ok installed" in (database / "status").read_text()
    assert (units / "mosquitto.service").is_symlink()
