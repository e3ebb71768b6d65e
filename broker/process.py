"""Child processes that never outlive their parent, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder`, its output going to `log`.

    It has a session of its own, so that Ctrl-C reaches the parent alone, who then stops it in good order.

    On Linux the kernel kills the child when the parent is killed; not any more once the child itself becomes another
    user, so it is `user` from the beginning.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            user=user,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def stop(child: subprocess.Popen[bytes], timeout_s: float = 3.0) -> None:
    """Ask the child to end, wait, and kill it if it has not."""
    if child.poll() is None:
        child.send_signal(signal.SIGCONT)
        child.terminate()
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
