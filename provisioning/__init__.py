"""Puts agents where they run: for now, on this machine."""
