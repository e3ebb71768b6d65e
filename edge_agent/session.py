"""One node's ONNX graph in onnxruntime."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

# From 1.29 on onnxruntime reports its use to Microsoft unless told otherwise before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as _errors

from broker.errors import FogError
from broker.frame import Dtype, Layout, Vector
from edge_agent.provider import CPU, Provider, ProviderOptions

_log = logging.getLogger("fogguard.session")
Floats: TypeAlias = npt.NDArray[np.float32]
PRESENT: Final = "fogguard.present"
"""A graph's last input, if its variant asks for it: (batch, sources), 1 where a vector is present."""
SUSTAINED_MS: Final = 30.0
_DTYPES: Final[dict[str, Dtype]] = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int8)": "int8"}
_CANNOT_LOAD = (
    _errors.EPFail,
    _errors.Fail,
    _errors.InvalidArgument,
    _errors.InvalidGraph,
    _errors.InvalidProtobuf,
    _errors.NoSuchFile,
    _errors.NotImplemented,
    _errors.RuntimeException,
)


class SessionError(FogError):
    """A graph that onnxruntime cannot load, or not the one that the manifest describes."""


class Session:
    """A loaded graph; an absent source is fed as zeros, which its Add turns into exactly nothing.

    Args:
        path: The graph's file.
        inputs: The name and layout of each input.
        output: The layout of the output.
        threads: How many threads one run may use.
        provider: What computes it.
        cache: Where that keeps what it compiles.
    """

    def __init__(
        self,
        path: Path,
        inputs: Mapping[str, Layout],
        output: Layout,
        threads: int = 1,
        provider: Provider = CPU,
        cache: Path | None = None,
    ) -> None:
        self._session = open_graph(path, threads, provider, cache)
        self.provider: str = self._session.get_providers()[0]
        self._require(path, inputs, output)
        self._names = tuple(inputs)
        self._is_told = PRESENT in {value.name for value in self._session.get_inputs()}
        self._null = [np.zeros((1, *layout.shape), layout.numpy) for layout in inputs.values()]
        self._bind(output)

    def _bind(self, output: Layout) -> None:
        """Give the graph memory of its own for the input and output of a single step, once for all."""
        self._held = [null.copy() for null in self._null]
        self._is_held = [False] * len(self._held)
        self._present = np.zeros((1, len(self._held)), np.float32)
        self._output = np.empty((1, *output.shape), output.numpy)
        self._binding = self._session.io_binding()
        bound = dict(zip(self._names, self._held, strict=True))
        if self._is_told:
            bound[PRESENT] = self._present
        for name, array in bound.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        (put_out,) = self._session.get_outputs()
        to = self._output
        self._binding.bind_output(put_out.name, "cpu", 0, to.dtype, to.shape, to.ctypes.data)

    def step(self, values: Sequence[Vector | None]) -> Vector:
        """Return the output, (*shape), for one (*shape) array or None (absent) per input: no batch.

        It is overwritten by the next step: nothing is allocated here.
        """
        for position, (held, value) in enumerate(zip(self._held, values, strict=True)):
            if value is not None:
                held[0] = value
            elif self._is_held[position]:
                held[0] = 0
            self._is_held[position] = value is not None
        if self._is_told:
            self._present[0] = self._is_held
        self._session.run_with_iobinding(self._binding)
        output: Vector = self._output[0]
        return output

    def mean_ms(self, clock_s: Callable[[], float] = time.perf_counter) -> float:
        """Return how long a step takes by a clock: the mean of as many on nothing as fill 30 ms.

        A processor that is held back for most of the time shows it here; a single step may slip through.
        """
        began_s, steps = clock_s(), 0
        while (took_ms := 1e3 * (clock_s() - began_s)) < SUSTAINED_MS or not steps:
            self.step([None] * len(self._null))
            steps += 1
        return took_ms / steps

    def run(self, values: Sequence[Vector | None]) -> Vector:
        """Return the output, (batch, *shape), for one (batch, *shape) array or None (absent) per input."""
        batch = max((len(value) for value in values if value is not None), default=1)
        feed = {
            name: np.broadcast_to(null, (batch, *null.shape[1:])) if value is None else value
            for name, null, value in zip(self._names, self._null, values, strict=True)
        }
        if self._is_told:
            present = np.array([[value is not None for value in values]], np.float32)
            feed[PRESENT] = np.broadcast_to(present, (batch, len(values)))
        output: Vector = self._session.run(None, feed)[0]
        return output

    def metadata(self) -> dict[str, str]:
        """Return the `fogguard.*` entries of the graph."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def _require(self, path: Path, inputs: Mapping[str, Layout], output: Layout) -> None:
        found = {value.name: _layout(value) for value in self._session.get_inputs()}
        told = found.pop(PRESENT, None)
        if found != dict(inputs) or told not in (None, Layout((len(inputs),))):
            raise SessionError(f"{path}: takes {_listed(found)}; the manifest says {_listed(inputs)}")
        (value,) = self._session.get_outputs()
        if _layout(value) != output:
            raise SessionError(f"{path}: puts out {_layout(value)}, the manifest says {output}")


def _listed(inputs: Mapping[str, Layout]) -> str:
    return ", ".join(f"{name} {layout}" for name, layout in inputs.items())


def _layout(value: Any) -> Layout:
    """Return the layout of one of onnxruntime's inputs or outputs."""
    return Layout(tuple(value.shape[1:]), _DTYPES.get(value.type, value.type))


def open_graph(
    path: Path, threads: int = 1, provider: Provider = CPU, cache: Path | None = None
) -> onnxruntime.InferenceSession:
    """Return onnxruntime's session for the graph in `path`; raises SessionError.

    With another provider than the CPU's it is that which computes, or nothing, unless its fallback is the CPU.
    """
    if not provider.is_cpu:
        try:
            return _accelerated(path, threads, provider, cache)
        except SessionError as error:
            if not provider.fallback:
                raise
            _log.warning("%s: the CPU computes in its place", error)
    return _opened(path, _options(threads), [(CPU.full_name, {})])


def _accelerated(path: Path, threads: int, provider: Provider, cache: Path | None) -> onnxruntime.InferenceSession:
    name, there = provider.full_name, onnxruntime.get_available_providers()
    if name not in there:
        raise SessionError(
            f"onnxruntime {onnxruntime.__version__} has no {name} here: it has {', '.join(there)}; "
            "give the device a `wheel` that has it, or another `provider`"
        )
    options = _options(threads)
    if not provider.fallback:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    inputs = _opened(path, _options(threads), [(CPU.full_name, {})]).get_inputs()
    shapes = {value.name: (1, *value.shape[1:]) for value in inputs}
    if cache is not None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SessionError(f"{cache}: what {name} compiles cannot be kept ({error.strerror})") from error
    session = _opened(path, options, provider.chosen(cache, shapes))
    if name not in session.get_providers():  # it said why to nobody but its log
        raise SessionError(f"{path}: {name} does not start here: are its libraries and its device there?")
    return session


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _opened(
    path: Path, options: onnxruntime.SessionOptions, providers: list[tuple[str, ProviderOptions]]
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except (*_CANNOT_LOAD, RuntimeError) as error:
        by = "" if providers[0][0] == CPU.full_name else f" for {providers[0][0]}"
        raise SessionError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it{by} ({first_line(error)})"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error, for a sentence of our own."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def runtime_versions() -> dict[str, str]:
    """Return the versions that a result on this machine depends on."""
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "onnxruntime": str(onnxruntime.__version__),
        "numpy": np.__version__,
    }
