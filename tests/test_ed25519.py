"""The device's verifier against RFC 8032 and against OpenSSL's."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.ed25519 import _ORDER, _P, verify

# RFC 8032, 7.1: private key, public key, message, signature
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "eeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce8"
        "0e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac1"
        "7ad9bef1177331a704",
    ),
]
# The eight points of small order, and four ways to write one of them that are not canonical.
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def openssl(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@pytest.mark.parametrize(("private", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(private, public, message, signature):
    key, message, signature = map(bytes.fromhex, (public, message, signature))
    pair = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    assert pair.public_key().public_bytes_raw() == key  # the vectors are copied right
    assert pair.sign(message) == signature
    assert verify(key, message, signature)
    assert not verify(key, message + b"x", signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.data())
def test_it_accepts_what_openssl_signs_and_refuses_every_changed_bit_that_openssl_refuses(seed, message, data):
    pair = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = pair.public_key().public_bytes_raw(), pair.sign(message)
    assert verify(key, message, signature)
    parts = [bytearray(key), bytearray(message), bytearray(signature)]
    part = data.draw(st.sampled_from([part for part in parts if part]))
    bit = data.draw(st.integers(0, 8 * len(part) - 1))
    part[bit // 8] ^= 1 << bit % 8
    changed = tuple(map(bytes, parts))
    assert not verify(*changed)
    assert not openssl(*changed)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=50), st.binary(min_size=64, max_size=64))
def test_what_is_random_is_refused_and_crashes_nothing(key, message, signature):
    assert not verify(key, message, signature)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_wrong_length_is_refused(key, signature):
    if (len(key), len(signature)) != (32, 64):
        assert not verify(key, b"", signature)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 15))
def test_a_scalar_that_is_not_below_the_order_is_refused(seed, times):
    """Else everybody could make a second signature out of a first."""
    pair = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = pair.public_key().public_bytes_raw(), pair.sign(b"m")
    scalar = int.from_bytes(signature[32:], "little") + times * _ORDER
    if scalar < 1 << 256:
        assert not verify(key, b"m", signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize("key", SMALL)
@pytest.mark.parametrize("commitment", SMALL)
def test_a_key_of_small_order_signs_nothing(key, commitment):
    """With S = 0 such a key passes for the signer of one message in eight, or of all."""
    for message in range(16):
        assert not verify(bytes.fromhex(key), bytes([message]), bytes.fromhex(commitment) + bytes(32))


def test_an_encoding_above_the_field_is_refused():
    """y and y + p are one point: only y below p is its encoding."""
    for y in range(19):
        for sign in (0, 1 << 255):
            assert not verify((y + _P | sign).to_bytes(32, "little"), b"m", bytes(64))


def test_a_point_that_is_not_on_the_curve_is_refused():
    assert not verify((2).to_bytes(32, "little"), b"m", bytes(64))
