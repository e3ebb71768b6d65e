"""A frame: one tensor on the wire, a fixed little-endian header and raw bytes.

    offset  bytes
    0       4      magic "FOGT"
    4       1      version, 2
    5       1      flags: 1 null vector, 2 cut off (a living source upstream was not waited for), 4 last
    6       1      dtype: 1 float32, 2 float16, 3 int8
    7       1      rank, 0 to 4
    8       16     shape, four u32, unused ones 0
    24      8      step
    32      8      epoch of the sender
    40      8      bundle id
    48      8      contributors, one bit a node, in the manifest's order
    56      8      origin time in ns, on the clock of the source of the step
    64      4      payload length in bytes
    68      4      checksum: CRC-32 of the 68 bytes before it and the payload
    72             payload, C order

Decoding copies nothing, and refuses whatever does not fit, with the reason in one word. The checksum is for links and
memories that change bits unnoticed; it holds off nobody who means harm.
"""

import math
import struct
import zlib
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.epoch import MAX_EPOCH
from broker.errors import FogError

Vector = npt.NDArray[np.float32 | np.float16 | np.int8]
Dtype = Literal["float32", "float16", "int8"]
Reason = Literal["length", "magic", "version", "flags", "dtype", "shape", "size", "checksum", "bundle", "epoch"]

NULL: Final = 1
CUT: Final = 2
LAST: Final = 4

MAX_PAYLOAD_BYTES: Final = 16 << 20
HEADER_BYTES: Final = 72
_HEADER = struct.Struct("<4sBBBB4IQQ8sQQI")
_CHECKSUM = struct.Struct("<I")
_BUNDLE = slice(40, 48)
_MAGIC = b"FOGT"
_VERSION = 2
_DTYPES: Final[dict[int, np.dtype[Any]]] = {1: np.dtype("<f4"), 2: np.dtype("<f2"), 3: np.dtype("i1")}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_NUMPY: Final = {dtype.name: dtype for dtype in _DTYPES.values()}


class Layout(NamedTuple):
    """What a vector looks like, no batch counted."""

    shape: tuple[int, ...]
    dtype: Dtype = "float32"

    def __str__(self) -> str:
        return f"{self.shape} of {self.dtype}"

    @property
    def bytes(self) -> int:
        """What its values take on the wire."""
        return math.prod(self.shape) * self.numpy.itemsize

    @property
    def numpy(self) -> "np.dtype[Any]":
        """The dtype for numpy."""
        return _NUMPY[self.dtype]


class FrameError(FogError):
    """Bytes that are not a frame, or not one that this receiver expects."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"frame refused, {reason}: {detail}")
        self.reason: Reason = reason


class Frame(NamedTuple):
    """One node's output vector for one step; `values` is None for the null vector."""

    step: int
    epoch: int
    bundle: bytes
    values: Vector | None
    contributors: int = 0
    origin_ns: int = 0
    flags: int = 0

    @property
    def is_null(self) -> bool:
        """Whether this is the null vector Φ."""
        return self.values is None

    @property
    def is_cut(self) -> bool:
        """Whether a living source was not waited for, here or upstream."""
        return bool(self.flags & CUT)


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes; raises FrameError if its dtype, rank or size cannot be sent."""
    values = frame.values
    if values is None:
        code, rank, shape, payload, flags = 1, 0, (0, 0, 0, 0), b"", frame.flags | NULL
    else:
        if values.dtype not in _CODES:
            raise FrameError("dtype", f"{values.dtype} is not one of {[str(d) for d in _CODES]}")
        if values.ndim > 4:
            raise FrameError("shape", f"rank {values.ndim} is over 4")
        code, rank, payload, flags = _CODES[values.dtype], values.ndim, values.tobytes(), frame.flags & ~NULL
        shape = (*values.shape, 0, 0, 0, 0)[:4]
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise FrameError("size", f"{len(payload)} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    header = _HEADER.pack(
        _MAGIC, _VERSION, flags, code, rank, *shape, frame.step, frame.epoch, frame.bundle,
        frame.contributors, frame.origin_ns, len(payload),
    )  # fmt: skip
    return header + _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(header))) + payload


def seal(data: bytes) -> bytes:
    """Return the frame in `data` with the checksum that its bytes should have."""
    return data[: _HEADER.size] + _CHECKSUM.pack(_checksum(data)) + data[HEADER_BYTES:]


def _checksum(data: bytes) -> int:
    """Return the checksum that a frame's bytes should have."""
    return zlib.crc32(memoryview(data)[HEADER_BYTES:], zlib.crc32(data[: _HEADER.size]))


def bundle_of(data: bytes) -> bytes:
    """Return the bundle id where a frame has it; whether `data` is a frame, only `decode` tells."""
    return data[_BUNDLE]


def decode(data: bytes, *, bundle: bytes | None = None, expected: Layout | None = None) -> Frame:
    """Return the frame in `data`, its values a read-only view of those bytes.

    With `bundle`, refuse a frame of another bundle; with `expected`, one of another layout.
    Raises FrameError and nothing else, whatever the bytes are.
    """
    if len(data) < HEADER_BYTES:
        raise FrameError("length", f"{len(data)} bytes, a header alone has {HEADER_BYTES}")
    magic, version, flags, code, rank, *dims, step, epoch, sender_bundle, contributors, origin_ns, length = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC:
        raise FrameError("magic", f"begins with {magic!r}")
    if version != _VERSION:
        raise FrameError("version", f"version {version}, this side speaks {_VERSION}")
    if length > MAX_PAYLOAD_BYTES:
        raise FrameError("size", f"{length} bytes is over the limit of {MAX_PAYLOAD_BYTES}")
    if len(data) != HEADER_BYTES + length:
        raise FrameError("length", f"{len(data)} bytes, the header says {HEADER_BYTES + length}")
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if checksum != _checksum(data):
        raise FrameError("checksum", "bits have changed on the way")
    if flags & ~(NULL | CUT | LAST):
        raise FrameError("flags", f"unknown bits in {flags:#x}")
    if bundle is not None and sender_bundle != bundle:
        raise FrameError("bundle", f"sender runs bundle {sender_bundle.hex()}, this node {bundle.hex()}")
    if epoch > MAX_EPOCH:
        raise FrameError("epoch", f"{epoch} is over {MAX_EPOCH}")
    head = (step, epoch, sender_bundle)
    tail = (contributors, origin_ns, flags)
    if flags & NULL:
        if length or rank or any(dims):
            raise FrameError("shape", "a null vector has neither shape nor payload")
        return Frame(*head, None, *tail)
    dtype = _DTYPES.get(code)
    if dtype is None:
        raise FrameError("dtype", f"code {code}")
    sent = tuple(dims[:rank])
    if rank > 4 or 0 in sent or any(dims[rank:]) or math.prod(sent) * dtype.itemsize != length:
        raise FrameError("shape", f"{length} bytes do not hold {sent} of {dtype}")
    if expected is not None and (sent != expected.shape or dtype is not _NUMPY[expected.dtype]):
        raise FrameError("shape", f"{sent} of {dtype}, the manifest says {expected}")
    return Frame(*head, np.frombuffer(data, dtype, offset=HEADER_BYTES).reshape(sent), *tail)
