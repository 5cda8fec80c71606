import csv

import numpy as np
import pytest

from lle_jax import images
from lle_jax.training.log import COLUMNS, Log, is_spike, repair_scalars


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


@pytest.mark.parametrize(
    "damage", [b"", b"\xff\x00\n", b'20,"0.2,,,,,\n', b"20,0.1.2,,,,,\n", b"20\n"]
)
def test_damaged_rows_are_dropped_and_counted_in_one_line(damage, tmp_path, capsys):
    path = tmp_path / "scalars.csv"
    with Log(tmp_path, 0) as log:
        log.scalars(10, loss=0.1, gradient_norm=1e-7)
        log.scalars(30, loss=0.3, gradient_norm=float("nan"))
    whole = path.read_bytes()
    header, first, last = whole.splitlines(keepends=True)
    path.write_bytes(header + first + damage + last)
    repair_scalars(path, 30)
    assert path.read_bytes() == whole
    expected = [f"{path}: 1 damaged rows dropped"] if damage else []
    assert capsys.readouterr().err.splitlines() == expected
    for content in (b"\xa9\x00\xff", b"", b"\n\n"):
        path.write_bytes(content)
        assert repair_scalars(path, 30) == []
        assert read(tmp_path) == [list(COLUMNS)]
    path.write_bytes(whole[:-2])  # the last row, half written
    assert [row[0] for row in repair_scalars(path, 30)] == ["10"]


def test_a_spike_of_the_loss_is_one_line_and_is_known_after_resuming(tmp_path, capsys):
    losses = np.random.default_rng(0).uniform(0.1, 0.2, 30)
    with Log(tmp_path, 0) as log:
        for step, loss in enumerate(losses, 1):
            log.scalars(step, loss=loss)
    with Log(tmp_path, 30) as log:
        log.scalars(31, learning_rate=1e-3)
        assert capsys.readouterr().err == ""
        log.scalars(32, loss=2.5)
        log.scalars(33, loss=0.15)
    usual = np.median(losses[-20:])
    assert capsys.readouterr().err == (
        f"warning: the loss is 2.5 at step 32; usual is {usual:.4g}, the median of the last 20 "
        "logged\n"
    )
    assert read(tmp_path)[-2][1] == "2.5"


def test_losses_that_fall_and_vary_as_in_an_ordinary_run_are_no_spikes():
    rng = np.random.default_rng(0)
    falling = 0.1 + 0.3 * np.exp(-np.arange(4000) / 500)
    losses = falling * np.exp(rng.normal(0, 0.25, 4000))  # that of single batches of four images
    assert not [n for n in range(4000) if is_spike(losses[n], losses[max(0, n - 20) : n])]
    assert not is_spike(0.105, [0.1] * 20)
    assert is_spike(0.12, [0.1] * 20)
    assert is_spike(1.0, [-2.0] * 20)
    assert not is_spike(100.0, [0.1] * 19)


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
