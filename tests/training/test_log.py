import csv

import numpy as np

from lle_jax import images
from lle_jax.training.log import COLUMNS, Log


def read(workdir):
    with (workdir / "scalars.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_scalars_are_one_row_a_step_with_empty_cells_for_what_was_not_measured(tmp_path):
    with Log(tmp_path, 0) as log:
        log.scalars(10, loss=0.5, learning_rate=1e-3)
        log.scalars(20, loss=0.25, validation_psnr=21.0)
    header, first, second = read(tmp_path)
    assert tuple(header) == COLUMNS
    assert first == ["10", "0.5", "", "0.001", "", "", ""]
    assert second == ["20", "0.25", "", "", "", "21", ""]


def test_resuming_drops_rows_after_the_checkpoint_and_half_written_ones(tmp_path):
    with Log(tmp_path, 0) as log:
        for step in (10, 20, 30):
            log.scalars(step, loss=1 / step)
    with (tmp_path / "scalars.csv").open("a") as file:
        file.write("40,0.0")
    with Log(tmp_path, 20) as log:
        log.scalars(30, loss=0.5)
    assert [row[:2] for row in read(tmp_path)[1:]] == [["10", "0.1"], ["20", "0.05"], ["30", "0.5"]]


def test_event_files_hold_the_scalars_and_the_picture(tmp_path):
    with Log(tmp_path, 0) as log:
        log.scalars(10, loss=0.5)
        log.grid(10, [np.zeros((2, 16, 16, 3), np.float32), np.ones((2, 16, 16, 3), np.float32)])
    (events,) = tmp_path.glob("events.out.tfevents.*")
    content = events.read_bytes()
    assert b"loss" in content
    assert b"validation/low_enhanced_clean" in content


def test_the_grid_has_a_column_per_batch_and_a_row_per_image(tmp_path):
    dark, bright = (np.full((2, 8, 8, 3), value, np.float32) for value in (0.2, 0.8))
    with Log(tmp_path, 0) as log:
        log.grid(10, [dark, bright])
    grid = images.read(tmp_path / "pictures" / "validation_000010.png").pixels
    assert grid.shape == (16, 16, 3)
    np.testing.assert_allclose(grid[:, :8], 0.2, atol=1e-6)
    np.testing.assert_allclose(grid[:, 8:], 0.8, atol=1e-6)
