"""Devices on SSH, with a real sshd: who is believed, what arrives whole, and what is said when it does not."""

import contextlib
import hashlib
import io
import socket
import stat
import subprocess
import threading
from pathlib import Path

import msgspec
import paramiko
import pytest
from secured import free_port
from sshd import new_key, running_sshd

from broker.errors import FailureFound
from provisioning import connection
from provisioning.connection import connect, fetch_host_key, require_readable
from provisioning.enrolment import enrol
from provisioning.hosts import KnownHosts
from provisioning.inventory import Device, InventoryError
from provisioning.remote import RemoteError


@pytest.fixture
def device(tmp_path):
    with running_sshd(tmp_path) as found:
        yield found


@pytest.fixture
def known(device, tmp_path):
    """A known_hosts in which the device's key is pinned."""
    pinned = KnownHosts(tmp_path / "known_hosts")
    assert enrol(device, pinned, lambda key: True).state == "new"
    return pinned


def test_a_script_gets_its_arguments_as_they_are_and_reports_its_code(device, known):
    with connect(device, known) as remote:
        done = remote.run('printf "%s|" "$@"; echo oh >&2; exit 3', "a b", "$(id)", "'ü'")
    assert done == (3, "a b|$(id)|'ü'|", "oh\n")
    assert done.last_words == "oh"


def test_a_script_that_takes_too_long_is_given_up(device, known):
    with connect(device, known) as remote, pytest.raises(RemoteError, match="did not finish within 1 s"):
        remote.run("sleep 30", timeout_s=1)


def test_what_a_script_had_said_when_its_connection_ended_is_no_outcome(device, known):
    with connect(device, known) as remote, pytest.raises(RemoteError, match="the connection broke"):
        remote.run("echo half; kill -9 $PPID; sleep 30")
    with connect(device, known) as remote, pytest.raises(RemoteError, match=r"^interrupted$"):
        remote.run("echo half; sleep 30", hear=lambda _: remote.close())


def test_an_unknown_host_key_is_refused_until_it_is_enrolled(device, tmp_path):
    file = KnownHosts(tmp_path / "known_hosts")
    with pytest.raises(RemoteError, match="nobody enrolled"), connect(device, file):
        pass
    with pytest.raises(FailureFound, match="was not accepted"):
        enrol(device, file, lambda key: False)
    assert not file.file.exists()
    enrol(device, file, lambda key: key.fingerprint.startswith("ssh-ed25519 SHA256:"))
    assert enrol(device, file, lambda key: pytest.fail("known keys are not asked about")).state == "known"
    with connect(device, file) as remote:
        assert remote.run("echo hello").out == "hello\n"


def test_a_changed_host_key_is_refused_by_everything(device, known, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "id.pub").write_text(Path(f"{device.key}.pub").read_text())
    (other / "id").write_text("unused")
    lines = known.file.read_text()
    with running_sshd(other) as impostor:
        known.file.write_text(lines.replace(str(device.port), str(impostor.port)))
        impostor = msgspec.structs.replace(impostor, key=device.key)
        with pytest.raises(RemoteError, match="another host key than the one enrolled"), connect(impostor, known):
            pass
        with pytest.raises(FailureFound, match="another key than the one enrolled"):
            enrol(impostor, known, lambda key: True)
    assert known.file.read_text() == lines.replace(str(device.port), str(impostor.port))


def test_a_line_of_known_hosts_that_was_cut_is_told_or_believes_nobody(device, known):
    line = known.file.read_text().strip()
    told = 0
    for end in range(1, len(line)):
        known.file.write_text(line[:end])
        try:
            require_readable(known.file)
        except InventoryError as error:
            told += "line 1 is no host key: remove it" in str(error)
        else:  # paramiko pads what is left of a key with zeros
            assert fetch_host_key(device, known).state == "changed"
    assert told > len(line) / 2


def test_a_host_key_gets_a_line_of_its_own_behind_one_that_an_editor_left_open(device, known):
    lines = known.file.read_text()
    known.file.write_text(f"# {device.address}")
    assert enrol(device, known, lambda key: True).state == "new"
    assert known.file.read_text() == f"# {device.address}\n{lines}"


def test_what_does_not_answer_is_one_sentence(device, known, tmp_path, monkeypatch):
    nobody = msgspec.structs.replace(device, port=free_port())
    with pytest.raises(RemoteError, match="nothing answers on SSH at"), connect(nobody, known):
        pass
    stranger = msgspec.structs.replace(device, key=str(new_key(tmp_path / "stranger")))
    with pytest.raises(RemoteError, match="does not take key"), connect(stranger, known):
        pass
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    keyless = msgspec.structs.replace(device, key="")
    with pytest.raises(RemoteError, match="you have no key to log in with"), connect(keyless, known):
        pass
    lost = msgspec.structs.replace(device, key=str(tmp_path / "gone"))
    with pytest.raises(RemoteError, match="gone is not there"), connect(lost, known):
        pass
    (tmp_path / "putty").write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    foreign = msgspec.structs.replace(device, key=str(tmp_path / "putty"))
    with pytest.raises(RemoteError, match="putty is no private key of OpenSSH"), connect(foreign, known):
        pass
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = msgspec.structs.replace(device, port=mute.getsockname()[1])
        mute.close()
        with pytest.raises(RemoteError, match="nothing answers"):
            fetch_host_key(silent, known)


def test_a_key_with_a_passphrase_is_said_to_be_locked_not_refused(device, known, tmp_path):
    locked = tmp_path / "locked"
    locked.write_bytes(Path(device.key).read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locked], check=True, capture_output=True)
    mine = msgspec.structs.replace(device, key=str(locked))
    with pytest.raises(RemoteError, match="locked has a passphrase: give it to your SSH agent"), connect(mine, known):
        pass


def test_a_file_arrives_whole_or_not_at_all(device, known):
    data = b"weights" * 100_000
    sha256 = hashlib.sha256(data).hexdigest()
    with connect(device, known) as remote:
        path = Path(remote.upload(io.BytesIO(data), sha256, "payload"))
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert Path(remote.upload(io.BytesIO(b"not read: it is there"), sha256, "payload")) == path
        with pytest.raises(RemoteError, match="payload arrived changed"):
            remote.upload(io.BytesIO(data), "0" * 64, "payload")
    assert path.read_bytes() == data
    assert not list(path.parent.glob("0000*"))
    path.unlink()


@pytest.fixture
def behind(device, tmp_path):
    """A device that answers behind the other one."""
    inner_folder = tmp_path / "inner"
    inner_folder.mkdir()
    with running_sshd(inner_folder) as inner:
        (tmp_path / "id.pub").write_text((tmp_path / "id.pub").read_text() + Path(f"{inner.key}.pub").read_text())
        yield msgspec.structs.replace(inner, jump=f"{device.user}@127.0.0.1:{device.port}")


def test_a_jump_host_is_gone_through_and_pinned_as_well(device, known, behind):
    enrol(behind, known, lambda key: True)
    with connect(behind, known) as remote:
        assert remote.run("echo through").out == "through\n"
    nobody = msgspec.structs.replace(behind, port=free_port())
    with pytest.raises(RemoteError, match=rf"{nobody.port} behind {behind.jump} \(Connect"), connect(nobody, known):
        pass
    pinned = [line for line in known.file.read_text().splitlines() if str(device.port) not in line]
    known.file.write_text("\n".join(pinned) + "\n")
    with pytest.raises(RemoteError, match=f"{device.port} has a host key nobody enrolled"), connect(behind, known):
        pass


def test_who_has_the_address_of_another_behind_another_jump_is_pinned_by_the_jump_as_well(device, known, behind):
    other_site = known.file.read_text().replace(device.place, behind.place)
    known.file.write_text(known.file.read_text() + other_site)
    with pytest.raises(FailureFound, match="another key than the one enrolled"):
        enrol(behind, known, lambda key: True)
    shared = KnownHosts(known.file, frozenset({behind.place}))
    with pytest.raises(RemoteError, match="nobody enrolled"), connect(behind, shared):
        pass
    assert enrol(behind, shared, lambda key: True).state == "new"
    with connect(behind, shared) as remote:
        assert remote.run("echo through").out == "through\n"
    assert f"{behind.place}%{device.place} ssh-ed25519 " in known.file.read_text()


class _Stuck(paramiko.ServerInterface):
    """Lets everybody in, and falls silent as soon as somebody wants to go on."""

    def __init__(self):
        self.over = threading.Event()

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_direct_tcpip_request(self, *where):
        self.over.wait(30)
        return paramiko.OPEN_FAILED_CONNECT_FAILED


@pytest.fixture
def stuck_jump(tmp_path):
    """A device behind a jump that loses its power when it is asked to go there."""
    key, host_key = new_key(tmp_path / "id"), new_key(tmp_path / "host_key")
    server, transports = _Stuck(), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    transports.append(paramiko.Transport(listener.accept()[0]))
                    transports[-1].add_server_key(paramiko.Ed25519Key(filename=str(host_key)))
                    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # who only asked for the key
                        transports[-1].start_server(server=server)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield Device(address="127.0.0.1", user="pi", key=str(key), jump=f"pi@127.0.0.1:{port}")
        listener.shutdown(socket.SHUT_RDWR)
    server.over.set()
    for transport in transports:
        transport.close()
    thread.join()


def test_a_jump_that_loses_its_power_is_not_waited_for(stuck_jump, tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "_CHANNEL_S", 1)
    file = KnownHosts(tmp_path / "known_hosts")
    enrol(connection.jump_of(stuck_jump), file, lambda key: True)
    sentence = rf"nothing answers on SSH at 127\.0\.0\.1 port 22 behind {stuck_jump.jump} \(Timeout"
    with pytest.raises(RemoteError, match=sentence), connect(stuck_jump, file):
        pass
    with pytest.raises(RemoteError, match=sentence):
        fetch_host_key(stuck_jump, file)
