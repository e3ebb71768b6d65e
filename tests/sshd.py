"""A real sshd on the loopback, with keys and a configuration of its own."""

import getpass
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from secured import free_port

from provisioning.inventory import Device

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")


def new_key(file):
    file.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


@contextmanager
def running_sshd(folder, port=None):
    """Yield the device that this machine is to who has the key in `folder`."""
    if SSHD is None:
        pytest.skip("no sshd on this machine: apt-get install openssh-server")
    Path("/run/sshd").mkdir(exist_ok=True)
    port = port or free_port()
    host_key, key = folder / "host_key", folder / "id"
    for file in (host_key, key):
        if not file.exists():
            new_key(file)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\n"
        "UsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\nPasswordAuthentication no\n"
    )
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
                break
            except OSError:
                assert child.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
        yield Device(address="127.0.0.1", port=port, user=getpass.getuser(), key=str(key), node="f1")
    finally:
        child.terminate()
        child.wait(10)
