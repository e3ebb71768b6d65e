"""Some steps of a running fleet, with all vectors and answers overheard."""

from typing import Final

import msgspec

from benchmarks.reached import Reached
from benchmarks.recomputed import Overheard
from broker.frame import FrameError, decode
from broker.topics import Topics
from edge_agent.answer import Answer

WATCHED: Final = 40
_decode_answer = msgspec.json.Decoder(Answer).decode


def overhear(reached: Reached) -> Overheard:
    """Feed some steps, and listen to all vectors and answers."""
    manifest, topics, overheard = reached.bundle.manifest, Topics(reached.fleet), Overheard()
    names = {topics.tensor(name): name for name in manifest.names}

    def on_message(topic: str, payload: bytes) -> None:
        if topic == topics.result:
            answer = _decode_answer(payload)
            overheard.answers[answer.step] = answer
            return
        name = names[topic]
        try:
            frame = decode(payload, bundle=reached.bundle.id, expected=manifest.entry(name).layout)
        except FrameError:
            return  # its receivers count it
        overheard.frames.setdefault(frame.step, {})[name] = frame

    with reached.watcher(on_message) as link, reached.probe() as probe:
        link.connect()
        for number in range(WATCHED):
            probe.one_by_one(1)
            link.poll_until(lambda number=number: len(overheard.answers) > number, 1.0)  # type: ignore[misc]
    return overheard
