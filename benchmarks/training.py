"""Training as a person sees it: a progress bar, a checkpoint beside the run, and a word at the end."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.terminal import progress_bar, say
from export.data.rows import Rows
from export.runs import Run, save_run
from export.spec import Spec
from export.training import train
from export.variants import Choice


def train_run(spec: Spec, rows: Rows, choice: Choice, seeds: Sequence[int], out: Path) -> Run:
    """Train and write the run into `out`; interrupted, the same call goes on from `<out>.checkpoint`."""
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    label = f"training {spec.name}, {choice.name}"
    if checkpoint.exists():
        say(f"{label}: going on from {checkpoint}")
    try:
        with progress_bar(label) as update:
            trained = train(
                spec,
                rows,
                choice.variant,
                seeds,
                lambda done, total, found: update(done, total, f"{100 * found:.2f} % validation" if found else ""),
                checkpoint,
            )
    except KeyboardInterrupt:
        if checkpoint.exists():
            say(f"kept in {checkpoint}: the same command goes on from there")
        raise
    run = save_run(trained, choice.name, out)
    checkpoint.unlink(missing_ok=True)
    epochs = ", ".join(map(str, run.epochs))
    say(f"trained {spec.name}, {choice.name}: seeds {', '.join(map(str, run.seeds))}, best epochs {epochs}: {out}")
    return run
