"""How long things took, in bins as wide as an eighth: entry k counts what took 10^(k / 20) ms or a little more."""

import math
from typing import Final

BINS_PER_DECADE: Final = 20


def count(times: dict[int, int], ms: float) -> None:
    """Take in how long one took."""
    k = math.floor(BINS_PER_DECADE * math.log10(max(ms, 1e-3)))
    times[k] = times.get(k, 0) + 1


def quantile_ms(times: dict[int, int], share: float) -> float:
    """Return the time that `share` of them stay below, within an eighth; 0 without any."""
    wanted, below = share * sum(times.values()), 0
    for k, n in sorted(times.items()):
        below += n
        if below >= wanted > 0:
            return round(float(10 ** ((k + 1) / BINS_PER_DECADE)), 3)
    return 0.0
