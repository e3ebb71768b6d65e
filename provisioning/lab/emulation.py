"""Devices of another architecture: this machine's kernel hands their programs to qemu."""

import contextlib
import platform
from pathlib import Path
from typing import Final

from provisioning.lab.layout import Arch, Lab, LabError
from provisioning.lab.programs import require, run

_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
_AARCH64: Final = (
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
_INTERPRETER: Final = Path("/usr/libexec/qemu-binfmt/aarch64-binfmt-P")


def host_arch() -> Arch:
    """Return this machine's own architecture; raises LabError."""
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        raise LabError(f"the lab runs on x86-64 and 64-bit ARM, not on {machine}")
    return "amd64" if machine == "x86_64" else "arm64"


def is_emulated(arch: Arch) -> bool:
    """Return whether this machine's processor cannot run `arch` by itself; raises LabError if nothing else can."""
    if arch != host_arch() and arch != "arm64":
        raise LabError(f"{arch} devices run on {arch} machines only: here they are {host_arch()}")
    return arch != host_arch()


def register(lab: Lab) -> None:
    """Have the kernel run arm64 programs with qemu until `unregister`.

    Flags: the interpreter is opened now (F), as it is not in the devices' roots, and sudo keeps its rights (OC), which
    the handler that Debian's package registers does not do.
    """
    require(["qemu-aarch64-static"])
    if not (_BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)])
    if (_BINFMT / _name(lab)).exists():
        return
    interpreter, flags = (_INTERPRETER, "OCPF") if _INTERPRETER.exists() else ("/usr/bin/qemu-aarch64-static", "OCF")
    (_BINFMT / "register").write_text(f":{_name(lab)}:M::{':'.join(_AARCH64)}:{interpreter}:{flags}")


def unregister(lab: Lab) -> None:
    """Take back what `register` did."""
    with contextlib.suppress(FileNotFoundError):
        (_BINFMT / _name(lab)).write_text("-1")
    if _BINFMT.is_mount() and {each.name for each in _BINFMT.iterdir()} == {"register", "status"}:
        run(["umount", str(_BINFMT)])


def _name(lab: Lab) -> str:
    return f"{lab.namespace}-aarch64"
