"""The thread that draws from a source lives on, whatever the source raises."""

import asyncio
import time

import pytest

from edge_agent.reader import Reader


def drawn(reader):
    reader.ask()
    ends_s = time.monotonic() + 20
    while (found := reader.take()) is None:
        assert time.monotonic() < ends_s, "the reader's thread is gone"
        time.sleep(0.001)
    return found


@pytest.mark.parametrize(
    "error", [OSError("stuck"), SystemExit("stuck"), asyncio.CancelledError("stuck"), KeyboardInterrupt("stuck")]
)
def test_whatever_a_source_raises_it_has_failed_and_is_opened_again(error):
    def source():
        yield [1.0]
        raise error

    reader = Reader("iot", (1,), source)
    for _ in range(2):
        assert drawn(reader).sample.tolist() == [1.0]
        assert drawn(reader)[1:] == ("failed", "stuck")
