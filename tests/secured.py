"""A real mosquitto with TLS, as `fogguard broker --render-mosquitto --pki` configures it."""

import os
import pwd
import re
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.embedded import mosquitto
from broker.link import Link
from broker.process import spawn, stop
from broker.tls import files_of
from broker.url import BrokerUrl
from provisioning import access, pki

FLEET = "house"


@contextmanager
def public_folder():
    """A folder that the user whom mosquitto becomes can enter; pytest's own cannot be."""
    with tempfile.TemporaryDirectory(prefix="fogguard-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(folder, started=None):
    """mosquitto with the configuration in `folder`, as it is; its process joins the list `started`."""
    if mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    if os.geteuid() == 0 and "mosquitto" in {user.pw_name for user in pwd.getpwall()}:
        subprocess.run(["chown", "-R", "mosquitto", folder], check=True)
    port = int(re.search(r"listener (\d+)", (folder / "mosquitto.conf").read_text())[1])
    child = spawn([mosquitto(), "-c", str(folder / "mosquitto.conf")], log=folder / "log", folder=folder)
    if started is not None:
        started.append(child)
    try:
        ends = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < ends, (folder / "log").read_text()
                time.sleep(0.02)
        yield BrokerUrl("127.0.0.1", port, secure=True)
    finally:
        stop(child)


@contextmanager
def secured(manifest, keys, heard=None):
    """A broker for a fleet that runs `manifest`, with the certificates of the folder `keys`."""
    with public_folder() as folder:
        access.write_mosquitto(folder, manifest, keys, "127.0.0.1", free_port(), heard)
        with running(folder) as url:
            yield url


def fleet_keys(folder, manifest):
    pki.init(folder, FLEET, manifest.names)
    return folder


def link(url, keys, identity, topics=(), heard=None):
    """A link as `identity`, that hears `topics`."""
    on_message = (lambda *message: heard.append(message)) if heard is not None else (lambda *_: None)
    tls = files_of(keys, identity) if identity else None
    return Link(url, f"test-{identity}", subscriptions=[(t, 1) for t in topics], on_message=on_message, tls=tls)
