"""Ask nodes something, as the operator, at whichever of the brokers they are; and tell them to go back to the first."""

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from broker.epoch import is_later
from broker.errors import FailureFound
from broker.link import Link, LinkError
from broker.message import Request
from broker.presence import Status, StatusError, decode_status
from broker.tls import Tls
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.commands import Command, Reply, decode_reply, encode_ask

_QUIET_S: Final = 0.3
_REPLY_S: Final = 5.0
_BACK_S: Final = 10.0
_IDLE_S: Final = 600  # nobody drives the link between two questions


class NoReply(FailureFound):
    """A node did not answer, or is nowhere."""


class NotMoved(FailureFound):
    """The fleet did not go back to its first broker."""


class Place(NamedTuple):
    """Where a node is, and in which epoch it was born there."""

    url: BrokerUrl
    epoch: int


def ask(url: BrokerUrl, fleet: str, nodes: Collection[str], command: Command, tls: Tls | None) -> dict[str, Reply]:
    """Send each of `nodes` a request, all at once, and return their replies; raises LinkError or NoReply."""
    with Operator(url, fleet, tls) as operator:
        return {node: answered.reply for node, answered in operator.ask(nodes, command).items()}


class Answered(NamedTuple):
    """A reply, and when it was asked for and had come, on this machine's monotonic clock."""

    reply: Reply
    asked_ns: int
    came_ns: int


class Operator:
    """A link that asks again and again; raises LinkError where nothing answers.

    Args:
        url: The broker.
        fleet: The fleet's name.
        tls: The operator's certificate.
        patience_s: How long all nodes together may take to reply.
    """

    def __init__(self, url: BrokerUrl, fleet: str, tls: Tls | None, patience_s: float = _REPLY_S) -> None:
        self._fleet, self._patience_s = fleet, patience_s
        self._topics = Topics(fleet)
        self._asked: dict[bytes, tuple[str, int]] = {}
        self._came: dict[str, Answered] = {}
        requests = (self._topics.reply("+"), self._on_reply)
        self._link = Link(url, _client_id(fleet), tls=tls, requests=requests, keepalive_s=_IDLE_S)

    def __enter__(self) -> "Operator":
        self._link.connect()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._link.__exit__(*exception)

    def ask(
        self, nodes: Collection[str], command: Command, meanwhile: Callable[[], object] = lambda: None
    ) -> dict[str, Answered]:
        """Send each of `nodes` a request, all at once, do something else, and return what they replied.

        Who is silent is asked again: a node whose link breaks loses what was on its way. Raises NoReply.
        """
        self._came.clear()
        self._asked.clear()
        ends_s = time.monotonic() + self._patience_s
        self._send(nodes, command)
        meanwhile()
        while not self._link.poll_until(lambda: len(self._came) == len(nodes), _REPLY_S):
            silent = [node for node in nodes if node not in self._came]
            if time.monotonic() > ends_s:
                raise NoReply(
                    f"{', '.join(silent)} of fleet {self._fleet} says nothing within {self._patience_s:.0f} s: "
                    "does it run, and does this broker let you command it?"
                )
            self._send(silent, command)
        return {node: self._came[node] for node in nodes}

    def _send(self, nodes: Collection[str], command: Command) -> None:
        for node in nodes:
            correlation = secrets.token_bytes(8)
            self._asked[correlation] = node, time.monotonic_ns()
            request = Request(encode_ask(command), self._topics.reply(node), correlation)
            self._link.request(self._topics.cmd(node), request)

    def _on_reply(self, reply: Request) -> None:
        came_ns = time.monotonic_ns()
        if reply.correlation in self._asked:
            node, asked_ns = self._asked[reply.correlation]
            self._came[node] = Answered(decode_reply(reply.payload), asked_ns, came_ns)


def find(urls: Sequence[BrokerUrl], fleet: str, tls: Tls | None) -> dict[str, Place]:
    """Return where each node that is online is, by the births that the brokers keep.

    Raises LinkError if none of them answers, NoReply if nobody is there.
    """
    found: dict[str, Place] = {}
    failure: LinkError | None = None
    answering = 0
    for url in urls:
        try:
            with _statuses(url, fleet, tls) as (link, statuses):
                _listen(link, statuses)
        except LinkError as error:
            failure = error
            continue
        answering += 1
        for node, status in statuses.items():
            if status.online and (node not in found or is_later(status.epoch, found[node].epoch)):
                found[node] = Place(url, status.epoch)
    if failure and not answering:
        raise failure
    if not found:
        raise NoReply(f"no node of fleet {fleet} is online at {', '.join(map(str, urls))}")
    return found


def ask_wherever(places: dict[str, Place], fleet: str, command: Command, tls: Tls | None) -> dict[str, Reply]:
    """Ask nodes where they are, and return their replies; raises LinkError or NoReply."""
    replies: dict[str, Reply] = {}
    for url in dict.fromkeys(place.url for place in places.values()):
        there = [node for node, place in places.items() if place.url == url]
        replies.update(ask(url, fleet, there, command, tls))
    return {node: replies[node] for node in places}


def bring_back(places: dict[str, Place], first: BrokerUrl, fleet: str, tls: Tls | None) -> dict[str, Reply]:
    """Tell nodes to go back to their first broker, and return once all are born there.

    Nobody is told before all have found that broker to let them in. Raises LinkError, NoReply or NotMoved.
    """
    away = {node: place for node, place in places.items() if place.url != first}
    with _statuses(first, fleet, tls):
        pass  # it answers here, at least
    _require_willing(ask_wherever(away, fleet, "probe", tls), "nobody was told to move")
    replies = ask_wherever(away, fleet, "return", tls)
    _require_willing(replies, "the others moved")
    with _statuses(first, fleet, tls) as (link, born):

        def late() -> list[str]:
            return [
                node
                for node, place in away.items()
                if not (node in born and born[node].online and is_later(born[node].epoch, place.epoch))
            ]

        if not link.poll_until(lambda: not late(), _BACK_S):
            raise NotMoved(
                f"{', '.join(late())} did not come to {first} within {_BACK_S:.0f} s: is it the first in their own "
                "list? A node that does not get in where it was told to goes on to the next"
            )
        return {
            node: Reply(
                command="return", node=node, epoch=born[node].epoch, bundle=born[node].bundle, broker=str(first)
            )
            for node in away
        }


def _listen(link: Link, statuses: dict[str, Status]) -> None:
    """Return once nothing more comes of what the broker keeps."""
    heard = -1
    while len(statuses) > heard:
        heard = len(statuses)
        link.poll_until(lambda: False, _QUIET_S)


def _require_willing(replies: dict[str, Reply], outcome: str) -> None:
    for node, reply in replies.items():
        if reply.refusal:
            raise NotMoved(f"{node} stays at {reply.broker}, and {outcome}: {reply.refusal}")


def _client_id(fleet: str) -> str:
    return f"{fleet}-ask-{secrets.token_hex(8)}"


@contextmanager
def _statuses(url: BrokerUrl, fleet: str, tls: Tls | None) -> Iterator[tuple[Link, dict[str, Status]]]:
    """Yield a link to a broker and the last status of each node, as the link hears them; raises LinkError."""
    topics = Topics(fleet)
    statuses: dict[str, Status] = {}

    def on_message(topic: str, payload: bytes) -> None:
        try:
            statuses[topic.split("/")[2]] = decode_status(payload)
        except StatusError:
            return

    every = [(topics.status("+"), 1)]
    with Link(url, _client_id(fleet), tls=tls, subscriptions=every, on_message=on_message) as link:
        link.connect()
        yield link, statuses
