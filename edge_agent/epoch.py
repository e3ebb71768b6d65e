"""The epoch: a counter on disk that grows with every connection, because a Raspberry Pi has no clock."""

import errno
import logging
import os
from pathlib import Path
from typing import Final

from broker.epoch import MAX_EPOCH, following, is_later
from broker.errors import FogError
from broker.presence import Status

_log = logging.getLogger("fogguard.epoch")
_DIGITS: Final = len(str(MAX_EPOCH))
_FAILING_DISK: Final = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


class EpochError(FogError):
    """The epoch cannot be kept."""


def next_epoch(file: Path, after: int | None = None) -> int:
    """Return the first epoch after the one in `file`, and after `after`, and keep it there; raises EpochError.

    It is on the disk before it is used, so that no two lives share one, even after a power cut. A disk that is full or
    fails, as that of a worn card, is no reason to stop: who goes on hands the last one in as `after`, and who starts
    anew there learns it from the broker.
    """
    last = last_epoch(file)
    epoch = following(after if after is not None and is_later(after, last) else last)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        with fresh.open("w") as output:
            output.write(str(epoch))
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
        _sync(file.parent)
    except OSError as error:
        if error.errno in _FAILING_DISK:
            hint = "is the disk full, or the card worn out?"
            _log.warning("%s: epoch %d is not kept there (%s): %s", file, epoch, error.strerror, hint)
            return epoch
        raise EpochError(f"{file}: cannot keep the epoch there ({error.strerror}): choose another `state`") from error
    return epoch


def _sync(folder: Path) -> None:
    """Bring a folder to the disk: the new name of a file in it may wait for seconds otherwise."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def last_epoch(file: Path) -> int:
    """Return the number in `file`, 0 if there is none yet or the disk fails; raises EpochError."""
    try:
        text = file.read_text(errors="replace") if file.exists() else "0"
    except OSError as error:
        if error.errno in _FAILING_DISK:
            _log.warning("%s: cannot be read (%s): is the card worn out?", file, error.strerror)
            return 0
        raise EpochError(f"{file}: cannot be read ({error.strerror}): choose another `state`") from error
    if not text.isdecimal() or len(text) > _DIGITS or int(text) > MAX_EPOCH:
        raise EpochError(f"{file}: {text[:20]!r} is no epoch: remove the file, the broker remembers the last one")
    return int(text)


def is_superseded(epoch: int, known: Status) -> bool:
    """Whether what the broker keeps of a node makes this epoch of its own worthless.

    It is of a later life, or the end of this one: a new card, a wiped folder, or somebody else's word. Then only an
    epoch after it is believed.
    """
    return is_later(known.epoch, epoch) or (known.epoch == epoch and not known.online)
