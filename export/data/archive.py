"""Files out of what a user downloaded: a folder, or a zip or tar archive."""

import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from export.data.rows import DataError

_DAMAGED = (EOFError, RuntimeError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, zlib.error)


def read_files(source: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path (with forward slashes) and content of every file whose path matches `wanted`, by path.

    Raises DataError if `source` is neither a folder nor a whole archive, OSError if it cannot be read.
    """
    try:
        yield from _files(source, wanted)
    except _DAMAGED as error:
        raise DataError(f"{source}: damaged, or locked ({error}): get it again") from error


def _files(source: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        paths = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
        for name in sorted(filter(wanted.search, paths)):
            yield name, paths[name].read_bytes()
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for name in sorted(filter(wanted.search, archive.namelist())):
                yield name, archive.read(name)
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            # in the archive's own order: going back and forth in a compressed one unpacks it anew each time
            found = {each.name: archive.extractfile(each) for each in archive if wanted.search(each.name)}
            contents = {name: content.read() for name, content in found.items() if content is not None}
        for name in sorted(contents):
            yield name, contents[name]
    else:
        raise DataError(f"{source}: neither a folder nor a zip or tar archive")
