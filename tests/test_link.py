import contextlib
import socket
import threading
import time

import pytest
from relay import relay

from broker.embedded import running_broker
from broker.link import Link, LinkError, LinkLost
from broker.message import Message
from broker.sockets import connected
from broker.url import BrokerUrl, parse_url


def test_a_message_goes_from_one_link_to_another(broker):
    received = []
    with (
        Link(broker, "hears", subscriptions=[("t/#", 0)], on_message=lambda *m: received.append(m)) as hears,
        Link(broker, "speaks") as speaks,
    ):
        hears.connect()
        speaks.connect()
        for size in (0, 1, 1 << 20):
            speaks.publish("t/x", bytes(size))
        assert speaks.publish_confirmed("t/kept", b"k", retain=True, timeout_s=2)
        assert hears.poll_until(lambda: len(received) == 4, 5)
    assert [(topic, len(payload)) for topic, payload in received] == [
        ("t/x", 0),
        ("t/x", 1),
        ("t/x", 1 << 20),
        ("t/kept", 1),
    ]


def test_a_message_over_the_limit_of_a_link_is_withheld_by_its_broker():
    received = []
    with (
        running_broker("mosquitto") as url,
        Link(url, "small", subscriptions=[("t", 0)], on_message=lambda *m: received.append(m), max_bytes=1000) as small,
        Link(url, "loud") as loud,
    ):
        small.connect()
        loud.connect()
        for size in (2000, 900):
            loud.publish("t", bytes(size))
        assert small.poll_until(lambda: received, 3)
        assert small.is_up
    assert [len(payload) for _, payload in received] == [900]


def test_small_messages_are_not_held_back(broker):
    with Link(broker, "n") as link:
        link.connect()
        assert link._client.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_lost_link_leaves_its_last_will_and_a_farewell_leaves_none(broker):
    received = []
    with Link(broker, "w", subscriptions=[("s/+", 1)], on_message=lambda *m: received.append(m)) as watcher:
        watcher.connect()
        with Link(broker, "polite", last_will=lambda: Message("s/polite", b"lost")) as polite:
            polite.connect()
        with (
            pytest.raises(RuntimeError),
            Link(broker, "unplugged", last_will=lambda: Message("s/unplugged", b"lost")) as link,
        ):
            link.connect()
            raise RuntimeError
        assert watcher.poll_until(lambda: received, 3)
        watcher.poll_until(lambda: False, 0.2)
    assert received == [("s/unplugged", b"lost")]


def test_a_link_that_ends_when_its_connection_is_broken_makes_no_other(broker):
    with Link(broker, "n") as link:
        link.connect()
        connection = link._client.socket()
        link.drop()
    assert link._client.socket() is None
    assert connection.fileno() == -1


def test_an_exception_in_a_handler_is_raised_where_poll_was_called(broker):
    def handler(_topic, _payload):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Link(broker, "h", subscriptions=[("t", 0)], on_message=handler) as link:
        link.connect()
        link.publish("t", b"")
        link.poll_until(lambda: False, 3)


def test_two_clients_of_one_name_do_not_throw_each_other_out_for_ever(broker):
    first, second = Link(broker, "twin"), Link(broker, "twin")
    first.connect()
    second.connect()
    with pytest.raises(LinkLost, match="another client is there as 'twin'"):
        for _ in range(1000):
            first.poll(0.01)
            second.poll(0.01)


def test_a_link_comes_back_with_its_broker_and_its_subscriptions():
    ups, received = [], []
    with running_broker() as url:
        port = url.port
        link = Link(
            url,
            "patient",
            subscriptions=[("t", 0)],
            on_message=lambda *m: received.append(m),
            on_up=lambda: ups.append(time.monotonic()),
        )
        link.connect()
    assert link.poll_until(lambda: not link.is_up, 5)
    link.publish("t", b"dropped: nothing is queued while the broker is away")
    with running_broker(port=port), link:
        assert link.poll_until(lambda: link.is_up, 5)
        link.publish("t", b"fresh")
        assert link.poll_until(lambda: received, 2)
    assert len(ups) == 2
    assert received == [("t", b"fresh")]


def test_when_the_first_broker_dies_the_link_goes_to_the_next_within_a_second_and_stays():
    with running_broker() as second:
        with running_broker() as first:
            link = Link(first, "mover", others=[second])
            link.connect()
            assert link.url == first
        assert link.poll_until(lambda: not link.is_up, 5)
        sensed_s = time.monotonic()
        assert link.poll_until(lambda: link.is_up, 5)
        assert time.monotonic() - sensed_s < 1
        assert link.url == second
        with running_broker(port=first.port):
            link.poll_until(lambda: False, 1)
            assert link.url == second
        link.drop()
        assert link.poll_until(lambda: not link.is_up, 5)
        with link:
            assert link.poll_until(lambda: link.is_up, 5)
            assert link.url == second


def test_a_frozen_broker_is_left_for_the_next():
    with (
        running_broker() as first,
        running_broker() as second,
        relay(first) as cable,
        Link(cable.url, "mover", others=[second], keepalive_s=1) as link,
    ):
        link.connect()
        cable.is_held = True
        assert link.poll_until(lambda: not link.is_up, 5)
        sensed_s = time.monotonic()
        assert link.poll_until(lambda: link.is_up, 5)
        assert time.monotonic() - sensed_s < 1
        assert link.url == second


def test_a_broker_that_restarts_at_once_gets_its_link_back():
    with running_broker() as second, running_broker() as first:
        link = Link(first, "stays", others=[second])
        link.connect()
        link.drop()
        assert link.poll_until(lambda: not link.is_up, 5)
        assert link.poll_until(lambda: link.is_up, 5)
        assert link.url == first
        with link:
            pass


def test_nothing_grows_old_behind_a_broker_that_does_not_read(broker):
    received = []
    with (
        relay(broker) as cable,
        Link(broker, "hears", subscriptions=[("t", 0)], on_message=lambda _t, p: received.append(p[:2])) as hears,
        Link(cable.url, "speaks", keepalive_s=60) as speaks,
    ):
        hears.connect()
        speaks.connect()
        cable.is_held = True
        taken = 0
        ends_s = time.monotonic() + 1.5
        while time.monotonic() < ends_s:
            taken += speaks.publish("t", b"x" * (1 << 19))
            speaks.poll(0.01)
        assert 0 < taken < 60  # what two sockets hold, and a quarter of a second
        assert not speaks.publish("t", b"no")
        cable.is_held = False
        assert speaks.poll_until(lambda: not speaks._client.want_write(), 20)
        assert speaks.publish("t", b"ok")
        speaks.poll(0.1)
        assert hears.poll_until(lambda: b"ok" in received, 20)


@contextlib.contextmanager
def broker_too_busy_to_answer_pings():
    """Takes one client at a time and sends it a message every 20 ms; yields URL and the number of connections."""
    connections = []

    def serve(server):
        with contextlib.suppress(OSError):  # closed, by us or by the client
            while True:
                client, _ = server.accept()
                connections.append(client)
                with contextlib.suppress(OSError), client:
                    client.recv(1000)
                    client.sendall(b"\x20\x03\x00\x00\x00")
                    identifier = client.recv(1000)[2:4]
                    client.sendall(b"\x90\x04" + identifier + b"\x00\x00")
                    while True:
                        client.sendall(b"\x30\x05\x00\x01t\x00x")
                        time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield BrokerUrl(*server.getsockname()), connections


def test_a_link_through_which_messages_stream_lives_without_an_answer_to_its_pings():
    heard = []
    with broker_too_busy_to_answer_pings() as (url, connections):
        link = Link(url, "n", subscriptions=[("t", 0)], on_message=lambda *m: heard.append(m), keepalive_s=1)
        link.connect()
        assert not link.poll_until(lambda: not link.is_up, 3)
        assert len(connections) == 1
        assert len(heard) > 50
        link.drop()


def test_what_the_broker_kept_is_taken_only_where_it_is_wanted(broker):
    heard = {"wants": [], "waits": []}
    with Link(broker, "speaks") as speaks, contextlib.ExitStack() as stack:
        speaks.connect()
        assert speaks.publish_confirmed("t", b"old", retain=True, timeout_s=2)
        for name, takes_kept in (("wants", True), ("waits", False)):
            link = Link(
                *(broker, name),
                subscriptions=[("t", 0)],
                takes_kept=takes_kept,
                on_message=lambda _topic, payload, name=name: heard[name].append(payload),
            )
            stack.enter_context(link).connect()
            link.poll_until(lambda name=name: heard[name], 0.3)
            speaks.publish("t", b"new")
            assert link.poll_until(lambda name=name: b"new" in heard[name], 2)
    assert heard == {"wants": [b"old", b"new"], "waits": [b"new"]}


def test_an_address_is_tried_whole(monkeypatch):
    """One that is valid on one network only needs the number of its interface."""
    tried = []
    monkeypatch.setattr(socket.socket, "connect", lambda _self, where: tried.append(where))
    where = ("fe80::1", 1883, 0, 7)
    connected([(socket.AF_INET6, socket.SOCK_STREAM, 6, "", where)], 1).close()
    assert tried == [where]


def test_no_broker_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = parse_url(f"mqtt://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(LinkError, match="no broker answers at mqtt:"):
            Link(url, "lonely").connect()


def test_something_that_is_no_broker_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(LinkError, match="does not answer as an MQTT"):
        Link(parse_url(f"mqtt://127.0.0.1:{server.getsockname()[1]}"), "deaf").connect(timeout_s=0.5)


def test_a_host_that_does_not_even_refuse_holds_a_link_up_for_less_than_a_watchdog_waits():
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = server.getsockname()[1]
        for _ in range(3):  # its queue is full now: what else comes is not answered, as by a machine without power
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        link = stack.enter_context(Link(parse_url(f"mqtt://127.0.0.1:{port}"), "waits"))
        began_s = time.monotonic()
        link.poll(0.1)
        assert 1 < time.monotonic() - began_s < 4
        assert link.activity > 0
