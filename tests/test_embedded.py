import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from broker.embedded import BrokerError, LocalBroker, choose_kind, mosquitto, running_broker
from broker.mosquitto import render_open


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def test_a_broker_ends_with_its_block(broker):
    assert answers(broker.port)
    assert broker.host == "127.0.0.1"


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_broker_that_is_restarted_is_another_process_at_the_same_address(kind):
    if kind == "mosquitto" and mosquitto() is None:
        pytest.skip("no mosquitto on this machine: apt-get install mosquitto")
    with LocalBroker(kind) as broker:
        with socket.create_connection(("127.0.0.1", broker.url.port), timeout=5) as connection:
            broker.restart()
            with contextlib.suppress(ConnectionResetError):  # either way, this connection is over
                connection.settimeout(5)
                assert connection.recv(1) == b""
        assert answers(broker.url.port)
    assert not answers(broker.url.port)


def test_a_broker_listens_on_the_loopback_address_only(broker):
    listening = subprocess.run(["ss", "-ltnH", f"sport = :{broker.port}"], capture_output=True, text=True).stdout
    assert [line.split()[3] for line in listening.splitlines()] == [f"127.0.0.1:{broker.port}"]


def test_mosquitto_takes_the_place_of_a_missing_wheel(monkeypatch):
    assert choose_kind() == "embedded"
    monkeypatch.setitem(sys.modules, "iotcore", None)
    assert choose_kind() == "mosquitto"
    with pytest.raises(BrokerError, match=r"pip install 'fogguard\[broker\]'"), running_broker("embedded"):
        pass


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_port_that_is_taken_is_one_sentence(kind):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(BrokerError, match=f"127.0.0.1:{port}.*choose another with --port"),
            running_broker(kind, port=port),
        ):
            pass


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_a_broker_dies_with_a_killed_parent(kind):
    script = (
        "import time\nfrom broker.embedded import running_broker\n"
        f"with running_broker({kind!r}) as url:\n    print(url.port, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    port = int(parent.stdout.readline())
    assert answers(port)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    ends = time.monotonic() + 5
    while answers(port) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not answers(port)


def test_the_rendered_configuration_lets_small_messages_through_at_once():
    text = render_open("127.0.0.1", 1884)
    assert "set_tcp_nodelay true" in text
    assert "listener 1884 127.0.0.1" in text
