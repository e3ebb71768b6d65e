"""The barest relay of a bundle's graphs over MQTT: what any agent on this machine and broker is compared with.

One process a node runs the node's own graph; on the wire are the step's number and raw floats, nothing else: no
deadlines, presence, checks or metrics. What an agent adds to this is its overhead.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from broker.errors import FailureFound
from broker.link import Link
from broker.process import spawn, stop
from broker.url import BrokerUrl
from edge_agent.bundle import Bundle, load
from edge_agent.session import open_graph

STEP = struct.Struct("<Q")
START_S = 30.0


class FloorSilent(FailureFound):
    """The relays did not start."""


class Relay:
    """One node of the relay: waits for one vector of each source, runs the graph, publishes.

    Args:
        bundle: Whose graph it runs.
        node: Which one.
        topic: What its topics begin with.
    """

    def __init__(self, bundle: Bundle, node: str, topic: str) -> None:
        entry = bundle.manifest.entry(node)
        self._session = open_graph(bundle.file(entry.file))
        self._sources = {topic + source: position for position, source in enumerate(entry.inputs)}
        self._names = list(entry.inputs)
        self._dtypes = {topic + source: layout.numpy for source, layout in bundle.manifest.arriving(node).items()}
        self._own = topic + node
        self._ready = f"{topic}ready/{node}"
        self._waiting: dict[bytes, list[Any]] = {}

    def serve(self, url: BrokerUrl) -> None:
        """Relay until the process is ended."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        client.on_socket_open = _send_at_once
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.connect(url.host, url.port, keepalive=30)
        client.loop_forever()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe([(topic, 0) for topic in self._sources])

    def _on_subscribe(self, client: mqtt.Client, *_: Any) -> None:
        client.publish(self._ready, b"1", retain=True)

    def _on_message(self, client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        _acknowledge_at_once(client.socket())
        step = bytes(message.payload[: STEP.size])
        inputs = self._waiting.setdefault(step, [None] * len(self._names))
        dtype = self._dtypes[message.topic]
        inputs[self._sources[message.topic]] = np.frombuffer(message.payload, dtype, offset=STEP.size)[None]
        if any(vector is None for vector in inputs):
            return
        del self._waiting[step]
        output = self._session.run(None, dict(zip(self._names, inputs, strict=True)))[0]
        client.publish(self._own, step + output.tobytes())


def _send_at_once(_client: mqtt.Client, _userdata: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _acknowledge_at_once(connection: Any) -> None:
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


@contextlib.contextmanager
def running_floor(bundle: Bundle, url: BrokerUrl, folder: Path) -> Iterator[str]:
    """Start one relay process per node, logs in `folder`; yield what their topics begin with."""
    topic = f"floor/{os.getpid()}/"
    processes = []
    ready: set[str] = set()
    with contextlib.ExitStack() as stack:
        for node in bundle.manifest.nodes:
            task = json.dumps({"bundle": str(bundle.path.resolve()), "node": node, "topic": topic, "url": url})
            command = [sys.executable, "-m", "benchmarks.floor", task]
            processes.append(spawn(command, log=folder / f"floor-{node}.log", folder=folder))
            stack.callback(stop, processes[-1])
        link = stack.enter_context(
            Link(
                url,
                f"floor-{os.getpid()}",
                subscriptions=[(f"{topic}ready/+", 0)],
                on_message=lambda t, _p: ready.add(t),
            )
        )
        link.connect()
        if not link.poll_until(lambda: len(ready) == len(processes), START_S):
            raise FloorSilent(f"after {START_S:.0f} s {len(ready)} of {len(processes)} relays are ready")
        for name in ready:
            link.publish(name, b"", retain=True)
        yield topic


def main() -> None:
    """Be one relay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started it ends it
    task = json.loads(sys.argv[1])
    Relay(load(Path(task["bundle"])), task["node"], task["topic"]).serve(BrokerUrl(*task["url"]))


if __name__ == "__main__":
    main()
