"""A fleet that has gone to its next broker is told to come back to the first, as its owner would tell it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.driver import Driver
from broker.link import LinkError
from broker.tls import files_of
from provisioning import asking
from provisioning.asking import NotMoved

_PAUSE_S: Final = 0.2


def bring_home(driver: Driver, patience_s: float) -> bool:
    """Bring a fleet back to its first broker, and return whether it was at another; nothing is fed meanwhile.

    Raises LinkError or NotMoved if that broker does not let all in within `patience_s` seconds.
    """
    first, there = driver.first, driver.url
    if there == first:
        return False
    tls = files_of(Path(driver.tls.certificate).parent, "operator") if driver.tls else None
    ends_s = time.monotonic() + patience_s

    def are_back() -> bool:
        try:
            asking.bring_back(asking.find([first, there], driver.fleet, tls), first, driver.fleet, tls)
        except (LinkError, NotMoved):  # it may still be starting
            if time.monotonic() > ends_s:
                raise
            return False
        return True

    with ThreadPoolExecutor(1, thread_name_prefix="homeward") as pool:
        is_done = False
        while not is_done:
            asked = pool.submit(are_back)
            while not asked.done():
                driver.wait(_PAUSE_S)
            is_done = asked.result()
    while driver.url != first and time.monotonic() < ends_s:  # it follows the sink
        driver.wait(_PAUSE_S)
    return True
