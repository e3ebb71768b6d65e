"""Messages that no member of a fleet may take for anything, and who must have counted them as refused."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from broker.frame import Frame, encode, seal
from broker.topics import Topics
from edge_agent.bundle import Bundle
from edge_agent.flow import ancestors

_TEXTS = (
    b"\xff\xfe\xfd",
    b"{",
    b"null",
    b'"\xff"',
    b'{"online":true}',
    b'{"online":false,"epoch":-1}',
    b'{"online":false,"epoch":1e999}',
    b'{"online":true,"epoch":1,"surplus":0}',
    b'{"command":"halt"}',
    b"[" * 1500,
    b'{"command":"ping","' + b"x" * 2000 + b'":0}',
)


def listeners(bundle: Bundle, topics: Topics) -> Mapping[str, tuple[str, ...]]:
    """Return each topic below the fleet, and the nodes that must count what they refuse there.

    A node overlooks what is wrong on its own status topic; results, metrics and replies no node hears.
    """
    manifest = bundle.manifest
    heard: dict[str, list[str]] = {topics.result: [], topics.step: [manifest.sink]}
    for name in manifest.names:
        heard[topics.tensor(name)] = [node for node, sources in manifest.inputs.items() if name in sources]
    for name in manifest.nodes:
        heirs = [node for node in manifest.nodes if name in ancestors(manifest.inputs, node)]
        heard[topics.status(name)] = heirs
        heard[topics.beat(name)] = [*heirs, name]
        heard[topics.cmd(name)] = [name]
        heard[topics.metrics(name)] = heard[topics.reply(name)] = []
    return {topic: tuple(nodes) for topic, nodes in heard.items()}


def burst(
    bundle: Bundle, topics: Topics, count: int, generator: random.Random
) -> tuple[list[tuple[str, bytes]], Counter[str]]:
    """Return `count` messages to random topics, and how many each node must refuse."""
    heard = listeners(bundle, topics)
    payloads = _payloads(bundle, generator)
    messages = [(generator.choice(list(heard)), next(payloads)) for _ in range(count)]
    return messages, Counter(node for topic, _ in messages for node in heard[topic])


def _payloads(bundle: Bundle, generator: random.Random) -> Iterator[bytes]:
    while True:
        yield generator.choice(_TEXTS)
        yield _noise(generator)
        yield _damaged(bundle, generator)


def _noise(generator: random.Random) -> bytes:
    """Return bytes; one that is as long as a beat ends with an interval that no beat has."""
    noise = generator.randbytes(generator.choice((1, 4, 20, 71, 72, 400)))
    return noise[:16] + b"\xff" * 4 if len(noise) == 20 else noise


def _damaged(bundle: Bundle, generator: random.Random) -> bytes:
    """Return a frame with one thing wrong."""
    shape = generator.choice([each.shape for each in bundle.manifest.nodes.values()])
    frame = Frame(generator.getrandbits(63), 1, bundle.id, np.ones(shape, np.float32))
    whole = encode(frame)
    return generator.choice(
        (
            whole[: generator.randrange(1, len(whole))],
            whole + b"\0",
            b"FOGX" + whole[4:],
            whole[:4] + b"\x09" + whole[5:],
            seal(whole[:5] + b"\xf0" + whole[6:]),
            seal(whole[:6] + b"\x63" + whole[7:]),
            whole[:-1] + bytes([whole[-1] ^ 1]),
            encode(frame._replace(bundle=bytes(8))),
            seal(whole[:7] + b"\x05" + whole[8:]),
            seal(whole[:8] + b"\xff\xff\xff\xff" + whole[12:]),
        )
    )
