import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from broker.epoch import MAX_EPOCH
from broker.frame import (
    CUT,
    HEADER_BYTES,
    LAST,
    MAX_PAYLOAD_BYTES,
    NULL,
    Frame,
    FrameError,
    Layout,
    decode,
    encode,
    seal,
)

BUNDLE = b"bundle00"
u64 = st.integers(0, 2**64 - 1)
vectors = st.sampled_from(["<f4", "<f2", "i1"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, max_side=6))
)
frames = st.builds(
    Frame,
    step=u64,
    epoch=st.integers(0, MAX_EPOCH),
    bundle=st.binary(min_size=8, max_size=8),
    values=st.none() | vectors,
    contributors=u64,
    origin_ns=u64,
    flags=st.sampled_from([0, CUT, LAST, CUT | LAST]),
)


def same(found: Frame, sent: Frame) -> bool:
    if sent.values is None or found.values is None:
        return found.values is None and sent.values is None and found._replace(flags=found.flags & ~NULL) == sent
    equal = found.values.dtype == sent.values.dtype and np.array_equal(
        found.values, sent.values, equal_nan=sent.values.dtype.kind == "f"
    )
    return equal and found._replace(values=None) == sent._replace(values=None)


@given(frames)
def test_what_is_encoded_is_decoded(frame):
    assert same(decode(encode(frame)), frame)


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_a_reason(data):
    with pytest.raises(FrameError) as refused:
        decode(data)
    assert refused.value.reason in {"length", "magic"}


@pytest.mark.parametrize("dims", [(0,), (0, 2**32 - 1, 2**32 - 1)])
def test_a_shape_of_nothing_is_refused(dims):
    empty = bytearray(encode(Frame(1, 1, BUNDLE, np.zeros((1, 1, 1), np.float32), 0, 0))[:HEADER_BYTES])
    empty[8:24] = struct.pack("<4I", *dims, *[0] * (4 - len(dims)))
    empty[64:68] = bytes(4)
    with pytest.raises(FrameError) as refused:
        decode(seal(bytes(empty)))
    assert refused.value.reason == "shape"


@given(frames, st.data())
def test_a_frame_with_changed_bits_is_refused(frame, data):
    sent = encode(frame)
    changed = bytearray(sent)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError) as refused:
        decode(bytes(changed))
    expected = {"magic"} if at < 4 else {"version"} if at < 5 else {"length", "size"} if 64 <= at < 68 else {"checksum"}
    assert refused.value.reason in expected
    assert seal(sent) == sent


@given(frames, st.data())
def test_a_mutated_frame_is_refused_or_another_frame(frame, data):
    mutated = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)))
    for candidate in (bytes(mutated), seal(bytes(mutated)), bytes(mutated[:cut])):
        try:
            found = decode(candidate)
        except FrameError:
            continue
        assert found.values is None or found.values.nbytes == len(candidate) - HEADER_BYTES


def test_decoding_copies_nothing():
    data = encode(Frame(1, 2, BUNDLE, np.arange(250, dtype=np.float32)))
    assert np.shares_memory(decode(data).values, np.frombuffer(data, np.uint8))


def test_a_null_vector_is_a_header_alone():
    data = encode(Frame(7, 1, BUNDLE, None))
    assert len(data) == HEADER_BYTES
    assert decode(data).is_null


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, 0, "magic"),
        (4, 1, "version"),
        (5, 0x80, "flags"),
        (6, 9, "dtype"),
        (7, 5, "shape"),
        (8, 3, "shape"),
        (39, 0x20, "epoch"),
    ],
)
def test_each_header_field_is_checked(offset, value, reason):
    data = bytearray(encode(Frame(1, 1, BUNDLE, np.zeros(4, np.float32))))
    data[offset] = value
    with pytest.raises(FrameError) as refused:
        decode(seal(bytes(data)))
    assert refused.value.reason == reason


def test_a_frame_of_another_bundle_or_shape_is_refused():
    data = encode(Frame(1, 1, BUNDLE, np.zeros(4, np.float32)))
    decode(data, bundle=BUNDLE, expected=Layout((4,)))
    with pytest.raises(FrameError, match="runs bundle"):
        decode(data, bundle=b"another0")
    for expected in (Layout((5,)), Layout((4,), "float16"), Layout((2, 2))):
        with pytest.raises(FrameError, match="the manifest says"):
            decode(data, bundle=BUNDLE, expected=expected)


def test_a_length_over_the_limit_is_refused_before_anything_is_made_of_it():
    data = bytearray(encode(Frame(1, 1, BUNDLE, np.zeros(4, np.float32))))
    data[64:68] = (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(FrameError) as refused:
        decode(bytes(data))
    assert refused.value.reason == "size"


def test_what_cannot_be_sent_is_said_at_the_sender():
    with pytest.raises(FrameError, match="float64"):
        encode(Frame(1, 1, BUNDLE, np.zeros(4)))  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="rank 5"):
        encode(Frame(1, 1, BUNDLE, np.zeros((1,) * 5, np.float32)))
    with pytest.raises(FrameError, match="limit"):
        encode(Frame(1, 1, BUNDLE, np.zeros(MAX_PAYLOAD_BYTES + 1, np.int8)))
