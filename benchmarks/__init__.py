"""Feeds a fleet, unplugs its nodes, and sets what was measured beside what was predicted."""
