"""The root of every error that a user can act on.

FogError                exit code 2: something the user gave is wrong or missing
└── FailureFound        exit code 1: the input was right, and the check or run failed
"""


class FogError(Exception):
    """Say in one sentence what is wrong, where, and what to do about it."""

    exit_code = 2


class FailureFound(FogError):
    """A check, a run or a device failed, though what was asked for was well formed."""

    exit_code = 1
