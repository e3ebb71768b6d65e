"""A bundle as if one of its nodes had been trained a little more."""

from benchmarks.retrained import retrained

__all__ = ["retrained"]
