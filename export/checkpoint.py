"""An interrupted training on disk: one safetensors file, replaced whole, to be removed when the run is saved."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from broker.errors import FogError

EVERY_S = 20.0


class CheckpointError(FogError):
    """A checkpoint that cannot be read, or that is another training's."""


class Checkpoint:
    """The tensors of a training, kept every 20 seconds.

    Args:
        file: Where.
        state: Returns the tensors by name; loading overwrites them in place.
        describes: What tells this training from another.
    """

    def __init__(self, file: Path, state: Callable[[], Mapping[str, Tensor]], describes: Mapping[str, object]) -> None:
        self._file = file
        self._state = state
        self._describes = msgspec.json.encode(describes).decode()
        self._last_s = time.monotonic()

    def load(self) -> int:
        """Take up what the file holds; return the epoch it was kept after, 0 if there is none."""
        if not self._file.exists():
            return 0
        try:
            with safe_open(self._file, "pt") as kept:
                told = kept.metadata() or {}
                if told.get("training") != self._describes:
                    raise CheckpointError(
                        f"{self._file}: another training was interrupted here (other specification, data, variant or "
                        "seeds): finish that one, remove the file, or choose another --out"
                    )
                for name, tensor in self._state().items():
                    tensor.data.copy_(kept.get_tensor(name))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self._file}: no checkpoint ({error}): remove it to begin anew") from error
        return int(told["epoch"])

    def offer(self, epoch: int) -> None:
        """Keep the state after this epoch, unless the last one was kept a moment ago; raises CheckpointError."""
        if time.monotonic() - self._last_s < EVERY_S:
            return
        fresh = self._file.with_name(f".{self._file.name}.new")
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._state().items()}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(safetensors.torch.save(tensors, {"training": self._describes, "epoch": str(epoch)}))
            fresh.replace(self._file)
        except OSError as error:
            raise CheckpointError(f"{self._file}: the training cannot be kept ({error.strerror})") from error
        finally:
            fresh.unlink(missing_ok=True)
        self._last_s = time.monotonic()
