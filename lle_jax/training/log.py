"""Scalars and pictures of a run: a plain CSV, TensorBoard event files, PNG grids."""

import csv
from pathlib import Path

import numpy as np
import tensorboardX

from lle_jax import files, images

COLUMNS = (
    "step",
    "loss",
    "gradient_norm",
    "learning_rate",
    "images_per_second",
    "validation_psnr",
    "validation_ssim",
)


class Log:
    """Appends to `scalars.csv` and to event files in the run directory.

    Args:
      workdir: the run directory.
      step: where the run starts or resumes; rows after it, left by a start that died before its
        next checkpoint, are dropped, so that the file reads as if never interrupted.
    """

    def __init__(self, workdir: Path, step: int):
        self._pictures = workdir / "pictures"
        path = workdir / "scalars.csv"
        rows = []
        if path.exists():
            with path.open(newline="") as file:
                rows = [r for r in csv.reader(file) if len(r) == len(COLUMNS) and r[0].isdigit()]
        files.write_csv(path, COLUMNS, [row for row in rows if int(row[0]) <= step])
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
        """Writes one row; columns without a value stay empty."""
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
