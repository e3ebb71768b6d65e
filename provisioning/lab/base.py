"""The Debian base that devices stand on: made once by mmdebstrap, and kept under a name that tells what is in it."""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from provisioning.lab.layout import Arch, LabError, Suite
from provisioning.lab.programs import require, run

PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "python3", "python3-venv"),
    *("iproute2", "iputils-ping", "ca-certificates", "procps", "netbase", "mosquitto"),
)
_MIRROR: Final = "http://deb.debian.org/debian"  # apt checks what comes from there by its signature
_HERE: Final = Path(__file__).parent
_ALL: Final = ("base.sh",)
_EMULATED: Final = ("emulated.sh", "cpuinfo.pi4")


def lab_folder() -> Path:
    """Return where bases and labs are kept: $FOGGUARD_LAB, or below the user's cache."""
    folder = Path(os.environ.get("FOGGUARD_LAB") or Path.home() / ".cache" / "fogguard" / "lab").absolute()
    if set(str(folder)) & set(",:\\"):
        raise LabError(f"{folder}: the lab's folder cannot have a comma, colon or backslash in its name")
    return folder


def base_folder(suite: Suite, arch: Arch, emulated: bool) -> Path:
    """Return where the base is, or is to be; another recipe, another name."""
    files = _ALL + _EMULATED if emulated else _ALL
    recipe = (*PACKAGES, *((_HERE / name).read_text() for name in files))
    return lab_folder() / f"base-{suite}-{arch}-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]}"


def make_base(suite: Suite, arch: Arch, emulated: bool, progress: Callable[[str], None]) -> Path:
    """Return the base, made now if it is not there yet; an interrupted one leaves nothing."""
    base = base_folder(suite, arch, emulated)
    with locked(lab_folder()):
        if not base.is_dir():
            require(["mmdebstrap"])
            progress(f"making the Debian {suite} {arch} base, once: {'a few minutes' if emulated else 'half a minute'}")
            fresh = base.with_name(f"{base.name}.new")
            try:
                run(_command(suite, arch, emulated, fresh))
                fresh.rename(base)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return base


def _command(suite: Suite, arch: Arch, emulated: bool, root: Path) -> list[str]:
    """Return what makes a base: in a process namespace of its own, so that nothing of it outlives an interruption."""
    scripts = [name for name in _ALL + (_EMULATED if emulated else ()) if name.endswith(".sh")]
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--architectures={arch}"),
        f"--include={','.join(PACKAGES)}",
        *(f"--customize-hook=sh '{_HERE / name}' \"$1\"" for name in scripts),
        *(suite, str(root), _MIRROR),
    ]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time be at work in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
