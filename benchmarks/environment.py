"""Under which conditions a figure was measured: the head of every JSON result."""

import contextlib
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from broker.errors import FogError

_PACKAGES = ("fogguard", "numpy", "onnxruntime", "paho-mqtt", "msgspec", "torch", "onnx", "iotcore")


class NotWritten(FogError):
    """A result cannot be written."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What stands first in a result."""

    command: str
    version: str
    commit: str
    bundle: str
    started: str
    host: dict[str, str | int]
    versions: dict[str, str]
    emulated: str


def head(*, bundle: str = "", emulated: str = "", began: datetime | None = None) -> Head:
    """Return the head for the command that this process is; it began now, if not told otherwise."""
    return Head(
        command=" ".join(["fogguard", *sys.argv[1:]]),
        version=_version("fogguard"),
        commit=_commit(),
        bundle=bundle,
        started=(began or datetime.now(timezone.utc)).isoformat(timespec="seconds"),
        host={
            "system": platform.system(),
            "machine": platform.machine(),
            "kernel": platform.release(),
            "cores": os.cpu_count() or 0,
        },
        versions={"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        emulated=emulated,
    )


def with_head(start: Head, body: dict[str, Any]) -> dict[str, Any]:
    """Return head and body as one JSON object."""
    return {**msgspec.to_builtins(start), **msgspec.to_builtins(body)}


def write_json(file: Path, result: dict[str, Any]) -> None:
    """Write a result, whole or not at all; raises NotWritten."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


def write_now(file: Path, result: dict[str, Any]) -> None:
    """Write a result that is not finished, whole or not at all, in as little time as can be; raises NotWritten."""
    write_whole(file, msgspec.json.encode(result))


def write_whole(file: Path, data: bytes) -> None:
    """Write a file, where a link points if it is one, or leave what was there before, and raise NotWritten."""
    target = file.resolve()
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.write_bytes(data)
        fresh.replace(target)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            fresh.unlink()
        if isinstance(error, OSError):
            raise NotWritten(f"{file}: cannot be written ({error.strerror})") from error
        raise


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    """Return the commit of the checkout that this code runs from, or nothing."""
    here = Path(__file__)
    try:
        _git(here.parent, "ls-files", "--error-unmatch", here.name)  # or the checkout is a stranger's
        return _git(here.parent, "describe", "--always", "--dirty", "--abbrev=12")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
