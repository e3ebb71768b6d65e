"""A run: the folder that training leaves, `run.json` and the weights."""

from pathlib import Path
from typing import Final, Literal

import msgspec
import safetensors
import safetensors.torch
import torch

from broker.errors import FogError
from export.folder import written_folder
from export.network import VARIANTS, Network, Sensor
from export.spec import Spec, parse_spec
from export.training import Trained

RUN: Final = "run.json"
WEIGHTS: Final = "weights.safetensors"
VariantName = Literal["vanilla", "deepfogguard", "failout"]


class RunError(FogError):
    """There is no run here that this version can read."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a network was trained."""

    schema_version: Literal[1] = 1
    spec: str
    variant: VariantName
    seed: int
    epoch: int
    validation_accuracy: float
    data_sha256: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]

    def parsed_spec(self) -> Spec:
        """Return the specification that was trained."""
        return parse_spec(self.spec, f"{RUN}: spec")


def save_run(trained: Trained, variant: VariantName, seed: int, out: Path) -> Run:
    """Write the run into the folder `out`, whole or not at all; raises FolderError."""
    run = Run(
        spec=trained.network.spec.text,
        variant=variant,
        seed=seed,
        epoch=trained.epoch,
        validation_accuracy=trained.validation_accuracy,
        data_sha256=trained.rows.sha256,
        labels=trained.rows.class_names,
        prior=trained.prior,
    )
    with written_folder(out, RUN) as folder:
        (folder / RUN).write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
        safetensors.torch.save_file(trained.network.state_dict(), folder / WEIGHTS)
    return run


def load_run(path: Path) -> Run:
    """Read the run in the folder `path`; raises RunError."""
    try:
        return msgspec.json.decode((path / RUN).read_bytes(), type=Run)
    except OSError as error:
        raise RunError(
            f"no run at {path} ({error.strerror}: {RUN}): make one with `fogguard train SPEC --out {path}`"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path / RUN}: {error}: train again with this fogguard") from error


def load_network(weights: Path, spec: Spec, variant: str, classes: int) -> Network:
    """Return the network of a run or a bundle, ready to evaluate; raises RunError."""
    sensors = {name: Sensor(torch.zeros(width), torch.ones(width)) for name, width in spec.sensors.items()}
    network = Network(spec, classes, sensors, skips=VARIANTS[variant].skips)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights))
    except OSError as error:
        raise RunError(f"{weights}: cannot be read ({error.strerror})") from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise RunError(f"{weights}: not the weights of {spec.name} ({str(error).splitlines()[0]})") from error
    return network.eval()
