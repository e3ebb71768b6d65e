"""Sign a bundle with the key of whoever answers for it."""

from pathlib import Path

import msgspec

from edge_agent.bundle import Bundle, BundleError, load
from edge_agent.signature import SIGNATURE, SignatureFile, signed_message
from provisioning.certificates import load_signing_key, raw_public
from provisioning.pki import write_whole


def sign_bundle(path: Path, key_file: Path) -> tuple[Bundle, bytes]:
    """Sign the manifest of a bundle whose files are what it says, and return both it and the public key.

    Raises BundleError, BundleDamaged or PkiError. A signature that was there is replaced.
    """
    key = load_signing_key(key_file)
    bundle = load(path)
    bundle.verify()
    public = raw_public(key)
    found = SignatureFile(key=public.hex(), signature=key.sign(signed_message(bundle.sha256)).hex())
    try:
        write_whole(path / SIGNATURE, msgspec.json.encode(found) + b"\n", 0o644)
    except OSError as error:
        raise BundleError(f"{path / SIGNATURE}: cannot be written ({error.strerror})") from error
    return bundle, public
