"""Verify Ed25519 signatures (RFC 8032, 5.1) in plain Python, for devices: the standard library has none.

Nothing here is secret, so nothing needs constant time. Stricter than the RFC asks: an encoding that is not the
one canonical one, a scalar S that is not below the group's order, and points of small order, under which
signatures of everything can be made, are all refused. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
"""

import hashlib
from typing import Final, TypeAlias

Point: TypeAlias = tuple[int, int, int, int]

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)
_NEUTRAL: Final = (0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) of `message` was made with the private half of `key` (32 bytes)."""
    if len(signature) != 64:
        return False
    public = _decoded(key)
    scalar = int.from_bytes(signature[32:], "little")
    if public is None or _is_of_small_order(public) or scalar >= _ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _ORDER
    # S·B = R + k·A, so R must be the encoding of S·B - k·A: of its canonical form, and of no other.
    commitment = _sum_of_multiples(scalar, _BASE, challenge, _negated(public))
    return not _is_of_small_order(commitment) and _encoded(commitment) == signature[:32]


def _add(a: Point, b: Point) -> Point:
    s, t = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    u, v = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e, f, g, h = t - s, v - u, v + u, t + s
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(a: Point) -> Point:
    xx, yy = a[0] * a[0] % _P, a[1] * a[1] % _P
    h, g = xx + yy, xx - yy
    e, f = h - (a[0] + a[1]) ** 2 % _P, 2 * a[2] * a[2] % _P + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _negated(a: Point) -> Point:
    return _P - a[0], a[1], a[2], _P - a[3]


def _sum_of_multiples(m: int, a: Point, n: int, b: Point) -> Point:
    """Return m·a + n·b, both in one pass over the bits, from the highest."""
    choices = (_NEUTRAL, a, b, _add(a, b))
    total = _NEUTRAL
    for bit in reversed(range(max(m.bit_length(), n.bit_length()))):
        total = _double(total)
        chosen = (m >> bit & 1) | (n >> bit & 1) << 1
        if chosen:
            total = _add(total, choices[chosen])
    return total


def _is_of_small_order(a: Point) -> bool:
    x, y, z, _ = _double(_double(_double(a)))
    return x % _P == 0 and (y - z) % _P == 0


def _encoded(a: Point) -> bytes:
    inverse = pow(a[2], -1, _P)
    x, y = a[0] * inverse % _P, a[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decoded(data: bytes) -> Point | None:
    """Return the point that `data` encodes (5.1.3), None if it encodes none or not in the canonical way."""
    if len(data) != 32:
        return None
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
        if (v * x * x - u) % _P:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _base() -> Point:
    point = _decoded(bytes([0x58, *[0x66] * 31]))  # y = 4/5, x even
    if point is None:
        raise AssertionError
    return point


_BASE: Final = _base()
