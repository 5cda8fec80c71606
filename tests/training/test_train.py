import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lle_jax import checks, data, degrade, images, models
from lle_jax.degrade import presets
from lle_jax.experiments import base
from lle_jax.phase_timer import PhaseTimer
from lle_jax.training import degradation, optimiser, sharding, state, train
from lle_jax.training.objective import Objective

# Ten steps of the main job's own recipe on a small network; prints the losses.
TEN_STEPS = """
import json, jax, numpy as np
from lle_jax import data
from lle_jax.experiments.unet import get_config
from lle_jax.training import sharding, train

config = get_config()
config.model.widths, config.data.crop, config.optim.warmup_steps = (8, 12), 32, 2
experiment = train.prepare(config)
state, run = experiment.state, train.make_step(config, experiment)
clean = np.random.default_rng(0).random((10, 8, 4, 4, 3), np.float32)
clean = clean.repeat(8, axis=2).repeat(8, axis=3)
losses = []
for crops in clean:
    batch = data.Batch(crops, np.zeros(8, np.int32))
    state, scalars = run(state, sharding.to_devices(batch, experiment.mesh))
    losses.append(float(scalars["loss"]))
print(json.dumps({"devices": jax.device_count(), "losses": losses}))
"""


def small(**changes):
    config = base.get_config()
    config.model.widths = (4, 6)
    config.update_from_flattened_dict(changes)
    return config


def batch_of(clean, modalities=None):
    names = modalities or [""] * len(clean)
    return data.Batch(clean, np.array([data.MODALITIES.index(name) for name in names], np.int32))


def quadratic(**changes):
    """A network of one parameter, which multiplies by w, under the mean square error."""
    defaults = {"optim.warmup_steps": 0, "optim.lr": 0.01, "optim.weight_decay": 0.0}
    config = small(**{"optim.ema_decay": 0.9, "train.steps": 100, **defaults, **changes})
    update, schedule = optimiser.make(config.optim, config.train.steps)
    mesh = sharding.make_mesh()

    def dim(key, batch):
        return 0.5 * batch.clean + 1e-3 * jax.random.normal(key, batch.clean.shape)

    def apply(params, image):
        return params["w"] * image

    start = state.create({"w": jnp.ones(())}, update, jax.random.key(config.seed))
    start = jax.device_put(start, sharding.replicated(mesh))
    objective = Objective(
        lambda key, params, low, clean: (apply(params, low), clean),
        lambda image, clean: jnp.mean((image - clean) ** 2),
    )
    experiment = train.Experiment(mesh, apply, objective, dim, dim, update, schedule, start, None)
    batch = data.Batch(np.full((2, 4, 4, 3), 0.8, np.float32), np.zeros(2, np.int32))
    return (
        train.make_step(config, experiment),
        start,
        sharding.to_devices(batch, mesh),
        experiment,
        config,
    )


def test_steps_lower_the_loss_and_count():
    run, current, clean, *_ = quadratic()
    losses = []
    for _ in range(5):
        current, scalars = run(current, clean)
        losses.append(float(scalars["loss"]))
    assert losses == sorted(losses, reverse=True)
    assert int(current.step) == 5
    np.testing.assert_allclose(losses[0], 0.16, rtol=0.02)
    np.testing.assert_allclose(current.params["w"], 1.05, atol=5e-3)  # Adam moves by the rate


def test_the_average_follows_its_recursion():
    run, current, clean, *_ = quadratic(**{"optim.ema_decay": 0.3})
    expected = 1.0
    for number in range(6):
        current, _ = run(current, clean)
        decay = min(0.3, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * float(current.params["w"])
    np.testing.assert_allclose(current.ema["w"], expected, rtol=1e-6)


def test_every_step_draws_its_own_noise_and_the_run_its_own_key():
    run, current, clean, *_ = quadratic()
    current, first = run(current, clean)
    _, again = run(quadratic()[1], clean)
    assert float(first["loss"]) == float(again["loss"])
    _, different = run(quadratic(seed=1)[1], clean)
    assert float(first["loss"]) != float(different["loss"])


def test_the_parts_of_a_step_have_keys_of_their_own():
    """Augmentation, degradation, clean images and tiles must not share their randomness."""
    keys = []

    def record(name):
        def fake(key, *arguments):
            keys.append((name, key))
            return jnp.zeros((2, 4, 4, 3))

        return fake

    *_, experiment, config = quadratic(
        **{"data.photometric_augmentation": 0.5, "degradation.clean_fraction": 0.5}
    )
    # Outside jit the keys are numbers; two of the parts are functions of modules.
    experiment = train.dataclasses.replace(
        experiment,
        degrade_in_training=record("degradation"),
        objective=Objective(
            lambda key, params, low, clean: (keys.append(("tile", key)), clean)[1:] * 2,
            lambda image, clean: jnp.sum(clean) * 0.0,
        ),
    )
    with pytest.MonkeyPatch.context() as patch, jax.disable_jit():
        patch.setattr(train.augment, "random", record("augmentation"))
        patch.setattr(train.degradation, "keep_clean", record("clean"))
        batch = data.Batch(np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.int32))
        train.make_step(config, experiment)(experiment.state, batch)
    assert sorted(name for name, _ in keys) == ["augmentation", "clean", "degradation", "tile"]
    assert len({jax.random.key_data(key).tobytes() for _, key in keys}) == 4


def test_four_devices_give_the_losses_of_one(capsys):
    exec(TEN_STEPS, {})  # here, where there is one
    one = json.loads(capsys.readouterr().out.splitlines()[-1])
    environment = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4",
        "PATH": "",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    run = subprocess.run(
        [sys.executable, "-c", TEN_STEPS], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    four = json.loads(run.stdout.splitlines()[-1])
    assert (one["devices"], four["devices"]) == (1, 4)
    assert len(set(one["losses"])) == 10
    np.testing.assert_allclose(four["losses"], one["losses"], atol=1e-5, rtol=0)


def test_the_networks_gradient_reaches_every_parameter(photographs):
    model = base.network("unet")
    model.widths = (8, 12)
    apply, params = models.build(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.02, leaf.shape).astype(np.float32), params
    )
    gradients = jax.jit(jax.grad(lambda p: jnp.mean((apply(p, photographs) - 0.5) ** 2)))(params)
    paths = jax.tree_util.tree_flatten_with_path(gradients)[0]
    assert [path for path, leaf in paths if not np.abs(leaf).max() > 0] == []


def test_grey_images_stay_grey_through_degradation_and_network(photographs):
    experiment = train.prepare(small())
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.03, leaf.shape).astype(np.float32),
        experiment.state.params,
    )
    grey = np.repeat(photographs[..., :1], 3, axis=-1)
    low = np.asarray(jax.jit(experiment.degrade)(jax.random.key(0), batch_of(grey)))
    enhanced = np.asarray(jax.jit(experiment.apply)(params, low))
    for image in (low, enhanced):
        np.testing.assert_array_equal(image, np.repeat(image[..., :1], 3, axis=-1))
    assert np.abs(low - grey).max() > 0.1
    assert np.abs(enhanced - low).max() > 0.01


def test_every_image_of_a_batch_is_darkened_by_its_own_amount(photographs):
    same = np.repeat(photographs[:1], 4, axis=0)
    low = np.asarray(jax.jit(degradation.make("lowlight"))(jax.random.key(0), batch_of(same)))
    means = low.mean(axis=(1, 2, 3))
    assert (means < 0.9 * same.mean()).all()
    assert np.ptp(means) > 0.02


def test_by_modality_each_image_is_degraded_as_by_its_own_preset(photographs):
    same = np.repeat(photographs[:1], 3, axis=0)
    names = ["fundus", "radiograph", ""]
    key = jax.random.key(3)
    low = np.asarray(jax.jit(degradation.make("by_modality"))(key, batch_of(same, names)))
    for index, name in enumerate(names):
        alone = degradation.make(name or "lowlight")
        sample_key, noise_key = jax.random.split(key)
        preset = degrade.load(name or "lowlight")
        parameters = degrade.sample(sample_key, preset, (3,))
        alone = np.asarray(degrade.apply(noise_key, parameters, same))
        np.testing.assert_allclose(low[index], alone[index], atol=1 / 255)
        assert np.mean(np.abs(low[index] - alone[index])) < 1e-4
    assert not np.allclose(low[0], low[1], atol=0.05)


def test_mixed_presets_are_drawn_equally_often(tmp_path):
    files = []
    for name, gain in (("a", 0.6), ("b", 0.2), ("c", 0.05)):
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text(f"[exposure]\ngain = {gain}\n")
    own, *others = map(str, files)
    same = np.full((600, 2, 2, 3), 0.7, np.float32)
    drawn = jax.jit(degradation.make(own, (), others))(jax.random.key(0), batch_of(same))
    counts = np.unique(np.asarray(drawn)[:, 0, 0, 0], return_counts=True)[1]
    assert len(counts) == 3
    assert counts.min() > 200 - 4 * np.sqrt(600 * 2 / 9)
    with pytest.raises(degrade.PresetError, match="no preset 'wdie'; did you mean 'wide'"):
        degradation.make("lowlight", (), ("wdie",))


def test_mixed_with_others_each_modality_still_has_its_own_preset(monkeypatch):
    gains = {"fundus": 0.6, "radiograph": 0.4, "wide": 0.05}

    def load(name):
        return degrade.presets.parse(f"[exposure]\ngain = {gains.get(name, 0.2)}\n")

    monkeypatch.setattr(degradation.degrade, "load", load)
    names = ["fundus", "radiograph", ""] * 200
    same = np.full((600, 2, 2, 3), 0.7, np.float32)
    mixed = jax.jit(degradation.make("by_modality", (), ("wide",)))
    low = np.asarray(mixed(jax.random.key(1), batch_of(same, names)))[:, 0, 0, 0]
    wide, *own = (
        float(degrade.exposure(same[0, :1, :1], gain=gain)[0, 0, 0])
        for gain in (0.05, 0.6, 0.4, 0.2)
    )
    for index, expected in enumerate(own):
        levels, counts = np.unique(low[index::3], return_counts=True)
        np.testing.assert_allclose(levels, [wide, expected], atol=1e-3)
        assert abs(counts[0] - 100) < 4 * np.sqrt(200 / 4)


def test_a_dropped_stage_is_absent_from_training_alone(photographs, tmp_path):
    (tmp_path / "p.toml").write_text(
        "[exposure]\ngain = 0.2\n[salt_and_pepper]\nsalt = 0.1\npepper = 0.1\n"
    )
    config = small(**{"degradation.preset": str(tmp_path / "p.toml")})
    config.degradation.drop = ("exposure",)
    experiment = train.prepare(config)
    batch, key = batch_of(photographs), jax.random.key(5)
    trained = np.asarray(experiment.degrade_in_training(key, batch))
    changed = (np.abs(trained - photographs) > 1e-4).any(axis=-1)
    assert 0.05 < changed.mean() < 0.35  # impulses, and nothing is darker
    assert np.mean(np.asarray(experiment.degrade(key, batch)) < photographs - 1e-4) > 0.7


def test_a_stage_to_drop_that_the_preset_lacks_is_named():
    with pytest.raises(degrade.PresetError, match=r"degradation\.drop: no stage 'jpg'; expected"):
        degradation.make("lowlight", ("jpg",))


def test_a_fraction_of_the_images_stays_clean(photographs):
    clean = np.repeat(photographs[:1], 64, axis=0)
    low = degradation.keep_clean(jax.random.key(0), 0.5 * clean, clean, 0.25)
    kept = (np.asarray(low) == clean).all(axis=(1, 2, 3))
    assert 8 <= kept.sum() <= 26
    np.testing.assert_array_equal(low[~kept], 0.5 * clean[~kept])


def test_the_seed_decides_the_initial_parameters():
    first, again, other = (
        jax.tree.leaves(train.prepare(small(seed=seed)).state.params) for seed in (0, 0, 1)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_preset_that_does_not_exist_is_named():
    with pytest.raises(degrade.PresetError, match="nowhere"):
        train.prepare(small(**{"degradation.preset": "nowhere"}))


def test_an_unknown_network_and_loss_are_named():
    with pytest.raises(checks.ConfigError, match=r"model\.name is 'unett'"):
        train.prepare(small(**{"model.name": "unett"}))
    with pytest.raises(checks.ConfigError, match=r"loss\.kind is 'self'; expected one of superv"):
        train.prepare(small(**{"loss.kind": "self"}))


def loop(module, folder, **changes):
    """Trains one parameter by a module's own loop on the samples; rows of scalars.csv."""
    *_, experiment, config = quadratic(
        **{"data.crop": 16, "data.batch_size": 2, "train.steps": 6, **changes}
    )
    experiment = module.Experiment(**vars(experiment))
    folder.mkdir()
    parts = data.load("samples", crop=16)
    parts = train.dataclasses.replace(parts, validation=parts.validation.subset([0]))
    iterator = train.make_iterator(config, parts.train)
    final = module.train_loop(
        config, experiment, parts, experiment.state, iterator, folder, PhaseTimer()
    )
    rows = (folder / "scalars.csv").read_text().splitlines()
    return final, [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]


def test_validation_is_done_when_due_whatever_is_logged(tmp_path):
    _, rows = loop(train, tmp_path / "run", **{"train.log_every": 4, "train.validate_every": 3})
    assert [row["step"] for row in rows if row["loss"]] == ["4", "6"]
    assert [row["step"] for row in rows if row["validation_psnr"]] == ["3", "6"]


def test_the_host_waits_only_where_it_logs_validates_or_saves(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(jax, "block_until_ready", lambda x: waits.append(x) or x)
    read = train.read_scalars
    monkeypatch.setattr(
        train, "read_scalars", lambda *arguments: waits.append("log") or read(*arguments)
    )
    every = {"train.log_every": 3, "train.validate_every": 6, "train.checkpoint_every": 6}
    loop(train, tmp_path / "run", **every)
    assert waits == ["log", "log"]


def test_a_forked_copy_with_one_changed_line_trains(tmp_path):
    source = Path(train.__file__).read_text()
    line = "        updates, opt_state = update.update(gradients, state.opt_state, state.params)\n"
    assert source.count(line) == 1
    fork = source.replace(line, line + "        updates = jax.tree.map(lambda u: -u, updates)\n")
    (tmp_path / "mine.py").write_text(fork)
    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    mine = importlib.util.module_from_spec(spec)
    sys.modules["mine"] = mine  # where dataclasses look for it
    spec.loader.exec_module(mine)
    every = {"train.log_every": 1, "train.validate_every": 6, "train.checkpoint_every": 6}
    original, _ = loop(train, tmp_path / "a", **every)
    changed, rows = loop(mine, tmp_path / "b", **every)
    assert len(rows) == 6
    np.testing.assert_allclose(changed.params["w"] - 1, -(original.params["w"] - 1), rtol=0.1)


def test_a_batch_passes_six_files_of_data_and_training_from_disk_to_loss(photographs, tmp_path):
    for role in data.ROLES:
        for number, image in enumerate(photographs):
            path = tmp_path / role / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            shade = 0.5 + 0.1 * data.ROLES.index(role)  # no image in two roles
            images.write(path, shade * image, images.Picture(image, path, "png", 8))
    config = small(**{"data.crop": 32, "data.batch_size": 2, "data.source": str(tmp_path)})
    splits, experiment = data.load(config.data.source, crop=32), train.prepare(config)
    root = Path(train.__file__).parents[1]
    passed = set()

    def note(frame, event, _):
        if event == "call":  # of these there are millions
            passed.add(frame.f_code.co_filename)

    threading.setprofile(note)  # grain reads in threads of its own
    sys.setprofile(note)
    try:
        batch = next(train.make_iterator(config, splits.train))
        train.make_step(config, experiment).lower(experiment.state, batch)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    inside = {Path(path).relative_to(root) for path in passed if root in Path(path).parents}
    trunk = {path.as_posix() for path in inside if path.parts[0] in ("data", "training")}
    around = {"training/sharding.py", "training/optimiser.py"}  # where it lies; after the loss
    assert trunk - around == {
        "data/splits.py",
        "data/pipeline.py",
        "training/train.py",
        "training/degradation.py",
        "training/objective.py",
        "training/losses.py",
    }


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_a_step_takes_the_measured_low_light_version_where_there_is_one(weight):
    """The loss tells what the step was given: 0.1 where measured, half of 0.8 where modelled."""
    *_, experiment, config = quadratic(**{"data.pairs": "pairs", "data.pairs_weight": weight})
    low = np.full((2, 4, 4, 3), 0.1, np.float32)
    if weight < 1:
        low[1] = np.nan
    batch = data.Batch(np.full_like(low, 0.8), np.zeros(2, np.int32), low)
    step = train.make_step(config, experiment)
    _, scalars = step(experiment.state, sharding.to_devices(batch, experiment.mesh))
    expected = 0.7**2 if weight == 1 else (0.7**2 + 0.4**2) / 2
    np.testing.assert_allclose(scalars["loss"], expected, rtol=1e-3)


def test_the_record_of_a_preset_follows_what_it_does_and_not_what_it_says(tmp_path):
    path = tmp_path / "my.toml"
    text = (presets.folder() / "lowlight.toml").read_text()
    path.write_text(text)
    settings = base.get_config().degradation
    settings.preset, settings.mixed_with = degrade.BY_MODALITY, (str(path), "wide")
    before = degradation.digests(settings)
    assert {"lowlight", "fundus", "wide", str(path)} < before.keys()
    path.write_text("# a remark\n" + text)
    assert degradation.digests(settings) == before
    path.write_text(text.replace("[0.05, 0.4]", "[0.06, 0.4]"))
    after = degradation.digests(settings)
    assert {name for name in before if after[name] != before[name]} == {str(path)}
