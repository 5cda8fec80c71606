"""Every key of experiments/base.py changes something that can be observed; a dead key fails."""

import dataclasses
import functools
import hashlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import checks, data, images, models
from lle_jax.checkpoints import release
from lle_jax.experiments import base
from lle_jax.phase_timer import PhaseTimer
from lle_jax.rundir import flatten
from lle_jax.training import config as configs
from lle_jax.training import degradation, objective, optimiser, sharding, state, train

SMALL = {
    "data.crop": 16,
    "data.batch_size": 4,
    "optim.warmup_steps": 1,
    "train.steps": 4,
    "train.log_every": 1,
    "train.validate_every": 2,
    "train.checkpoint_every": 2,
}
PRESET = "[exposure]\ngain = 0.4\n[gaussian_noise]\nsigma = 0.05\n"


def make(**changes):
    config = base.get_config()
    config.update_from_flattened_dict(SMALL | changes)
    return config


def stub(config) -> train.Experiment:
    """The experiment with a network of one parameter, which compiles in no time."""

    def apply(params, image):
        return params["w"] * image

    mesh = sharding.make_mesh()
    update, schedule = optimiser.make(config.optim, config.train.steps)
    start = state.create({"w": jnp.full((), 1.5)}, update, jax.random.key(config.seed))
    return train.Experiment(
        mesh,
        apply,
        objective.make(config, apply),
        degradation.make(config.degradation.preset),
        degradation.make(
            config.degradation.preset, config.degradation.drop, config.degradation.mixed_with
        ),
        update,
        schedule,
        jax.device_put(start, sharding.replicated(mesh)),
        None,
    )


@functools.cache
def splits(source, crop):
    return data.load(source, crop=crop)


@functools.cache
def splits_of(source, pairs, weight, folds, fold):
    config = make(**{"data.source": source, "data.pairs": pairs, "data.pairs_weight": weight})
    config.data.update(folds=folds, fold=fold)
    return train.load_images(config)


def batches(config, _):
    """The first four batches that training draws."""
    names = ("source", "pairs", "pairs_weight", "folds", "fold")
    parts = splits_of(*(config.data[name] for name in names))
    iterator = train.make_iterator(config, parts.train)
    drawn = [next(iterator) for _ in range(4)]
    return [
        (batch.clean.shape, *(np.asarray(part).tobytes() for part in batch if part is not None))
        for batch in drawn
    ]


def steps(config, _):
    """Losses and states of four steps on fixed crops."""
    experiment = stub(config)
    step, current = train.make_step(config, experiment), experiment.state
    clean = np.random.default_rng(0).random((4, 8, 16, 16, 3), np.float32)
    seen = []
    for crops in clean:
        batch = data.Batch(crops, np.arange(8, dtype=np.int32) % 2)
        current, scalars = step(current, sharding.to_devices(batch, experiment.mesh))
        seen.append(jax.device_get((scalars, current.params, current.ema)))
    return repr(seen)


def loss(config, _):
    """The objective's loss of one pair of images."""
    image, clean = np.random.default_rng(0).random((2, 1, 32, 32, 3), np.float32)
    if config.loss.kind == "zero_reference":
        curves = jnp.asarray(clean[..., :1] * np.ones(24, np.float32))
        output = image, clean, curves.reshape(8, 1, 32, 32, 3)
    else:
        output = image
    measure = objective.make(config, lambda params, image: image).loss
    return float(jax.jit(measure)(output, clean))


def target(config, _):
    """What a small two-path network is to restore of a crop."""
    config.model.update(widths=(4,), blocks=(1,))
    apply, params = models.build(config.model, jax.random.key(0))
    low, clean = np.random.default_rng(0).random((2, 2, 16, 16, 3), np.float32)
    forward = objective.make(config, apply).forward
    return np.asarray(jax.jit(forward)(jax.random.key(0), params, low, clean)[1]).tobytes()


def shapes(config, _):
    """The shapes of the network's parameters, which its program takes."""
    return str(jax.tree.map(lambda leaf: leaf.shape, jax.tree.leaves(models.shapes(config.model))))


def program(config):
    """The network's program."""
    network, params = models.bind(config.model), models.shapes(config.model)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    return str(jax.make_jaxpr(lambda params, image: network(params)(image))(params, image))


def have_other_programs(config, other):
    """Whether the programs of two networks differ; traced only if not by their parameters."""
    if seen(shapes, config, None) != seen(shapes, other, None):
        return True
    return program(config) != program(other)


def run_files(config, folder):
    """The rows of scalars.csv and the checkpoints of a run."""
    workdir = folder / hashlib.sha256(config.to_json().encode()).hexdigest()[:12]
    workdir.mkdir()
    parts = splits("samples", 16)
    few = dataclasses.replace(parts, validation=parts.validation.subset([0]))
    experiment = stub(config)
    iterator = train.make_iterator(config, few.train)
    train.train_loop(config, experiment, few, experiment.state, iterator, workdir, PhaseTimer())
    table = (workdir / "scalars.csv").read_text().splitlines()[1:]
    cells = [row.split(",") for row in table]
    rows = [(row[0], row[1] != "", row[5] != "") for row in cells]  # step, logged, validated
    return rows, sorted(path.name for path in (workdir / "checkpoints").iterdir())


def first_parameters(config, _):
    """The parameters that a run starts from."""
    return [leaf.tobytes() for leaf in map(np.asarray, initial_leaves(config))]


def initial_leaves(config):
    return jax.tree.leaves(train.prepare(config).state.params)


def table(config, folder, monkeypatch):
    """The low-light test images and the methods of the final table."""
    calls = []

    def record(suite, methods, baselines, folder):
        calls.append((suite, [method.name for method in (*methods, *baselines)]))
        raise StopIteration

    parts = splits("samples", 16)
    few = dataclasses.replace(parts, test=parts.test.subset([1]))
    monkeypatch.setattr(train.evaluate, "evaluate", record)
    with pytest.raises(StopIteration):
        train.evaluate_test_images(config, few, train.prepare(config).state, parts.record, folder)
    ((suite, names),) = calls
    return names, [case.low.tobytes() for case in suite.cases()]


TINY = {"model.widths": (4,)}
PLAIN = {"loss.ssim": 0.0}
QUICK = PLAIN | {"degradation.preset": "<preset>"}  # a step that compiles in little time
ZERO = {"model": base.network("zero_dce"), "loss.kind": "zero_reference"}

# key -> (observable, another value, what else must be set for both); every key has its line.
# "<name>" stands for a path that the fixture `paths` makes.
KEYS = {
    "seed": (batches, 1, {}),
    "data.source": (batches, "<images>", {}),
    "data.pairs": (batches, "<pairs>", {}),
    "data.pairs_weight": (batches, 0.5, {"data.pairs": "<pairs>"}),
    "data.folds": (batches, 3, {"data.source": "<images>"}),
    "data.fold": (batches, 1, {"data.source": "<images>", "data.folds": 3}),
    "data.balance": (batches, True, {}),
    "data.crop": (batches, 24, {}),
    "data.context_sizes": (batches, (16, 24), {}),
    "data.random_resized_crop_min_scale": (batches, 0.5, {}),
    "data.whole_fraction": (batches, 1.0, {}),
    "data.photometric_augmentation": (steps, 1.0, QUICK),
    "data.mixup": (steps, 1.0, QUICK),
    "data.batch_size": (batches, 8, {}),
    "degradation.preset": (steps, "<preset>", PLAIN),
    "degradation.mixed_with": (steps, ("radiograph",), QUICK),
    "degradation.drop": (steps, ("exposure",), QUICK),
    "degradation.clean_fraction": (steps, 0.5, QUICK),
    "loss.kind": (loss, "zero_reference", {"model": base.network("zero_dce")}),
    "loss.charbonnier": (loss, 0.5, PLAIN),
    "loss.ssim": (loss, 0.5, {}),
    "loss.mse": (loss, 0.5, PLAIN),
    "loss.ms_ssim": (loss, 0.5, PLAIN),
    "loss.edge": (loss, 0.5, PLAIN),
    "loss.frequency": (loss, 0.5, PLAIN),
    "loss.colour": (loss, 0.5, PLAIN),
    "loss.lpips": (loss, 0.5, PLAIN | {"loss.lpips_weights": "a.npz"}),
    "loss.lpips_weights": (
        loss,
        "longer.npz",
        PLAIN | {"loss.lpips": 1.0, "loss.lpips_weights": "a.npz"},
    ),
    "loss.segmentation_consistency": (loss, 0.5, PLAIN | {"loss.segmenter": "a"}),
    "loss.segmenter": (
        loss,
        "longer",
        PLAIN | {"loss.segmentation_consistency": 1.0, "loss.segmenter": "a"},
    ),
    "loss.zero_reference.exposure": (loss, 0.2, ZERO),
    "loss.zero_reference.spatial": (loss, 2.0, ZERO),
    "loss.zero_reference.colour": (loss, 2.0, ZERO),
    "loss.zero_reference.smoothness": (loss, 2.0, ZERO),
    "optim.lr": (steps, 1e-2, QUICK),
    "optim.warmup_steps": (steps, 2, QUICK),
    "optim.b2": (steps, 0.9, QUICK),
    "optim.weight_decay": (steps, 0.5, QUICK),
    "optim.clip_norm": (steps, 1e-9, QUICK),
    "optim.ema_decay": (steps, 0.01, QUICK),
    "optim.accumulate": (steps, 2, QUICK),
    "train.given_exposure": (target, 1.0, {"model": base.network("dual_path"), "data.crop": 16}),
    "train.start_from": (first_parameters, "<release>", TINY),
    "train.steps": (run_files, 3, QUICK),
    "train.log_every": (run_files, 3, QUICK | {"train.validate_every": 4}),
    "train.validate_every": (run_files, 3, QUICK | {"train.log_every": 4}),
    "train.checkpoint_every": (run_files, 3, QUICK),
    "evaluation.seed": (table, 2, TINY),
    "evaluation.realisations": (table, 1, TINY),
    "evaluation.baselines": (table, False, TINY),
}


NETWORK_KEYS = {
    "unet": {"widths": (8, 8), "blocks": 2},
    "dual_path": {
        "widths": (8, 8, 8),
        "blocks": (1, 1, 1),
        "uncertainty": True,
        "exposure_path": True,
        "light_path": True,
        "glare_path": True,
    },
    "nafnet": {"width": 8, "encoder": (1, 1, 1), "middle": 1, "decoder": (1, 1, 2)},
    "retinexformer": {"width": 16, "blocks": (1, 1, 1)},
    "cidnet": {"widths": (12, 12, 24, 24), "heads": (1, 2, 4)},
    "zero_dce": {"width": 8, "iterations": 4},
    "flol": {"width": 4, "amplitude_width": 4, "frequency_blocks": 1, "spatial_blocks": 1},
    "iat": {"width": 8, "blocks": 1, "global_width": 16},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """What the "<name>"s of KEYS stand for."""
    folder = tmp_path_factory.mktemp("paths")
    (folder / "preset.toml").write_text(PRESET)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for inside in ("pairs/low", "pairs/high"):
        (folder / inside).mkdir(parents=True)
    for number in range(4):
        for inside in ("images", "pairs/low", "pairs/high"):
            images.write(folder / inside / f"{number}.png", rng.random((24, 24, 3), np.float32))
    config = make(**TINY)
    _, params = models.build(config.model, jax.random.key(9))
    release.save(folder / "release", config.model, params, {})
    names = {"images": "images", "pairs": "pairs", "preset": "preset.toml", "release": "release"}
    return {f"<{name}>": str(folder / path) for name, path in names.items()}


class FakeSegmenter:
    def __init__(self, path):
        self.apply = lambda image: jnp.clip(len(path) * image[..., 0] / 10, 0, 1)


@pytest.fixture
def networks_from_files(monkeypatch):
    """Networks that a loss reads from files, told apart by the lengths of their paths."""
    monkeypatch.setattr(train.losses.metrics, "load_lpips", len)
    monkeypatch.setattr(
        train.losses.metrics, "lpips", lambda image, target, network: network * (image - target)
    )
    monkeypatch.setattr(train.losses.segmenters, "load", FakeSegmenter)
    monkeypatch.setattr(train.losses.segmenters, "is_bundled", lambda segmenter: False)


def changed(key, paths, folder, monkeypatch):
    """What is observed with the default of a key, and with another value."""
    observe, value, besides = KEYS[key]
    besides = {name: paths.get(v, v) if isinstance(v, str) else v for name, v in besides.items()}
    config = base.get_config()
    model = besides.pop("model", None)
    config.update_from_flattened_dict(SMALL)
    if model is not None:
        config.model = model
    config.update_from_flattened_dict(besides)
    other = config.copy_and_resolve_references()
    value = paths.get(value, value) if isinstance(value, str) else value
    other.update_from_flattened_dict({key: value})
    assert flatten(config) != flatten(other)
    if observe is table:
        observe = functools.partial(table, monkeypatch=monkeypatch)
    return tuple(seen(observe, each, folder) for each in (config, other))


SEEN = {}  # (name of the observable, config) -> what was observed


def seen(observe, config, folder):
    """What is observed with a config; with the same one again, what was observed the first time."""
    if observe not in (shapes, steps):
        return observe(config, folder)
    key = observe.__name__, config.to_json()
    if key not in SEEN:
        SEEN[key] = observe(config, folder)
    return SEEN[key]


@pytest.mark.parametrize("key", [k for k in flatten(base.get_config()) if k[:6] != "model."])
def test_every_key_changes_something(key, paths, networks_from_files, tmp_path, monkeypatch):
    before, after = changed(key, paths, tmp_path, monkeypatch)
    assert before != after


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, keys in base.NETWORKS.items() for key in keys]
)
def test_every_key_of_a_network_changes_its_program(name, key):
    config = ml_collections.ConfigDict({"model": base.network(name)})
    other = config.copy_and_resolve_references()
    other.model[key] = NETWORK_KEYS[name][key]
    assert config.model[key] != other.model[key]
    assert have_other_programs(config, other)


def test_the_networks_name_and_dtype_change_its_program():
    default, other = make(), make()
    other.model = base.network("nafnet")
    assert have_other_programs(default, other)
    assert have_other_programs(default, make(**{"model.dtype": "bfloat16"}))
    assert not have_other_programs(default, make())


def test_a_dead_key_is_seen(tmp_path):
    config = make()
    config.optim.dead = 0
    other = config.copy_and_resolve_references()
    other.optim.dead = 1
    assert steps(config, tmp_path) == steps(other, tmp_path)


def test_no_config_is_read_with_a_default():
    package = Path(train.__file__).parents[1]
    for path in package.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert "config.get(" not in line, f"{path}:{number}"


def test_every_network_lists_its_keys():
    assert set(base.NETWORKS) == set(models.NETWORKS) == set(NETWORK_KEYS)


def test_a_former_key_is_moved_with_a_line_and_an_unknown_one_is_refused(capsys):
    config = base.get_config()
    config.evaluation.draws = 5
    config.data.views = (96, 128)
    configs.upgrade(config, base.get_config(), base.RENAMED_KEYS)
    assert config.evaluation.realisations == 5
    assert config.data.context_sizes == (96, 128)
    assert flatten(config).keys() == flatten(base.get_config()).keys()
    lines = capsys.readouterr().err.splitlines()
    assert "evaluation.draws is now called evaluation.realisations" in lines
    assert len(lines) == 2
    config.optim.larning_rate = 1.0
    with pytest.raises(
        ValueError, match=r"optim\.larning_rate: there is no such key; did you mean"
    ):
        configs.upgrade(config, base.get_config(), base.RENAMED_KEYS)


def test_a_former_key_of_a_network_is_moved_too(capsys):
    config = base.get_config()
    config.model = base.network("dual_path")
    del config.model.uncertainty
    config.model.spread = True
    configs.upgrade(config, base.get_config(), base.RENAMED_KEYS)
    assert config.model.uncertainty is True
    assert "spread" not in config.model
    assert "model.spread is now called model.uncertainty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("data.batch_size", "8", "data.batch_size is '8'; expected a whole number"),
        ("train.steps", True, "train.steps is True; expected a whole number"),
        ("data.mixup", "much", "data.mixup is 'much'; expected a number"),
        ("data.context_sizes", 128, "data.context_sizes is 128; expected a tuple"),
        ("data.context_sizes", (128, "x"), "data.context_sizes: 'x' is not a whole number"),
        ("data.mixup", float("nan"), "data.mixup is nan; expected a number >= 0"),
        ("data.mixup", float("inf"), "data.mixup is inf; expected a number >= 0"),
        ("seed", -1, "seed is -1; expected a whole number from 0"),
        ("seed", 2**63, "seed is 9223372036854775808; expected a whole number from 0"),
        ("evaluation.seed", -1, "evaluation.seed is -1; expected a whole number from 0"),
        ("model.name", None, "model.name is missing; begin with get_config"),
        ("optim.lr", None, "optim.lr is missing; begin with get_config"),
    ],
)
def test_a_value_that_no_run_can_have_is_named(name, value, message):
    config = base.get_config().to_dict()
    *groups, key = name.split(".")
    group = functools.reduce(dict.get, groups, config)
    group[key] = value
    if value is None:
        del group[key]
    config = ml_collections.ConfigDict(config)

    def check():
        configs.upgrade(config, base.get_config(), base.RENAMED_KEYS)
        configs.check(config)

    with pytest.raises(checks.ConfigError, match=re.escape(message)):
        check()


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(checks.ConfigError, match="one of 2 processes; a run is of one process"):
        configs.check(base.get_config())
