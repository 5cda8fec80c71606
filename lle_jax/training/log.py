"""What a run says of itself: its start, and scalars and pictures of it (CSV, TensorBoard, PNG)."""

import collections
import csv
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
import tensorboardX
import tqdm

from lle_jax import console, data, files, images
from lle_jax.models import cost

COLUMNS = (
    "step",
    "loss",
    "gradient_norm",
    "learning_rate",
    "images_per_second",
    "validation_psnr",
    "validation_ssim",
)

_CELL = r",(?:-?\d+(?:\.\d+)?(?:e[-+]\d+)?|nan|-?inf|)"
_ROW = re.compile(r"\d+" + _CELL * (len(COLUMNS) - 1), re.ASCII)
MIN_LOSSES, DEVIATIONS = 20, 10  # an ordinary run of the main job stays below 4 deviations


def announce(
    config: ml_collections.ConfigDict, workdir: Path, splits: data.Splits, first: int
) -> None:
    """Prints what is about to run from step `first`, and on what."""
    sides = config.data.context_sizes
    for line in data.skipped_lines(splits.rejected) + data.small_lines(splits.train, sides):
        print(line, file=sys.stderr)
    sizes = ", ".join(f"{len(getattr(splits, role))} {role}" for role in data.ROLES)
    parameters, macs = cost.cost(config.model, 256, 256)
    beginning = ""
    if first:
        beginning = f"; resuming from step {first}"
    elif config.train.start_from:
        beginning = f"; from the weights of {config.train.start_from}"
    console.note(
        f"run directory {workdir}\n"
        f"images: {sizes}, {len(splits.rejected)} skipped\n"
        f"{config.model.name} with {parameters:,} parameters, {macs / 1e9:.2f} G multiply-"
        f"accumulates at 256x256, on {jax.device_count()} x {jax.devices()[0].device_kind}"
        f"{beginning}"
    )


def is_spike(loss: float, recent: Sequence[float]) -> bool:
    """Tells whether a loss is more than 10 robust deviations above the median of recent ones.

    The deviation is 1.4826 times the median absolute deviation, the standard deviation of normal
    values, and at least a hundredth of the median, as losses may all be equal. A fall is no spike,
    and nothing is told from fewer than 20 losses.
    """
    if len(recent) < MIN_LOSSES:
        return False
    median = statistics.median(recent)
    deviation = 1.4826 * statistics.median(abs(value - median) for value in recent)
    return loss > median + DEVIATIONS * max(deviation, 0.01 * abs(median))


def repair_scalars(path: Path, step: int) -> list[list[str]]:
    """Drops damaged rows of a `scalars.csv` and those after a step, and returns the others.

    Rows after the step were left by a start that died before its next checkpoint; without them the
    file reads as if never interrupted. Damaged ones are counted in a line on stderr, but for the
    last one, which a killed process may have left half written.
    """
    text = path.read_bytes().decode("ascii", "replace") if path.exists() else ""
    header, *lines = text.split("\n") if text else [",".join(COLUMNS), ""]
    damaged = [line for line in lines[:-1] if not _ROW.fullmatch(line)]
    if count := len(damaged) + (header != ",".join(COLUMNS)):
        print(f"{path}: {count} damaged rows dropped", file=sys.stderr)
    rows = [line.split(",") for line in lines[:-1] if _ROW.fullmatch(line)]
    rows = [row for row in rows if int(row[0]) <= step]
    files.write_csv(path, COLUMNS, rows)
    return rows


class Log:
    """Appends to `scalars.csv` and to event files in the run directory.

    Args:
      workdir: the run directory.
      step: where the run starts or resumes; rows after it are dropped, as in `repair_scalars`.
    """

    def __init__(self, workdir: Path, step: int):
        self._pictures = workdir / "pictures"
        path = workdir / "scalars.csv"
        losses = [float(row[1]) for row in repair_scalars(path, step) if row[1]]
        self._recent = collections.deque(losses, maxlen=MIN_LOSSES)
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._events = tensorboardX.SummaryWriter(
            str(workdir), purge_step=step + 1 if step else None
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        self._events.close()

    def scalars(self, step: int, **values: float) -> None:
        """Writes one row; columns without a value stay empty. A spike of the loss is warned of."""
        if (loss := values.get("loss")) is not None:
            if is_spike(loss, self._recent):
                usual = statistics.median(self._recent)
                line = f"warning: the loss is {loss:.4g} at step {step}; usual is {usual:.4g}, the"
                line += f" median of the last {len(self._recent)} logged"
                tqdm.tqdm.write(line, file=sys.stderr)  # beside the bar, if there is one
            self._recent.append(loss)
        cells = (f"{values[name]:.6g}" if name in values else "" for name in COLUMNS[1:])
        self._writer.writerow([step, *cells])
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def grid(self, step: int, columns: list[np.ndarray]) -> None:
        """Saves batches `[N, H, W, 3]` as the columns of one picture, a row per image."""
        grid = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
        grid = np.clip(grid, 0, 1).astype(np.float32)
        self._pictures.mkdir(exist_ok=True)
        images.write(self._pictures / f"validation_{step:06d}.png", grid)
        self._events.add_image("validation/low_enhanced_clean", grid, step, dataformats="HWC")
