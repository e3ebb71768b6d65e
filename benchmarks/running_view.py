"""What `bench latency` prints of a running fleet: the tables of its report, culprits first."""

from collections.abc import Mapping
from typing import Any

import msgspec

from benchmarks.running_sections import stages_of
from benchmarks.terminal import print_table, results


def print_examined(found: Mapping[str, Any]) -> None:
    """Print where time goes, what load is borne, how the devices are, and who is to blame."""
    _, blamed, sections = stages_of(msgspec.to_builtins(found))
    for section in sections:
        if section.rows:
            print_table(section.title, section.columns, section.rows)
    results.print(blamed, soft_wrap=True)
