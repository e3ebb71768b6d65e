"""Folders for as long as a command runs; what killed commands have left is removed by later ones.

Who has such a folder holds a lock on a file in it, and no kill leaves a lock. The file gets its name once it is locked:
a folder without it is somebody's who has just begun.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "fogguard-"
_OWNED: Final = ".owned"


@contextlib.contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Yield an empty folder, named after what it is for, that is gone when the block ends."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_unless_owned(folder)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{what}-") as name:
        fresh = Path(name, ".fresh")
        with fresh.open("wb") as lock:
            with contextlib.suppress(OSError):  # a file system without locks: it is left where the command is killed
                fcntl.flock(lock, fcntl.LOCK_EX)
                fresh.rename(fresh.with_name(_OWNED))
            yield fresh.parent


def _remove_unless_owned(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it has an owner, is another user's, or is gone by now
        if folder.lstat().st_uid == os.getuid():
            with (folder / _OWNED).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
