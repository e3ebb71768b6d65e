"""Hands in a process of their own: however the one that gave the orders ends, they bring everything back.

    harness ──{"harm": …, "node": "f1", "undo": false}──► python -m benchmarks.apart LAB NODE=PLUG…
            ◄──{"node": "f1", "began_ns": …, "error": ""}──

One order a line, one answer a line, in order. When no more orders can come, whatever is still wrong is undone: a fleet
that runs elsewhere is left running, be the harness done, interrupted or killed.
"""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import IO, Protocol

import msgspec

from benchmarks.scenario import Harm
from broker.errors import FailureFound, FogError
from provisioning.plug import Plug

_SLEEP_S = 0.05


class Order(msgspec.Struct, frozen=True):
    """Something to be done to a node, or undone."""

    harm: Harm
    node: str
    undo: bool = False


class Done(msgspec.Struct, frozen=True):
    """What came of an order: when it began to happen, on the clock of all processes here, and what went wrong."""

    node: str
    began_ns: int
    error: str = ""


class HandFailed(FailureFound):
    """Something could not be done to a device, or not be undone."""


class Actor(Protocol):
    """Does things to devices, and undoes them."""

    def do(self, harm: Harm, node: str) -> int:
        """Let something go wrong with a device; return when that began, by `time.monotonic_ns`."""

    def undo(self, harm: Harm, node: str) -> int:
        """Bring it back; return when that began."""

    def finish(self) -> None:
        """Take away what was prepared on devices."""


class HandsApart:
    """Gives orders to a process of its own, and takes in what came of them.

    Args:
        lab: Whose devices; "" for none.
        plugs: Those of the devices that have one, by their nodes.
    """

    def __init__(self, lab: str, plugs: Mapping[str, Plug]) -> None:
        self._line, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.apart", lab, *(f"{node}={plug}" for node, plug in plugs.items())],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # Ctrl-C is for us
            )
        self._said = b""
        self._asked = self._done = 0
        self._began_ns = 0
        self._error = ""

    def do(self, harm: Harm, node: str) -> None:
        """Let something go wrong with a device, soon."""
        self._order(Order(harm, node))

    def undo(self, harm: Harm, node: str) -> None:
        """Bring it back, soon."""
        self._order(Order(harm, node, undo=True))

    def began_ns(self) -> int | None:
        """Return when the last of what was asked for began to happen; None: it has not been done yet."""
        self._take_in()
        return self._began_ns if self._done == self._asked else None

    def check(self) -> None:
        """Raise HandFailed if something could not be done."""
        self._take_in()
        if self._error:
            raise HandFailed(self._error)
        if self._process.poll() is not None:
            raise HandFailed("the process that pulls the plugs has ended")

    def finish(self) -> None:
        """Wait until everything is as it was; raises HandFailed."""
        self._line.shutdown(socket.SHUT_WR)
        while self._process.poll() is None:
            self._take_in()
            time.sleep(_SLEEP_S)
        self._take_in()
        self._line.close()
        if self._error:
            raise HandFailed(self._error)

    def _order(self, order: Order) -> None:
        self._asked += 1
        with contextlib.suppress(BrokenPipeError):  # `check` tells
            self._line.sendall(msgspec.json.encode(order) + b"\n")

    def _take_in(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while chunk := self._line.recv(65536, socket.MSG_DONTWAIT):
                self._said += chunk
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            done = msgspec.json.decode(line, type=Done)
            self._done += 1
            self._began_ns = done.began_ns
            self._error = self._error or done.error


def serve(actor: Actor, orders: IO[bytes], answers: IO[bytes]) -> None:
    """Carry out orders until no more can come; then undo what is still wrong."""
    wrong: dict[str, Harm] = {}
    try:
        with contextlib.suppress(ConnectionError):  # killed before it had read all answers
            for line in orders:
                order = msgspec.json.decode(line, type=Order)
                if not order.undo:
                    wrong[order.node] = order.harm
                done = _carry_out(actor, order)
                _answer(answers, done)
                if order.undo and not done.error:
                    wrong.pop(order.node, None)
    finally:
        for node, harm in reversed(list(wrong.items())):
            done = _carry_out(actor, Order(harm, node, undo=True))
            if done.error:
                _answer(answers, done)
        actor.finish()


def _carry_out(actor: Actor, order: Order) -> Done:
    try:
        return Done(order.node, (actor.undo if order.undo else actor.do)(order.harm, order.node))
    except FogError as error:
        return Done(order.node, time.monotonic_ns(), str(error))
    except OSError as error:
        what = f"{order.harm} of {order.node} cannot be {'undone' if order.undo else 'done'}"
        return Done(order.node, time.monotonic_ns(), f"{what}: {error}")


def _answer(answers: IO[bytes], done: Done) -> None:
    with contextlib.suppress(ConnectionError):  # nobody listens any more, and what is wrong must be undone all the same
        answers.write(msgspec.json.encode(done) + b"\n")
        answers.flush()


class _Both:
    """Plugs for the power of devices, a lab for all else."""

    def __init__(self, plugs: Actor, lab: Actor) -> None:
        self._plugs, self._lab = plugs, lab

    def do(self, harm: Harm, node: str) -> int:
        return self._whose(harm).do(harm, node)

    def undo(self, harm: Harm, node: str) -> int:
        return self._whose(harm).undo(harm, node)

    def finish(self) -> None:
        self._lab.finish()

    def _whose(self, harm: Harm) -> Actor:
        return self._plugs if harm.verb == "power" else self._lab


def _actor(lab: str, plugs: Mapping[str, Plug]) -> Actor:
    from benchmarks.lab_hands import LabActor  # it needs what a lab needs
    from benchmarks.plugs import Plugs

    if not lab:
        return Plugs(plugs)
    return _Both(Plugs(plugs), LabActor(lab)) if plugs else LabActor(lab)


def main() -> None:
    """Serve on standard input and output."""
    from benchmarks.plugs import plug_of

    lab, *choices = sys.argv[1:]
    serve(_actor(lab, dict(map(plug_of, choices))), sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
