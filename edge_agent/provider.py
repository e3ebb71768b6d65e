"""What computes a node's graph: one of onnxruntime's execution providers, and what it is told.

A provider that compiles a graph keeps what it has compiled in a folder of the agent's state, one for each graph: the
self-test before a switch fills it, and the agent only reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

_NAMES: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
_SUFFIX: Final = "ExecutionProvider"
ProviderOptions = dict[str, str | int | float | bool]


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An execution provider: by a short name or onnxruntime's own, with onnxruntime's options for it.

    `fallback` may be "cpu": then the CPU computes what the provider does not take, and all if it is not there.
    """

    name: str = "cpu"
    options: ProviderOptions = {}
    fallback: Literal["", "cpu"] = ""

    @property
    def is_cpu(self) -> bool:
        """Whether this is what onnxruntime always has."""
        return self.full_name == _NAMES["cpu"]

    @property
    def is_known(self) -> bool:
        """Whether this is a short name of ours, or can be one of onnxruntime's."""
        return self.name in _NAMES or (self.name.endswith(_SUFFIX) and self.name != _SUFFIX)

    @property
    def full_name(self) -> str:
        """Onnxruntime's name."""
        return _NAMES.get(self.name, self.name)

    @property
    def compiles(self) -> bool:
        """Whether it makes something of a graph that is worth keeping."""
        return self.name in _CACHES

    def chosen(self, cache: Path | None, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, ProviderOptions]]:
        """Return what onnxruntime is to use, in the order of choice.

        Args:
            cache: The folder for what it compiles.
            shapes: What the graph's inputs have in a single step, the batch of one included.
        """
        options: ProviderOptions = {}
        if self.name == "tensorrt" and shapes:  # another shape than that would have an engine built at its first step
            profile = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
            options = {f"trt_profile_{which}_shapes": profile for which in ("min", "opt", "max")}
        if cache is not None and self.compiles:
            options |= {key: str(cache) if value == "" else value for key, value in _CACHES[self.name].items()}
        found = [(self.full_name, {**options, **self.options})]
        if self.name == "tensorrt":  # what TensorRT does not take
            found.append((_NAMES["cuda"], {}))
        return found


_CACHES: Final[dict[str, ProviderOptions]] = {
    "tensorrt": {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": "",
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": "",
    },
    "openvino": {"cache_dir": ""},
}
"""The options by which a provider keeps what it compiles, "" for the folder."""

CPU: Final = Provider()


def provider_of(setting: str | Provider) -> Provider:
    """Return the provider that a setting says: a name alone, or more."""
    return Provider(name=setting) if isinstance(setting, str) else setting


def known_names() -> str:
    """Return what a setting may say, for a sentence."""
    return f"{', '.join(_NAMES)}, or onnxruntime's own name, …{_SUFFIX}"
