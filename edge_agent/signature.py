"""A bundle's signature: `manifest.sig`, beside the manifest, which holds the hash of every other file.

Signed is not the manifest itself but `fogguard manifest`, a zero byte and its sha256: the same key can sign
other things without one of them ever passing for a bundle. A device believes only the key that its own
configuration names; the key in the file tells people which one to ask for.
"""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from broker.errors import FailureFound, FogError
from edge_agent.ed25519 import verify

SIGNATURE: Final = "manifest.sig"
_MAX_BYTES: Final = 4096
_PURPOSE: Final = b"fogguard manifest\0"
# What every Ed25519 public key in DER (SubjectPublicKeyInfo, RFC 8410) begins with; its 32 bytes follow.
_DER_HEAD: Final = bytes.fromhex("302a300506032b6570032100")


class SignatureRefused(FailureFound):
    """The bundle is not signed, or not with the key that it must be signed with."""


class PublicKeyError(FogError):
    """A file that should hold a public key does not."""


class SignatureFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `manifest.sig` holds: public key and signature, hexadecimal."""

    algorithm: Literal["ed25519"] = "ed25519"
    key: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{128}$")]


def signed_message(manifest_sha256: str) -> bytes:
    """Return what is signed for a manifest with this hash."""
    return _PURPOSE + bytes.fromhex(manifest_sha256)


def key_id(key: bytes) -> str:
    """Return a short name for a public key, for people to compare."""
    return hashlib.sha256(key).hexdigest()[:16]


def load_public_key(file: Path) -> bytes:
    """Return the 32 bytes of the Ed25519 public key in a PEM file; raises PublicKeyError."""
    try:
        with file.open("rb") as source:
            lines = source.read(_MAX_BYTES).decode("ascii").split("\n")
        begin, end = lines.index("-----BEGIN PUBLIC KEY-----"), lines.index("-----END PUBLIC KEY-----")
        der = base64.b64decode("".join(lines[begin + 1 : end]), validate=True)
    except OSError as error:
        raise PublicKeyError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, binascii.Error) as error:
        raise PublicKeyError(f"{file}: not a public key in PEM: `fogguard pki init` makes one, signing.pub") from error
    if len(der) != len(_DER_HEAD) + 32 or not der.startswith(_DER_HEAD):
        raise PublicKeyError(f"{file}: not an Ed25519 public key: `fogguard pki init` makes one, signing.pub")
    return der[len(_DER_HEAD) :]


def read_signature(folder: Path) -> SignatureFile | None:
    """Return what stands in a bundle's signature file, None if there is none; raises SignatureRefused."""
    file = folder / SIGNATURE
    try:
        with file.open("rb") as source:
            return msgspec.json.decode(source.read(_MAX_BYTES), type=SignatureFile)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureRefused(f"{file}: cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SignatureRefused(f"{file}: not a signature ({error}): sign the bundle again") from error


def is_valid(found: SignatureFile, manifest_sha256: str, key: bytes) -> bool:
    """Whether `found` is a signature of this manifest by `key`; which key the file itself names does not matter."""
    return verify(key, signed_message(manifest_sha256), bytes.fromhex(found.signature))


def require_signed(folder: Path, manifest_sha256: str, key: bytes) -> None:
    """Raise SignatureRefused unless the manifest with this hash, in `folder`, is signed with `key`."""
    found = read_signature(folder)
    if found is None:
        raise SignatureRefused(
            f"bundle {folder} is not signed, and this device takes none that is not: "
            "`fogguard sign BUNDLE --key signing.key`, and copy it again"
        )
    if not is_valid(found, manifest_sha256, key):
        raise SignatureRefused(
            f"bundle {folder} is not signed with this device's verify_key {key_id(key)}: "
            "its manifest was changed after it was signed, or somebody else signed it"
        )
