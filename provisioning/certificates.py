"""Keys and certificates in PEM: all of `cryptography` that the rest of the project sees.

Elliptic curve keys (P-256) for TLS, Ed25519 for signatures. A certificate is for a server or for a client, never both.
"""

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.errors import FogError

Key: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Certificate: TypeAlias = x509.Certificate
Alternatives: TypeAlias = Sequence[x509.GeneralName]

_CA_DAYS, _LEAF_DAYS = 3650, 730
# A Raspberry Pi has no clock: until the network sets it, it lives up to a year in the past.
_EARLIER: Final = datetime.timedelta(days=365)


class PkiError(FogError):
    """Certificates that cannot be made, or are not those of this fleet."""


def new_key() -> bytes:
    """Return a new key for TLS, in PEM."""
    return _private_pem(ec.generate_private_key(ec.SECP256R1()))


def new_signing_key() -> bytes:
    """Return a new Ed25519 key, in PEM."""
    return _private_pem(ed25519.Ed25519PrivateKey.generate())


def load_key(file: Path) -> Key:
    """Return the key in a PEM file; raises PkiError."""
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise PkiError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise PkiError(f"{file}: not a private key in PEM without a passphrase") from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise PkiError(f"{file}: neither an elliptic curve key nor an Ed25519 key")
    return key


def load_signing_key(file: Path) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key in a PEM file; raises PkiError."""
    key = load_key(file)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise PkiError(f"{file}: not an Ed25519 key: `fogguard pki init` makes one, signing.key")
    return key


def public_pem(holder: Key | Certificate) -> bytes:
    """Return the public half of a key, or a certificate's, in PEM."""
    public = holder.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def raw_public(key: ed25519.Ed25519PrivateKey) -> bytes:
    """Return the 32 bytes of an Ed25519 key's public half."""
    return key.public_key().public_bytes_raw()


def load_certificate(file: Path) -> Certificate:
    """Return the certificate in a PEM file; raises PkiError."""
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise PkiError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise PkiError(f"{file}: not a certificate in PEM: remove it, and run this again") from error


def fleet_of(certificate: Certificate) -> str:
    """Return the fleet that a certificate is made for."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(found[0].value) if found else ""


def is_issued_by(certificate: Certificate, authority: Certificate) -> bool:
    """Whether `authority` signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def lacking(certificate: Certificate, alternatives: Alternatives) -> list[str]:
    """Return the names and addresses that a server's certificate is not for."""
    named = set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return [str(each.value) for each in alternatives if each not in named]


def alternatives(hosts: Iterable[str]) -> Alternatives:
    """Return names and addresses as a certificate holds them; raises PkiError."""
    return [_alternative(host) for host in dict.fromkeys(hosts)]


def new_authority(fleet: str, key: Key) -> bytes:
    """Return the certificate, in PEM, of an authority that signs certificates of devices, and of no other authority."""
    subject = _subject(fleet, f"{fleet} CA")
    builder = _builder(subject, subject, key, _CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, _digest(key)).public_bytes(serialization.Encoding.PEM)


def new_certificate(
    fleet: str, name: str, key: Key, authority: Certificate, authority_key: Key, hosts: Alternatives | None
) -> bytes:
    """Return a certificate in PEM: a server's if there are `hosts`, else a client's."""
    use = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    builder = _builder(_subject(fleet, name), authority.subject, key, _LEAF_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    builder = builder.add_extension(issuer_id, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return builder.sign(authority_key, _digest(authority_key)).public_bytes(serialization.Encoding.PEM)


def now() -> datetime.datetime:
    """Return the time, in UTC and whole seconds."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, days: int) -> x509.CertificateBuilder:
    begins = now() - _EARLIER
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(now() + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(fleet: str, name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet)
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _digest(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        labels = host.split(".")
        if host.isascii() and all(label.replace("-", "").isalnum() for label in labels):
            return x509.DNSName(host)
        raise PkiError(f"--host {host!r}: neither a host name nor an address") from None


def _private_pem(key: PrivateKeyTypes) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
