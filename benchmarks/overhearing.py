"""Some steps of a running fleet, with all vectors and answers overheard."""

from typing import Final

import msgspec

from benchmarks.reached import Reached
from benchmarks.recomputed import Overheard
from broker.frame import FrameError, decode
from broker.link import Link
from broker.topics import Topics
from edge_agent.answer import Answer

WATCHED: Final = 40
_decode_answer = msgspec.json.Decoder(Answer).decode


def listening(reached: Reached, overheard: Overheard) -> Link:
    """Return a link, not connected yet, that puts all vectors and answers into `overheard`; raises TlsError."""
    manifest, topics = reached.bundle.manifest, Topics(reached.fleet)
    names = {topics.tensor(name): name for name in manifest.names}

    def on_message(topic: str, payload: bytes) -> None:
        try:
            if topic == topics.result:
                answer = _decode_answer(payload)
                overheard.answers.setdefault(answer.step, answer)
            elif name := names.get(topic):
                frame = decode(payload, bundle=reached.bundle.id, expected=manifest.entry(name).layout)
                overheard.frames.setdefault(frame.step, {}).setdefault(name, frame)
        except (FrameError, msgspec.DecodeError, UnicodeDecodeError):
            return  # its receivers count it

    return reached.witness(on_message)


def overhear(reached: Reached) -> Overheard:
    """Feed some steps, and listen to all vectors and answers."""
    overheard = Overheard()
    with listening(reached, overheard) as link, reached.probe() as probe:
        link.connect()
        for number in range(WATCHED):
            probe.one_by_one(1)
            link.poll_until(lambda number=number: len(overheard.answers) > number, 1.0)  # type: ignore[misc]
    return overheard
