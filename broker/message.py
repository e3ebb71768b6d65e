"""What goes over a link besides what is streamed: a message for a topic, and a request that wants its reply."""

from typing import NamedTuple


class Message(NamedTuple):
    """A topic and what goes there."""

    topic: str
    payload: bytes


class Request(NamedTuple):
    """What came on the topic for requests, and where its sender waits for the reply, marked so (MQTT 5)."""

    payload: bytes
    reply_to: str
    correlation: bytes
