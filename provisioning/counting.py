"""Says of something that takes its time for how long it has gone on."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

_EVERY_S = 5.0


@contextlib.contextmanager
def counting(say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Yield what takes the name of what goes on from now; that is said, and its seconds until another comes."""
    what, since_s, is_over = "", 0.0, threading.Event()

    def hear(text: str) -> None:
        nonlocal what, since_s
        if lines := text.strip().splitlines():
            what, since_s = lines[-1], time.monotonic()
            say(what)

    def count() -> None:
        while not is_over.wait(_EVERY_S):
            if what:
                say(f"{what}, {time.monotonic() - since_s:.0f} s")

    thread = threading.Thread(target=count, name="counting", daemon=True)
    thread.start()
    try:
        yield hear
    finally:
        is_over.set()
        thread.join()
