"""A device's disk: an ext4 in a file, which a power cut takes away before what was written has been kept."""

import contextlib
import fcntl
import os
import shutil
import struct
import time
from collections.abc import Iterable
from pathlib import Path

from broker.errors import FailureFound
from provisioning.lab.layout import USER
from provisioning.lab.machine import DISK_SIZE, Places, Seed
from provisioning.lab.programs import run

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


def make(places: Places, seeds: Iterable[Seed]) -> None:
    """Make a disk that holds `seeds` and nothing else."""
    content = places.folder / "content"
    for folder in (places.disk, places.root, content / "work", content / "upper"):
        folder.mkdir(parents=True)
    for seed in seeds:
        _plant(content / "upper", seed)
    run(["mkfs.ext4", "-q", "-F", "-d", str(content), str(places.image), DISK_SIZE])
    shutil.rmtree(content)


def _plant(upper: Path, seed: Seed) -> None:
    """Write one file; a folder that the base has too covers the base's, so it must have the same owner and mode."""
    file = upper / seed.path
    for folder in reversed(file.relative_to(upper).parents[:-1]):
        with contextlib.suppress(FileExistsError):
            (upper / folder).mkdir()
            home = folder.is_relative_to(f"home/{USER}")
            os.chown(upper / folder, seed.owner if home else 0, seed.owner if home else 0)
            (upper / folder).chmod(0o700 if home else 0o755)
    file.write_text(seed.content)
    os.chown(file, seed.owner, seed.owner)
    file.chmod(seed.mode)


def cut_power(runner: int, places: Places) -> None:
    """Let the disk that process `runner` has mounted fail at once: what was not yet on it will never be."""
    mounted = os.open(f"/proc/{runner}/root{places.disk}", os.O_RDONLY)
    try:
        fcntl.ioctl(mounted, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(mounted)


def wait_until_free(places: Places, timeout_s: float = 20.0) -> None:
    """Wait until nobody has the disk mounted; mounted twice, it would be destroyed."""
    until = time.monotonic() + timeout_s
    while _is_attached(places.image):
        if time.monotonic() > until:
            raise FailureFound(f"{places.image} is still mounted by somebody (losetup --associated shows the device)")
        time.sleep(0.01)


def _is_attached(image: Path) -> bool:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing.read_text().strip() == str(image):
                return True
    return False
