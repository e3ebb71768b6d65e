"""TLS towards a broker: who we are, whom we believe, and what went wrong in words.

The broker must show a certificate of the fleet's own CA for the very host that was asked for; we show ours.
"""

import contextlib
import select
import ssl
from pathlib import Path
from typing import Final

import msgspec

from broker.errors import FogError


class TlsError(FogError):
    """A certificate or key of ours cannot be used."""


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files in PEM: the CA that the broker's certificate must be of, and our own certificate with its key."""

    ca: str
    certificate: str
    key: str


def files_of(folder: Path, identity: str) -> Tls:
    """Return the files of `identity` in a folder made by `fogguard pki init`; raises TlsError."""
    names = ("ca.crt", f"{identity}.crt", f"{identity}.key")
    for name in names:
        if not (folder / name).is_file():
            raise TlsError(f"{folder} holds no {name}: make it with `fogguard pki init {folder}`")
    ca, certificate, key = (str(folder / name) for name in names)
    return Tls(ca=ca, certificate=certificate, key=key)


def client_context(tls: Tls | None, handshake_s: float) -> ssl.SSLContext:
    """Return the context of one connection: TLS 1.2 or later, the host's name verified; raises TlsError.

    Made anew before each, it believes and shows what the files hold by then, and nothing of before. Without `tls` the
    broker needs a certificate that this system trusts, and is shown none. One that does not finish the handshake
    within `handshake_s` seconds is given up.
    """
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name unless told otherwise
    context.handshake_s = handshake_s
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if tls is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(tls.ca)
    except OSError as error:
        raise TlsError(f"{tls.ca}: cannot be read as a CA's certificate ({_short(error)})") from error
    try:
        # A key with a passphrase would be asked for on a terminal that a device does not have.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", "")
        problem = "they do not belong together" if reason == "KEY_VALUES_MISMATCH" else _short(error)
        raise TlsError(f"{tls.certificate}, {tls.key}: cannot be used ({problem})") from error
    return context


_VERDICT_S: Final = 0.5
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER: Final = frozenset({18, 19, 20, 21})
_WRONG_HOST: Final = frozenset({62, 64})
# What a broker says about the certificate that it was shown, as OpenSSL spells it.
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "lets nobody in without a certificate: name one (`tls` in the configuration, --tls)",
    "HANDSHAKE_FAILURE": "lets nobody in without a certificate that it can check: name one (`tls`, --tls)",
    "UNKNOWN_CA": "does not know the CA of {certificate}: both sides need certificates of one `fogguard pki init`",
    "CERTIFICATE_EXPIRED": "says that {certificate} has expired: remove it, and run `fogguard pki init` again, "
    "or set the broker's clock",
    "CERTIFICATE_REVOKED": "says that {certificate} was revoked",
    "BAD_CERTIFICATE": "refuses {certificate}: is it a client's, of its CA, and is the broker's clock right?",
    "CERTIFICATE_UNKNOWN": "refuses {certificate}: is it a client's, of its CA?",
    "UNSUPPORTED_CERTIFICATE": "refuses {certificate}: it is not one for clients",
    "WRONG_VERSION_NUMBER": "does not speak TLS: write mqtt://, or name its other port",
    "CLOSED_THE_CONNECTION": "breaks off: it does not speak TLS there, or does not take {certificate}",
    "CONNECTION_RESET": "breaks off: it does not speak TLS there, or does not take {certificate}",
    "UNEXPECTED_EOF": "breaks off: it does not speak TLS there, or does not take {certificate}",
}


def explain(error: OSError, tls: Tls | None) -> str:
    """Return what a failed handshake means, to stand after the broker's URL; `tls` is what was shown."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, tls)
    text = str(error)
    certificate = tls.certificate if tls else "the certificate"
    for word, sentence in _ALERTS.items():
        if word in text.upper().replace(" ", "_"):
            return sentence.format(certificate=certificate)
    return f"cannot be spoken to with TLS ({text})"


def _explain_verification(error: ssl.SSLCertVerificationError, tls: Tls | None) -> str:
    code = error.verify_code
    if code in _UNKNOWN_ISSUER:
        return f"shows a certificate of another CA than {tls.ca if tls else 'those that this system trusts'}"
    if code == _EXPIRED:
        return "shows a certificate that has expired: renew it, or set this machine's clock"
    if code == _NOT_YET_VALID:
        return "shows a certificate that is not valid yet: set this machine's clock"
    if code in _WRONG_HOST:
        return f"shows a certificate for another host ({error.verify_message}): `fogguard pki init --host` names more"
    return f"shows a certificate that cannot be trusted ({error.verify_message})"


def _short(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)


class _Context(ssl.SSLContext):
    """A context that knows how long a handshake may take."""

    handshake_s: float


class _Socket(ssl.SSLSocket):
    """A socket whose handshake is over only when the broker has taken our certificate.

    With TLS 1.3 it looks at that after our side is done. What follows is its session tickets, or an alert, which would
    be lost if we had written meanwhile to a socket that it closed. A failed handshake closes the socket at once; paho
    leaves it to the garbage collector.
    """

    def do_handshake(self, block: bool = False) -> None:
        if isinstance(self.context, _Context):
            self.settimeout(self.context.handshake_s)  # paho's is the keepalive
        try:
            super().do_handshake(block)
            if self.version() == "TLSv1.3":
                self._hear_verdict()
        except BaseException:
            self.close()
            raise

    def _hear_verdict(self) -> None:
        if not select.select([self], [], [], _VERDICT_S)[0]:
            return  # no tickets from this one
        timeout_s = self.gettimeout()
        self.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.recv(1):  # before we have said anything there is nothing to hear but the end
                raise ConnectionResetError("the broker closed the connection")
        self.settimeout(timeout_s)
