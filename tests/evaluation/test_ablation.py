"""Ablations: grids, cells that are killed or fail, and what the tables say of known numbers."""

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_collections
import numpy as np
import pytest
import scipy.stats

from lle_jax import cli, data, degrade, images
from lle_jax.evaluation import ablation, ablation_table
from lle_jax.evaluation.ablation import Ablation, AblationError
from lle_jax.evaluation.ablation_table import Result
from lle_jax.experiments.ablations import degradations, losses, modalities, networks
from lle_jax.models import cost
from lle_jax.models.cost import Cost
from lle_jax.training import losses as loss_terms
from lle_jax.training import zero_reference

ROOT = Path(__file__).parents[2]

# A run of a few steps that saves its state after each, goes on from it, and says so if another
# process works in the same folder at the same time.
FAKE = """
import hashlib, os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
def write(name, text):
    part = folder / f"{name}.{os.getpid()}"
    part.write_text(text)
    part.replace(folder / name)
state = folder / "state"
step, digest = state.read_text().split() if state.exists() else ("0", sys.argv[1].split("/")[-1])
for number in range(int(step), 10):
    write("owner", str(os.getpid()))
    time.sleep(0.02)
    if (folder / "owner").read_text() != str(os.getpid()):
        (folder / "two at once").write_text("")
    digest = hashlib.sha256(digest.encode()).hexdigest()
    write("state", f"{number + 1} {digest}")
(folder / "evaluation").mkdir(exist_ok=True)
with (folder / "evaluation" / "per_image.csv").open("w") as file:
    print("image,realisation,unit,modality,condition,method,metric,value", file=file)
    for image in range(7):
        print(f"{image},0-1,,,1,low,psnr,0", file=file)
        value = int(digest[image * 4 : image * 4 + 4], 16) / 4096
        print(f"{image},0-1,,,1,unet (EMA),psnr,{value}", file=file)
record = '{"fingerprint": "", "code": "", "suite": "", "methods": ["unet (EMA)"], "images": 7}'
write("evaluation/suite.json", record)
"""

MSE = {"loss.ssim": 0.0, "loss.mse": 1.0}
MODEL = {"name": "unet", "widths": (4, 6), "blocks": 1, "dtype": "float32"}
TABLES = ("results.csv", "table.csv", "table.md")


COSTS = {}  # what `counted` counted


def counted(config, *size, count=cost.cost):
    """As `cost.cost`, which traces a network; each is traced once."""
    key = config.to_json(), size
    if key not in COSTS:
        COSTS[key] = count(config, *size)
    return COSTS[key]


@pytest.fixture(autouse=True, scope="module")
def no_timing():
    """Timing compiles the network; here it is not what is tested, nor is what a network costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "seconds_per_image", lambda *_: 0.25)
        patch.setattr(cost, "cost", counted)
        yield


def fake(cell):
    return [sys.executable, "-c", FAKE, str(cell.folder)]


def grid(**changes) -> Ablation:
    fields = {
        "seed": 5,
        "model": MODEL,
        "loss": {"ssim": 0.2, "mse": 0.0},
        "train": {"steps": 10},
        "evaluation": {"realisations": 1},
    }
    values = {
        "base": ml_collections.ConfigDict(fields),
        "variants": {
            "base": {},
            "half": {"train.steps": 5},
            "mse": {"loss.ssim": 0.0, "loss.mse": 1.0},
        },
        "quick": {"train.steps": 2},
        "seeds": 2,
    }
    return Ablation(**(values | changes))


def read(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An ablation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, ablation.run(ablation.plan(grid(), folder), folder, command=fake)


START = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_ablation as t
cells = t.ablation.plan(t.grid(), Path(sys.argv[1]))
t.cost.seconds_per_image = lambda *_: 0.25
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "cells could not have an accelerator"
print("ready", flush=True)
t.ablation.run(cells, Path(sys.argv[1]), command=t.fake)
"""


def start(folder):
    code = START.format(tests=str(Path(__file__).parent))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_three_kills_at_random_moments_change_nothing(finished, tmp_path):
    generator = random.Random()
    done = []
    # with all that it started, and alone, so that its cell lives on
    for kill in (os.killpg, os.kill, os.killpg):
        process = start(tmp_path)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("cells/*/owner")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.8))
        kill(process.pid, signal.SIGKILL)
        process.wait()
        done.append(len(list(tmp_path.glob("cells/*/evaluation/suite.json"))))
    assert done[0] < 6, "nothing was interrupted"
    assert start(tmp_path).wait() == 0
    assert read(tmp_path) == read(finished[0])
    assert list(tmp_path.glob("cells/*/two at once")) == []


def test_a_finished_ablation_runs_nothing_and_writes_the_same(finished):
    folder, report = finished
    before = read(folder)

    def never(cell):
        raise AssertionError(cell)

    again = ablation.run(ablation.plan(grid(), folder), folder, command=never)
    assert read(folder) == before
    assert again.seconds == report.seconds
    assert len(report.table) == 3
    assert report.failures == []


def test_more_seeds_are_added_to_those_that_are_done(finished, tmp_path):
    cells = ablation.plan(grid(), tmp_path, seeds=1)
    first = ablation.run(cells, tmp_path, command=fake)
    assert math.isnan(first.table[0].std)
    ablation.run(ablation.plan(grid(), tmp_path), tmp_path, command=fake)
    assert read(tmp_path) == read(finished[0])


def test_a_failed_cell_is_tried_again_reported_and_retried_by_the_next_start(finished, tmp_path):
    tries = []

    def half_fails(cell, when):
        if cell.variant == "half" and cell.seed == 1:
            tries.append(cell)
            if when(len(tries)):
                return [sys.executable, "-c", "import sys; sys.exit('no memory is left')"]
        return fake(cell)

    cells = ablation.plan(grid(), tmp_path)
    report = ablation.run(cells, tmp_path, command=lambda c: half_fails(c, lambda n: True))
    assert len(tries) == 2
    (failure,) = report.failures
    assert failure.startswith("half-seed1: no memory is left; exit status 1, see ")
    half = next(entry for entry in report.table if entry.variant == "half")
    assert half.seeds == 1
    assert "on 1 of 2 seeds" in half.note

    tries.clear()  # the next start: it fails once, and goes well the second time
    report = ablation.run(cells, tmp_path, command=lambda c: half_fails(c, lambda n: n == 1))
    assert len(tries) == 2
    assert report.failures == []
    assert read(tmp_path) == read(finished[0])


def test_a_killed_cell_is_reported_as_such_and_the_others_go_on(tmp_path):
    def command(cell):
        code = "import os; os.kill(os.getpid(), 9)"
        return [sys.executable, "-c", code] if cell.variant == "base" else fake(cell)

    report = ablation.run(ablation.plan(grid(seeds=1), tmp_path), tmp_path, command=command)
    assert [failure.split(";")[0] for failure in report.failures] == [
        "base-seed0: killed by SIGKILL"
    ]
    assert [entry.variant for entry in report.table] == ["half", "mse"]
    assert all(math.isnan(entry.p_holm) for entry in report.table)


def test_cells_on_other_test_images_are_refused(tmp_path):
    cells = ablation.plan(grid(seeds=1), tmp_path)
    ablation.run(cells, tmp_path, command=fake)
    record = cells[1].folder / "evaluation" / "suite.json"
    record.write_text(record.read_text().replace('"fingerprint": ""', '"fingerprint": "b"'))
    with pytest.raises(AblationError, match="base-seed0 and half-seed0 were evaluated on diff"):
        ablation.run(cells, tmp_path, command=fake)


def test_cells_on_other_test_images_end_it_before_the_others_are_trained(tmp_path):
    cells = ablation.plan(grid(seeds=1), tmp_path)

    def command(cell):
        if cell is not cells[1]:
            return fake(cell)
        other = FAKE.replace('"fingerprint": ""', '"fingerprint": "b"')
        assert other != FAKE
        return [sys.executable, "-c", other, str(cell.folder)]

    with pytest.raises(AblationError, match="base-seed0 and half-seed0 were evaluated on diff"):
        ablation.run(cells, tmp_path, command=command)
    assert [cell.folder.exists() for cell in cells] == [True, True, False]


def test_images_of_a_patient_are_averaged(rows):
    patients = {image: str(number // 2) for number, image in enumerate(IMAGES)}
    costs = dict.fromkeys("abc", Cost(7, 9))
    _, b, _ = ablation_table.summarise(
        [r._replace(unit=patients[r.image]) for r in rows], "a", costs
    )
    assert b.note.startswith("4 patients or groups: p cannot go below 0.125")
    differences = (by_image(rows, "b") - by_image(rows, "a")).reshape(4, 2).mean(axis=1)
    np.testing.assert_allclose(b.difference, differences.mean())
    # of two comparisons, of which the other's p is larger
    np.testing.assert_allclose(b.p_holm, 2 * scipy.stats.wilcoxon(differences).pvalue)


def test_an_image_without_a_value_is_left_out_of_all_variants(rows):
    costs = dict.fromkeys("abc", Cost(7, 9))
    broken = [
        r._replace(value=math.nan) if (r.variant, r.seed, r.image) == ("b", 1, IMAGES[3]) else r
        for r in rows
    ]
    kept = [r for r in rows if r.image != IMAGES[3]]
    for found, expected in zip(
        *(ablation_table.summarise(each, "a", costs) for each in (broken, kept)), strict=True
    ):
        np.testing.assert_equal(found._replace(note=expected.note), expected)
        assert "psnr is not defined for 1 images, which are left out" in found.note


def test_nothing_done_is_no_table(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    cells = ablation.plan(grid(seeds=1), tmp_path)
    report = ablation.run(cells, tmp_path, command=lambda cell: command)
    assert len(report.failures) == 3
    assert "no output; exit status 3" in report.failures[0]
    assert ablation_table.text(report.table) == "no cell is done"


def test_cells_have_their_changes_and_their_seeds(tmp_path):
    cells = {(c.variant, c.seed): c.config for c in ablation.plan(grid(), tmp_path, quick=True)}
    assert [config.seed for config in cells.values()] == [5, 5, 5, 6, 6, 6]
    assert {config.train.steps for config in cells.values()} == {2}
    assert cells["mse", 0].loss.to_dict() == {"ssim": 0.0, "mse": 1.0}
    assert cells["half", 1].loss.to_dict() == {"ssim": 0.2, "mse": 0.0}
    assert ablation.plan(grid(), tmp_path)[1].config.train.steps == 5


def test_the_configuration_beside_a_cell_is_the_cells(finished):
    folder, _ = finished
    cell = ablation.plan(grid(), folder)[2]
    names = {}
    exec((folder / "cells" / "mse-seed0.py").read_text(), names)
    assert names["get_config"]().to_dict() == cell.config.to_dict()
    assert isinstance(names["get_config"]().model.widths, tuple)


IMAGES = tuple(f"image-{number}" for number in range(8))


@pytest.fixture(scope="module")
def rows():
    """Three variants, two seeds, two realisations of eight images; psnr of b is above that of a."""
    generator = np.random.default_rng(0)
    level = {"a": 20.0, "b": 21.0, "c": 20.0}
    return [
        Result(variant, seed, image, str(number), "psnr", level[variant] + generator.normal())
        for variant in level
        for seed in (0, 1)
        for image in IMAGES
        for number in (0, 1)
    ]


def by_image(rows, variant):
    return np.array(
        [
            np.mean([r.value for r in rows if (r.variant, r.image) == (variant, image)])
            for image in IMAGES
        ]
    )


def test_the_table_equals_numpy_and_scipy(rows):
    costs = dict.fromkeys("abc", Cost(7, 9))
    a, b, c = ablation_table.summarise(rows, "a", costs)
    for entry in (a, b, c):
        means = [
            np.mean([r.value for r in rows if (r.variant, r.seed) == (entry.variant, seed)])
            for seed in (0, 1)
        ]
        np.testing.assert_allclose((entry.mean, entry.std), (np.mean(means), np.std(means, ddof=1)))
        assert (entry.seeds, entry.parameters, entry.macs) == (2, 7, 9)
    assert math.isnan(a.difference)
    differences = [by_image(rows, variant) - by_image(rows, "a") for variant in "bc"]
    p = [scipy.stats.wilcoxon(d).pvalue for d in differences]
    np.testing.assert_allclose(b.difference, differences[0].mean())
    np.testing.assert_allclose(c.difference, differences[1].mean())
    assert p[0] < p[1]
    np.testing.assert_allclose((b.p_holm, c.p_holm), (min(2 * p[0], 1), max(2 * p[0], p[1])))
    assert b.low < b.difference < b.high
    assert b.low > 0
    assert b.effect > 0.9


def test_the_text_has_a_line_per_variant(rows):
    lines = ablation_table.text(
        ablation_table.summarise(rows, "a", dict.fromkeys("abc", Cost(1234, 5_000_000))),
        dict.fromkeys("abc", 0.25),
    ).split("\n")
    assert [line.split()[1] for line in lines[:5]] == ["variant", "---", "a", "b", "c"]
    assert len({len(line) for line in lines[:5]}) == 1
    bold = ablation_table.latex(
        ablation_table.summarise(rows, "a", dict.fromkeys("abc", Cost(1234, 5_000_000)))
    ).splitlines()
    assert [line.split()[0] for line in bold[4:7]] == ["a", "b", "c"]
    assert [line.count(r"\textbf{") for line in bold[4:7]] == [0, 1, 0]  # the best mean
    cells = [cell.strip() for cell in lines[3].split("|")][1:-1]
    assert cells[1] == "2"
    assert cells[-3:] == ["1,234", "0.01", "250"]
    assert "+-" in cells[2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"a b": {}}}, "variant 'a b': use letters, digits"),
        ({"variants": {"../a": {}}}, "variant '../a'"),
        ({"variants": {}}, "0 variants, 2 seeds; expected some"),
        ({"seeds": 0}, "3 variants, 0 seeds; expected some"),
        ({"variants": {"a": {"train.step": 3}}}, "a: no field 'train.step'; did you mean train.st"),
        ({"variants": {"a": {"seed.x": 3}}}, "a: seed.x: "),
        ({"variants": {"a": {"los": {"mse": 1}}}}, "a: no field 'los'; did you mean loss?"),
        ({"variants": {"a": {"loss": {"mse": 1}}}}, "a: loss: a group; name its fields, such as"),
        ({"variants": {"a": {"train.steps": "many"}}}, "a: train.steps: "),
    ],
)  # fmt: skip
def test_a_wrong_grid_is_named_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(AblationError) as error:
        ablation.plan(grid(**changes), tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_ablation_is_refused(tmp_path):
    cells = ablation.plan(grid(), tmp_path)
    cells[0].folder.mkdir(parents=True)
    (cells[0].folder / "config.json").write_text(cells[0].config.to_json())
    with pytest.raises(
        AblationError, match=r"train\.steps \(there 10, here 2\); choose another -o"
    ):
        ablation.plan(grid(), tmp_path, quick=True)
    ablation.plan(grid(), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file; for example experiments/ablations/losses.py"),
        ("x = 1", "it has no get_ablation()"),
        ("def get_ablation(): return {}", "get_ablation() returns no Ablation"),
        ("import nowhere_at_all", "it cannot be run (ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_grid_is_one_line_and_exits_2(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / "grid.py").write_text(text)
    assert cli.main(["ablate", str(tmp_path / "grid.py"), "-o", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", [losses, degradations, networks, modalities])
@pytest.mark.parametrize("quick", [False, True])
def test_the_grids_that_ship_are_sound(module, quick, tmp_path):
    cells = ablation.plan(module.get_ablation(), tmp_path, quick=quick, seeds=1)
    assert len({str(cell.config) for cell in cells}) == len(cells) >= 4
    for cell in cells:
        if cell.config.loss.get("kind") == "zero_reference":
            zero_reference.make(cell.config)
        else:
            loss_terms.make(cell.config.loss)
        preset = cell.config.degradation.preset
        names = {degrade.name_for(preset, modality) for modality in data.MODALITIES}
        stages = {stage.name for name in names for stage in degrade.load(name).stages}
        assert set(cell.config.degradation.get("drop", ())) <= stages
    if module is degradations:
        assert {
            name for cell in cells for name in cell.config.degradation.get("drop", ())
        } == stages


@pytest.mark.parametrize("module", [networks, modalities])
def test_the_networks_that_are_compared_cost_the_same(tmp_path, module):
    cells = ablation.plan(module.get_ablation(), tmp_path, seeds=1)
    counts = [cost.cost(cell.config.model, 256, 256).macs for cell in cells]
    assert max(counts) < 1.1 * counts[0]
    assert min(counts) > 0.9 * counts[0]


GRID = """
from lle_jax.experiments import unet
from lle_jax.evaluation.ablation import Ablation


def get_ablation():
    quick = {{
        "data.source": {source!r},
        "data.crop": 16,
        "data.batch_size": 2,
        "model": {model!r},
        "optim.warmup_steps": 1,
        "train.steps": 3,
        "evaluation.realisations": 1,
    }}
    dropped = {{"degradation.preset": {preset!r}, "degradation.drop": ("exposure",)}}
    mse = {{"loss.charbonnier": 0.0, "loss.ssim": 0.0, "loss.mse": 1.0}}
    variants = {{"no_exposure_mse": dropped | mse}}
    return Ablation(base=unet.get_config(), variants=variants, quick=quick, quick_seeds=1)
"""


def test_a_cell_trains_and_is_evaluated_by_the_main_job(photographs, tmp_path, capsys, monkeypatch):
    (tmp_path / "images").mkdir()
    for number in range(3):
        picture = np.ascontiguousarray(
            np.roll(photographs[number % 2], 5 * number, axis=0)[:32, :32]
        )
        images.write(tmp_path / "images" / f"{number}.png", picture)
    preset = tmp_path / "preset.toml"
    preset.write_text("[exposure]\ngain = 0.3\n[gaussian_noise]\nsigma = 0.02\n")
    text = GRID.format(source=str(tmp_path / "images"), model=MODEL, preset=str(preset))
    (tmp_path / "grid.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "out"
    status = cli.main(["ablate", str(tmp_path / "grid.py"), "-o", str(out), "--quick", "--latex"])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "| no_exposure_mse | 1 " in printed.out
    assert r"no\_exposure\_mse & 1 & " in printed.out
    assert printed.err.startswith("ablate: 0/1 cells, ")  # no terminal, and yet not silent
    assert "\r" not in printed.err
    cell = out / "cells" / "no_exposure_mse-seed0"
    assert (cell / "checkpoints" / "3").is_dir()
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"psnr", "ssim"} < {row["metric"] for row in rows}
    record = json.loads((cell / "evaluation" / "suite.json").read_text())
    per_image = (cell / "evaluation" / "per_image.csv").read_text()
    assert f"{record['methods'][0]},psnr,{rows[0]['value']}\n" in per_image
    assert "clahe" not in per_image
