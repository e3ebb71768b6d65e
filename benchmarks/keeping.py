"""A result that is written as it grows: whatever ends a measurement leaves all that was measured by then."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.environment import Head, with_head, write_json, write_now
from broker.errors import FogError

_EVERY_S: Final = 1.0
_SHARE: Final = 0.02  # of the time, at the most


class Keeper:
    """Writes a result whole, at most once a second: `finished` is false until it is.

    Args:
        file: Where to; None: nowhere.
        start: The head of the result.
        about: What is known of it from the beginning.
    """

    def __init__(self, file: Path | None, start: Head, about: Mapping[str, Any]) -> None:
        self._file, self._start, self._about = file, start, about
        self._began_s = time.monotonic()
        self._due_s = 0.0

    def keep(self, body: Callable[[], Any]) -> None:
        """Write what `body` returns, if it is time."""
        now_s = time.monotonic()
        if self._file and now_s >= self._due_s:
            self.leave(body())
            took_s = time.monotonic() - now_s
            self._due_s = now_s + max(_EVERY_S, took_s / _SHARE)

    def leave(self, body: Any) -> None:
        """Write what there is, at once: it may be the last."""
        if self._file:
            write_now(self._file, self._whole(body, finished=False))

    def finish(self, body: Any) -> None:
        """Write what is final."""
        if self._file:
            write_json(self._file, self._whole(body, finished=True))

    def _whole(self, body: Any, *, finished: bool) -> dict[str, Any]:
        end = {"finished": finished, "elapsed_s": round(time.monotonic() - self._began_s, 1)}
        return with_head(self._start, {**self._about, **msgspec.to_builtins(body), **end})


def cut_short(file: Path | None, same: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a measurement that was cut short has left in a file, to go on with, or None if there is nothing.

    Raises FogError if it is another one: `same` is what both must have in common.
    """
    if file is None or not file.exists():
        return None
    try:
        found = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if found.get("finished", True):
        return None
    require_same(file, "measurement, cut short", found, msgspec.to_builtins(same))
    return found


def require_same(file: Path, what: str, found: Mapping[str, Any], same: Mapping[str, Any]) -> None:
    """Raise FogError unless all of `same` is in what a file was found to hold."""
    if other := [key for key, value in same.items() if found.get(key) != value]:
        raise FogError(
            f"--json {file}: holds another {what}, with another {', '.join(other)}: "
            "name another file, or say what that one was begun with"
        )
