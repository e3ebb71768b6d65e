"""The kinds of source that need no package: a file, a folder of images, lines of CSV, an MQTT topic.

What parses is `map`: it goes on after a sample that was refused, where a generator would be over.
"""

import itertools
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Literal, get_args

import numpy as np

from broker.errors import FogError
from edge_agent.images import SUFFIXES, pixels
from edge_agent.sample import Leaf, Sample, SampleRefused, numbers, vector

STDIN: Final = "-"
Payload = Literal["text", "float32"]
_MAX_LINE_BYTES: Final = 4 << 20


class SourceError(FogError):
    """A source cannot be opened."""


def replay(leaf: Leaf, *, file: str, loop: bool = True) -> Iterator[Sample]:
    """Replay the rows of a .npy file, (rows, *shape), or the lines of a CSV file; for ever, if it is to `loop`."""
    path = Path(file)
    if path.suffix != ".npy":
        return map(partial(_parsed, leaf, file), _rounds(file, loop=loop))
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError) as error:
        raise SourceError(f"{file}: not an array of numbers ({error})") from error
    if rows.ndim < 2 or not len(rows):
        raise SourceError(f"{file}: holds {rows.shape}, one sample a row is expected: (rows, {leaf.shape[0]})")
    order = itertools.cycle(range(len(rows))) if loop else iter(range(len(rows)))

    def parsed(row: int) -> Sample:
        return vector(rows[row], leaf.shape, f"{file}, row {row + 1}")

    return map(parsed, order)


def folder(leaf: Leaf, *, path: str, loop: bool = True) -> Iterator[Sample]:
    """Show the images of a folder by their names; if it is to `loop`, list it anew at each end, for ever."""

    def images() -> Iterator[Path]:
        while True:
            try:
                found = sorted(file for file in Path(path).iterdir() if file.suffix.lower() in SUFFIXES)
            except OSError as error:
                raise SourceError(f"{path}: cannot be listed ({error.strerror})") from error
            if not found:
                raise SourceError(f"{path}: holds no image ({', '.join(sorted(SUFFIXES))})")
            yield from found
            if not loop:
                return

    def parsed(file: Path) -> Sample:
        return vector(pixels(file), leaf.shape, str(file))

    return map(parsed, images())


def csv(leaf: Leaf, *, file: str = STDIN) -> Iterator[Sample]:
    """Take each line of stdin, a FIFO or a file as a sample; a FIFO is opened again when its writer is gone."""
    return map(partial(_parsed, leaf, "stdin" if file == STDIN else file), _lines_of(file))


def mqtt(leaf: Leaf, *, topic: str, payload: Payload = "text") -> Iterator[Sample]:
    """Take each message on a topic as a sample: numbers with commas, or little-endian float32."""
    if payload not in get_args(Payload):
        raise SourceError(f"payload {payload!r}: write one of {', '.join(get_args(Payload))}")

    def parsed(message: bytes) -> Sample:
        if payload == "text":
            return numbers(_text(message, topic), leaf.shape, topic)
        if len(message) % 4:
            raise SampleRefused(f"{topic}: {len(message)} bytes are no float32 values")
        return vector(np.frombuffer(message, "<f4"), leaf.shape, topic)

    return map(parsed, leaf.messages)


def _rounds(file: str, *, loop: bool) -> Iterator[tuple[int, bytes]]:
    while True:
        number = 0
        for number, line in _lines_of(file):
            yield number, line
        if not number:
            raise SourceError(f"{file}: holds no line of numbers")
        if not loop:
            return


def _lines_of(file: str) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty with its number, but for a heading.

    The last one may lack its end in a file; anywhere else its writer has died before it was whole, and it is left out.
    """
    while True:
        try:
            with _opened(file) as stream:
                kind = os.fstat(stream.fileno()).st_mode
                is_fifo = file != STDIN and stat.S_ISFIFO(kind)
                for number in itertools.count(1):
                    line = stream.readline(_MAX_LINE_BYTES)
                    is_last = not line.endswith(b"\n") and len(line) < _MAX_LINE_BYTES
                    if not line or (is_last and not stat.S_ISREG(kind)):
                        break
                    if line.strip() and not (number == 1 and _is_heading(line)):
                        yield number, line
        except OSError as error:
            raise SourceError(f"{file}: cannot be read ({error.strerror})") from error
        if not is_fifo:
            return


def _opened(file: str) -> BinaryIO:
    """Open a file, or stdin anew: Python cannot end while a thread reads its own."""
    return os.fdopen(os.dup(0), "rb") if file == STDIN else Path(file).open("rb")


def _is_heading(line: bytes) -> bool:
    """Whether no word of a line is a number."""
    return not any(map(_is_number, line.split(b",")))


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parsed(leaf: Leaf, where: str, numbered: tuple[int, bytes]) -> Sample:
    number, line = numbered
    return numbers(_text(line, f"{where}, line {number}"), leaf.shape, f"{where}, line {number}")


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise SampleRefused(f"{where}: not text") from error
