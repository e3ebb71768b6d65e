"""Where a named host is: a name server that takes its time holds nobody up for longer than that was agreed."""

import socket
import threading
import time

import pytest

from broker.link import Link, LinkError
from broker.lookup import Lookup
from broker.url import parse_url

WATCHDOG_S = 5


@pytest.fixture
def names(monkeypatch):
    """The system's resolver: what a name is asked for waits until it is told, as mDNS does for a device that is off."""
    ask, answer, asked = socket.getaddrinfo, threading.Event(), []

    def getaddrinfo(host, *arguments, flags=0, **options):
        if host != "broker.local" or flags & socket.AI_NUMERICHOST:
            return ask(host, *arguments, flags=flags, **options)
        asked.append(host)
        if not answer.wait(20):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield answer, asked
    answer.set()


def test_a_name_that_nobody_answers_for_holds_a_link_up_for_less_than_a_watchdog_waits(names):
    with Link(parse_url("mqtt://broker.local:1883"), "waits") as link:
        for _ in range(2):
            began_s, before = time.monotonic(), link.activity
            while link.activity == before:
                link.poll(0.1)
            assert time.monotonic() - began_s < WATCHDOG_S / 2


def test_a_link_finds_its_broker_as_soon_as_its_name_is_answered_for(names, broker):
    answer, asked = names
    with Link(parse_url(f"mqtt://broker.local:{broker.port}"), "finds") as link:
        link.poll(0.1)
        assert not link.is_up
        answer.set()
        assert link.poll_until(lambda: link.is_up, 10)
    assert asked == ["broker.local"]


def test_whoever_connects_once_waits_for_the_name_as_long_as_for_the_broker(names, broker):
    threading.Timer(1.5, names[0].set).start()
    with Link(parse_url(f"mqtt://broker.local:{broker.port}"), "once") as link:
        link.connect()
        assert link.is_up


def test_a_name_that_nobody_knows_is_told_and_asked_for_again():
    lookup = Lookup()
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            lookup.addresses("nowhere.invalid", 1883, 20)
    with pytest.raises(LinkError, match=r"no broker answers at mqtt://nowhere\.invalid:1883"):
        Link(parse_url("mqtt://nowhere.invalid"), "lost").connect()
