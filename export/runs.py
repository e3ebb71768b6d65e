"""A run: the folder that training leaves, `run.json` and the weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
import safetensors
import safetensors.torch
import torch

from broker.errors import FogError
from export.folder import written_folder
from export.network import Network
from export.node import Sensor
from export.spec import Spec, parse_spec
from export.training import Trained
from export.variants import Variant

RUN: Final = "run.json"
WEIGHTS: Final = "weights.safetensors"


class RunError(FogError):
    """There is no run here that this version can read."""


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a network was trained; seeds, best epochs and validation accuracies stand in the same order.

    `name` is the variant's, with what was changed about it.
    """

    schema_version: Literal[2] = 2
    spec: str
    name: str
    variant: Variant
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    validation_accuracy: tuple[float, ...]
    data_sha256: str
    labels: tuple[str, ...]
    prior: tuple[float, ...]

    def parsed_spec(self) -> Spec:
        """Return the specification that was trained."""
        return parse_spec(self.spec, f"{RUN}: spec")

    @property
    def best_seed(self) -> int:
        """The seed that validates best."""
        return self.seeds[max(range(len(self.seeds)), key=self.validation_accuracy.__getitem__)]


def save_run(trained: Trained, name: str, out: Path) -> Run:
    """Write the run into the folder `out`, whole or not at all; raises FolderError."""
    network = trained.network
    run = Run(
        spec=network.spec.text,
        name=name,
        variant=network.variant,
        seeds=tuple(network.seeds or ()),
        epochs=trained.epochs,
        validation_accuracy=trained.validation_accuracy,
        data_sha256=trained.rows.sha256,
        labels=trained.rows.class_names,
        prior=trained.prior,
    )
    with written_folder(out, RUN) as folder:
        (folder / RUN).write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(network.state_dict()))
    return run


def newest_run(folder: Path = Path("runs")) -> Path:
    """Return the run in `folder` that was trained last; raises RunError."""
    found = sorted(folder.glob(f"*/{RUN}"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise RunError(f"no run in {folder}/: name one, or make one with `fogguard train SPEC`")
    return found[-1].parent


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


def load_network(
    weights: Path, spec: Spec, variant: Variant, classes: int, seeds: Sequence[int] | None = None
) -> Network:
    """Return the network of a bundle, or of a run with its seeds, ready to evaluate; raises RunError."""
    network = _empty(spec, variant, classes, seeds)
    try:
        network.load_state_dict(safetensors.torch.load_file(weights))
    except OSError as error:
        raise RunError(f"{weights}: cannot be read ({error.strerror})") from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise RunError(f"{weights}: not the weights of {spec.name} ({str(error).splitlines()[0]})") from error
    return network.eval()


def _empty(spec: Spec, variant: Variant, classes: int, seeds: Sequence[int] | None) -> Network:
    """Return a network whose weights and sensors are to be loaded."""
    sensors = {name: Sensor(torch.zeros(width), torch.ones(width)) for name, width in spec.sensors.items()}
    return Network(spec, classes, sensors, variant, seeds)


def one_seed(network: Network, seed: int) -> Network:
    """Return the network of one of the seeds that were trained together; raises RunError."""
    if network.seeds is None or seed not in network.seeds:
        raise RunError(f"seed {seed} is not in this run: it has {', '.join(map(str, network.seeds or ()))}")
    alone = _empty(network.spec, network.variant, network.widths[network.spec.sink], None)
    position = list(network.seeds).index(seed)
    state = network.state_dict()
    alone.load_state_dict(
        {name: value if name.startswith("sensors.") else value[position].clone() for name, value in state.items()}
    )
    return alone.eval()
