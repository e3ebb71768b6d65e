"""One at a time: whoever changes a fleet claims it first, on this machine and on each of its devices.

    here    a lock on the inventory           against another command on this machine
    there   a lock below /run on each device  against somebody else's machine

A claim is a lock of the kernel's, held by a process: it ends with the process, however that ends, and leaves nothing
that somebody would have to remove. A device lets go of it too when the machine that claimed it falls silent.
"""

import contextlib
import fcntl
import getpass
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from broker.errors import FailureFound, FogError
from provisioning.inventory import InventoryError
from provisioning.remote import Conversation, RemoteError

_BEAT_S: Final = 5.0
_BUSY: Final = 75  # as `scripts/claim.sh` says it


class Claimed(FailureFound):
    """Somebody else is changing this fleet."""


@contextlib.contextmanager
def claimed_here(inventory: Path) -> Iterator[None]:
    """Hold the inventory's lock in the block; raises Claimed or InventoryError."""
    try:
        file = inventory.open("rb")
    except OSError as error:
        raise InventoryError(f"{inventory}: cannot be read ({error.strerror})") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Claimed(
                f"another fogguard on this machine is changing the fleet of {inventory}: nothing was changed; "
                "wait until it is done, or end it"
            ) from error
        yield


class Claims:
    """The claims on a fleet's devices; a thread keeps them alive until the block ends."""

    def __init__(self) -> None:
        self._held: list[Conversation] = []
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claims", daemon=True)

    def __enter__(self) -> "Claims":
        self._beating.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beating.join()

    def add(self, conversation: Conversation) -> None:
        """Keep a device that `scripts/claim.sh` claims; raises Claimed if it is somebody else's, or RemoteError."""
        if conversation.line() == "claimed":
            self._held.append(conversation)
            return
        outcome = conversation.end()
        if outcome.code == _BUSY:
            raise Claimed(f"{outcome.last_words} is changing it: nothing was changed; run it again when that is done")
        raise RemoteError(f"cannot be claimed ({outcome.last_words})")

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            for conversation in list(self._held):
                conversation.say(".")


def require_all(failed: Mapping[str, FogError]) -> None:
    """Raise Claimed if a device failed because it is somebody else's: then nothing is to be done on any."""
    for name, error in failed.items():
        if isinstance(error, Claimed):
            raise Claimed(f"{name}: {error}") from error


def who() -> str:
    """Return what others are told about us."""
    return f"{getpass.getuser()}@{platform.node()}, process {os.getpid()}"
