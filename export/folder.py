"""Folders that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from broker.errors import FogError


class FolderError(FogError):
    """A folder that cannot be written, or that must not be replaced."""


@contextlib.contextmanager
def written_folder(target: Path, marker: str) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of `target` when the block ends well, and vanishes otherwise.

    An existing `target` is replaced only if it is empty or holds a file `marker` of ours, that is, if it was written
    so before; if it is a link, what it leads to. Raises FolderError.
    """
    target = target.resolve()
    require_replaceable(target, marker)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise FolderError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        yield fresh
        fresh.chmod(0o755)
        _replace(target, fresh)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if isinstance(error, OSError):
            raise FolderError(f"{target}: cannot be written ({error.strerror or error})") from error
        raise


def _replace(target: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `target`; if that fails, `target` is as it was."""
    old = fresh.with_name(f"{fresh.name}-replaced")
    if target.exists():
        target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def require_replaceable(target: Path, marker: str) -> None:
    """Raise FolderError if `target` is something that `written_folder` would not replace."""
    if target.exists() and not _is_ours(target / marker) and (not target.is_dir() or any(target.iterdir())):
        raise FolderError(f"{target} exists and holds no {marker} of ours: choose another folder, or remove it first")
    parent = next(folder for folder in target.resolve().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise FolderError(f"{target}: cannot be written, {parent} is {'read-only' if parent.is_dir() else 'no folder'}")


def _is_ours(file: Path) -> bool:
    """Return whether this file was written by fogguard: others have a `manifest.json` too."""
    try:
        return b'"schema_version"' in file.read_bytes()
    except OSError:
        return False
