"""What a killed command leaves in the folder for temporary files, and who clears it away."""

import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

import pytest

from broker.embedded import running_broker

RUNNING = "import time; from broker.embedded import LocalBroker\nwith LocalBroker(): print(flush=True), time.sleep(60)"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def running_command():
    """A command with a broker of its own."""
    with subprocess.Popen([sys.executable, "-c", RUNNING], stdout=subprocess.PIPE) as command:
        command.stdout.readline()
        try:
            yield command
        finally:
            command.kill()


def test_what_a_killed_command_left_is_removed_by_the_next_and_what_a_running_one_has_is_not(temporary):
    begun, foreign = temporary / "fogguard-broker-begun", temporary / "other"  # one is not locked yet, one is not ours
    others = {begun, foreign}
    for folder in others:
        folder.mkdir()
    with running_command() as killed:
        (left,) = set(temporary.iterdir()) - others
        killed.send_signal(signal.SIGKILL)
    assert left.exists()
    with running_command():
        (owned,) = set(temporary.iterdir()) - others
        assert owned != left
        with running_broker():
            assert owned.exists()
        assert set(temporary.iterdir()) == {owned, *others}
