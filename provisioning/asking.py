"""Ask one node something, as the operator."""

import secrets

from broker.errors import FailureFound
from broker.link import Link
from broker.message import Request
from broker.tls import Tls
from broker.topics import Topics
from broker.url import BrokerUrl
from edge_agent.commands import Command, Reply, decode_reply, encode_ask


class NoReply(FailureFound):
    """A node did not answer."""


def ask(url: BrokerUrl, fleet: str, node: str, command: Command, tls: Tls | None, timeout_s: float = 5.0) -> Reply:
    """Send a request and return the reply; raises LinkError, or NoReply after `timeout_s` seconds."""
    topics = Topics(fleet)
    replies: list[bytes] = []
    request = Request(encode_ask(command), topics.reply(node), secrets.token_bytes(8))

    def on_reply(reply: Request) -> None:
        if reply.correlation == request.correlation:
            replies.append(reply.payload)

    with Link(url, f"{fleet}-ask-{request.correlation.hex()}", tls=tls, requests=(request.reply_to, on_reply)) as link:
        link.connect()
        link.request(topics.cmd(node), request)
        if not link.poll_until(lambda: bool(replies), timeout_s):
            raise NoReply(
                f"{node} of fleet {fleet} says nothing within {timeout_s:.0f} s: "
                "does it run, and does this broker let you command it?"
            )
    return decode_reply(replies[0])
