"""Whatever arrives on a topic: it crashes nothing, is counted by its reason, and takes no memory that stays or matters.

A mutation changes, cuts, repeats or inserts bytes of a message that is right. A million of them: `-m slow`.
"""

import ast
import logging
import random
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from broker.epoch import MAX_EPOCH
from broker.frame import CUT, Frame, FrameError, Layout, decode, encode, seal
from broker.presence import Status, StatusError, decode_status, encode_status
from broker.topics import Topics
from edge_agent.answer import Answer, softmax
from edge_agent.commands import CommandError, decode_ask, encode_ask
from edge_agent.loading import load_session
from edge_agent.metrics import Metrics
from edge_agent.node import Node

T = Topics("test")
_log = logging.getLogger("fuzz")
LIMIT_BYTES = 1 << 20
REASONS = {"length", "magic", "version", "flags", "dtype", "shape", "size", "checksum", "bundle", "epoch"}
REASONS |= {"status", "command", "finite"}
seeds = st.integers(0, (1 << 64) - 1)


def mutated(draw: random.Random, payload: bytes) -> bytes:
    """`payload` after one to four changes of the kinds that break parsers."""
    data = bytearray(payload)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        match draw.choice((0, 0, 0, 1, 2, 3, 4, 5)):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            case 3:
                data[at : at + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", bytes(4)))
            case 4:
                data[at:at] = data[:at] * draw.randint(1, 3)
            case 5:
                data[at:at] = draw.choice((b"-1", b"1e999", b"9" * 400, b'"', b"[" * 300, b"null", b"\\ud800"))
        if len(data) > 20_000:
            del data[20_000:]
    return bytes(data)


class Target:
    """A node that hears what a fuzzer says; its own messages are decoded again."""

    def __init__(self, bundle, name="cloud"):
        self.bundle, self.now_ns, self.sent, self.said = bundle, 0, 0, []
        self.node = Node(name, bundle, load_session(bundle, name), T, self.hear, lambda: self.now_ns)
        self.node.epoch = 1

    def hear(self, topic, payload):
        self.said.append(topic)
        msgspec.json.decode(payload, type=Answer if topic == T.result else Metrics)

    def say(self, draw: random.Random):
        """One mutated message; returns the reason that it must be counted under, None if it is right after all."""
        self.sent += 1
        self.now_ns += draw.randrange(10_000_000)
        kind = draw.choice(("tensor", "tensor", "step", "status", "request"))
        source = draw.choice(("f1", "f2"))
        if kind == "status":
            right = encode_status(Status(online=draw.random() < 0.7, epoch=draw.randrange(5), bundle="ab"))
            payload = mutated(draw, right)
            self.node.on_message(T.status(source), payload, self.now_ns)
            return reason_of(lambda: payload and decode_status(payload), StatusError, "status")
        if kind == "request":
            payload = mutated(draw, encode_ask(draw.choice(("ping", "metrics", "trace"))))
            self.node.on_request(payload)
            return reason_of(lambda: decode_ask(payload), CommandError, "command")
        head = (draw.randrange(50), draw.randrange(3), self.bundle.id)
        values = None if kind == "step" else np.full(250, draw.uniform(-9, 9), np.float32)
        payload = mutated(draw, encode(Frame(*head, values, draw.randrange(32), 5, draw.choice((0, CUT)))))
        if draw.random() < 0.7:
            payload = seal(payload)  # what gets past the checksum is to be refused for what else is wrong
        self.node.on_message(T.step if kind == "step" else T.tensor(source), payload, self.now_ns)
        expected = None if kind == "step" else Layout((250,))
        try:
            decode(payload, bundle=self.bundle.id, expected=expected)
        except FrameError as error:
            return error.reason
        return None


def reason_of(parse, kind, reason):
    try:
        parse()
    except kind:
        return reason
    return None


def bombard(target: Target, draw: random.Random, count: int):
    """Say `count` mutated messages, and check that each refusal was counted under its reason.

    That a vector is not finite is found when its step is computed, whenever that is.
    """

    def refused():
        return {reason: count for reason, count in target.node.metrics().rejected.items() if reason != "finite"}

    for _ in range(count):
        before = refused()
        reason = target.say(draw)
        expected = {**before, reason: before.get(reason, 0) + 1} if reason else before
        assert refused() == expected
        if draw.random() < 0.1:
            target.node.on_time(target.now_ns)


@given(seeds)
@settings(max_examples=100)
def test_mutated_messages_crash_nothing_and_are_counted_by_reason(bundle, seed):
    bombard(Target(bundle), random.Random(seed), 100)


@pytest.mark.slow
@pytest.mark.compute
@pytest.mark.timeout(3600)
def test_a_million_mutated_messages(bundle):
    """The same node hears all of them: what it keeps must not grow."""
    target, peaks, kept = Target(bundle), [], []

    @given(seeds)
    @settings(max_examples=1000, database=None)
    def thousand(seed):
        draw = random.Random(seed)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        bombard(target, draw, 1000)
        target.said.clear()
        after, peak = tracemalloc.get_traced_memory()
        peaks.append(peak - before)
        kept.append(after - before)

    tracemalloc.start()
    try:
        thousand()
    finally:
        tracemalloc.stop()
    rejected = target.node.metrics().rejected
    _log.info("%d messages, peak %d bytes, kept %d bytes: %s", target.sent, max(peaks), sum(kept), rejected)
    assert target.sent >= 1_000_000
    assert set(rejected) == REASONS
    assert max(peaks) < LIMIT_BYTES
    assert sum(kept) < LIMIT_BYTES


@pytest.mark.parametrize("size", [2_000, 20_000, 16 << 20])
def test_refusing_takes_no_memory_however_large_the_message(bundle, size):
    node = Target(bundle).node
    header = bytearray(encode(Frame(1, 1, bundle.id, np.zeros(250, np.float32))))[:72]
    header[64:68] = (size - 72).to_bytes(4, "little")
    shaped = bytearray(header)
    shaped[8:12] = ((size - 72) // 4).to_bytes(4, "little")
    messages = [
        (T.tensor("f1"), bytes(size)),
        (T.tensor("f1"), bytes(header) + bytes(size - 72)),
        (T.tensor("f1"), seal(bytes(header) + bytes(size - 72))),
        (T.tensor("f1"), seal(bytes(shaped) + bytes(size - 72))),
        (T.step, bytes(size)),
        (T.status("f1"), b'{"online":true,"epoch":1,"bundle":"' + b"a" * size + b'"}'),
        (T.status("f1"), b"[" * size),
        (T.status("f1"), b'{"online":true,"epoch":' + b"9" * size + b"}"),
    ]
    requests = [b'{"command":"' + b"p" * size + b'"}', b"[" * size]
    tracemalloc.start()
    try:
        for topic, payload in messages:
            node.on_message(topic, payload, 1)
        for payload in requests:
            node.on_request(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(node.metrics().rejected.values()) == len(messages) + len(requests)
    assert peak < 100_000


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_the_scores_of_an_answer_are_probabilities_however_large_its_logits(values):
    scores = softmax(np.array(values, np.float32))
    assert np.isfinite(scores).all()
    assert scores.sum() == pytest.approx(1, abs=1e-3)


def test_vectors_of_no_numbers_are_answered_and_crash_nothing(bundle):
    target = Target(bundle)
    for step, value in enumerate((np.nan, np.inf, -np.inf, 3e38, -3e38)):
        for source in ("f1", "f2"):
            target.node.on_message(T.status(source), encode_status(Status(online=True, epoch=1)), 0)
        for source in ("f1", "f2"):
            frame = Frame(step, 1, bundle.id, np.full(250, value, np.float32), 1)
            target.node.on_message(T.tensor(source), encode(frame), 0)
    assert target.said.count(T.result) == 5


@pytest.mark.parametrize("epoch", ["-1", str(MAX_EPOCH + 1), str(1 << 64), "1" + 800 * "0", "1.5", "1e3", "null"])
def test_an_epoch_that_no_frame_can_carry_is_refused(epoch):
    with pytest.raises(StatusError):
        decode_status(f'{{"online":true,"epoch":{epoch}}}'.encode())
    assert decode_status(f'{{"online":true,"epoch":{MAX_EPOCH}}}'.encode()).epoch == MAX_EPOCH


DANGEROUS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}


@pytest.mark.parametrize("folder", ["broker", "edge_agent", "provisioning"])
def test_no_pickle_no_eval_and_nothing_that_runs_what_it_reads(folder):
    for file in (ROOT / folder).glob("*.py"):
        for part in ast.walk(ast.parse(file.read_text())):
            if isinstance(part, ast.Import):
                assert DANGEROUS.isdisjoint(name.name.split(".")[0] for name in part.names), file
            elif isinstance(part, ast.ImportFrom):
                assert (part.module or "").split(".")[0] not in DANGEROUS, file
            elif isinstance(part, ast.Call):
                name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
                assert name not in {"eval", "exec", "__import__"}, file
                for keyword in part.keywords:
                    assert keyword.arg != "allow_pickle" or ast.unparse(keyword.value) == "False", file
                    assert keyword.arg != "shell" or ast.unparse(keyword.value) == "False", file


def test_no_file_of_a_bundle_is_or_holds_a_pickle(bundle):
    """NumPy arrays of objects and PyTorch's archives are pickles; a bundle has neither."""
    for file in bundle.path.rglob("*"):
        if file.is_file():
            assert file.suffix in {".json", ".onnx", ".npy", ".safetensors"}, file
            if file.suffix == ".npy":
                np.load(file, allow_pickle=False)
