"""The job of `lle adapt`, top to bottom: fit, fine-tune, compare, release, page.

    clinic/
      adapt.json    the inputs' fingerprints, the settings, the plan, and what was decided
      preset.toml   the degradation fitted to the dark images, with a page (preset.html)
      beside.toml   where the light has a colour, the preset wide in it
      exposure/     the model before with its brightness calibrated, to start from
      run/          the run directory of the fine-tuning
      evaluation/   both networks on the held-back clean images, with a page
      release/      the adapted network, only if it is better
      index.html    what was decided and why

Each step that is finished is not done again, so that the same command resumes.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lle_jax import checks, console, data, degrade, files, models, rundir
from lle_jax.adapt import fine_tune, inputs, page, verdict
from lle_jax.checkpoints import load, release
from lle_jax.degrade.presets import Preset
from lle_jax.evaluation import evaluate, methods, report, suite
from lle_jax.fit import distributions, measures, preset
from lle_jax.training import train

RECORD = "adapt.json"
ADAPTED = "adapted"
REALISATIONS, SEED = 3, 1  # low-light versions of each held-back image, and their seed
# Shares of the time; the rest is for the comparison and the pages.
FIT_SHARE, TRAIN_SHARE = 0.35, 0.45
MIN_BATCHES = 6  # of simulations in a round of the fit: 192 synthetic images
# Area under the curve of real against synthetic images above which a warning is given: a preset
# that does not fit reaches 0.99. With 30 images even a fit that finds the hidden preset reaches
# 0.88, since their content differs too (docs/artifacts.md, docs/adapt.md).
MAX_AUC = 0.95


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of an adaptation.

    Attributes:
      model: a release or run directory to start from; None takes the bundled release.
      prior: whose ranges the fit searches: a name of configs/fit or a preset.
      minutes: the time that fit, training and comparison may take together, about.
      steps: of training; None takes what the time allows.
      lr: peak of the learning rate, well below that of training from scratch.
      seed: of the fit and the training.
    """

    model: Path | None = None
    prior: str = "clinic"
    minutes: float = 30.0
    steps: int | None = None
    lr: float = 2e-4
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Result:
    """The outcome of an adaptation.

    Attributes:
      better: whether a release was written.
      line: what was decided, in one line.
      warnings: limits of the decision.
      written: the files and folders to look at.
      rejected: (path, reason) of images that are not used.
      finished_before: nothing was done, since an earlier start had finished.
    """

    better: bool
    line: str
    warnings: tuple[str, ...]
    written: tuple[Path, ...]
    rejected: tuple[tuple[str, str], ...]
    finished_before: bool = False


def adapt(
    dark: Sequence[Path], clean: Sequence[Path], output: Path, settings: Settings | None = None
) -> Result:
    """Adapts a network to a clinic's images; resumes where an earlier start stopped.

    Nothing is written before the images and the model are known to be sound.

    Args:
      dark: real low-light images, files and folders.
      clean: well-lit images of the same kind, not necessarily of the same scenes; files and
        folders, or a manifest, whose patients are not divided.
      output: folder to write to.
      settings: None takes the defaults.

    Raises:
      ValueError: of one line, for whatever the caller can put right.
    """
    settings = settings or Settings()
    output = output.absolute()
    checks.number("minutes", settings.minutes, 1, 24 * 60)
    checks.number("lr", settings.lr, 0, 1)
    checks.number("seed", settings.seed, 0, 2**32 - 1)
    if settings.steps is not None:
        checks.number("steps", settings.steps, 1)
    _check_output(output, [*dark, *clean])
    prior = preset.load_prior(settings.prior)
    distributions.Space.of(prior)  # complains before anything is read
    start = load.load_model(settings.model)
    provenance = start.provenance
    found = inputs.read(dark, clean, provenance.training_hashes | provenance.validation_hashes)
    record = _record_of(output, _asked(settings, prior, found))
    if "line" in record:
        return _result(output, record, found.rejected, finished_before=True)
    with rundir.lock(output):
        _save(output, record)
        _announce(found, settings)
        _fit(output, record, settings, prior, found)
        _train(output, record, settings, start, found)
        _compare(output, record, settings, start, found)
    return _result(output, record, found.rejected)


def _check_output(output: Path, given: Iterable[Path]) -> None:
    for path in given:
        if path.is_dir() and output.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{output}: inside {path}, whose images are read; choose another -o")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: not a folder; choose another -o")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).exists():
        raise ValueError(f"{output}: holds other files; choose another -o")


def _asked(settings: Settings, prior: Preset, found: inputs.Inputs) -> dict[str, Any]:
    """What decides the result: another start in the same folder must be asked for the same."""
    return {
        "dark images": _fingerprint(found.dark.hashes),
        "clean images": found.clean.fingerprint[:16],
        "model": load.digest(settings.model)[:16],
        "prior": hashlib.sha256(repr(prior.stages).encode()).hexdigest()[:16],
        "minutes": settings.minutes,
        "steps": settings.steps,
        "learning rate": settings.lr,
        "seed": settings.seed,
    }


def _fingerprint(hashes: Iterable[str]) -> str:
    return hashlib.sha256("".join(sorted(hashes)).encode()).hexdigest()[:16]


def _record_of(output: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Reads the record of an earlier start with the same inputs, or begins one."""
    path = output / RECORD
    if not path.exists():
        return {"asked": asked}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        before = record["asked"]
        differing = [
            f"{name} (there {before.get(name)}, here {value})"
            for name, value in asked.items()
            if before.get(name) != value
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: damaged; choose another -o") from None
    if differing:
        raise ValueError(
            f"{output} holds another adaptation: {', '.join(differing)}; choose another -o, or ask "
            "for the same"
        )
    return record


def _save(output: Path, record: dict[str, Any]) -> None:
    files.write_text(output / RECORD, json.dumps(record, indent=1) + "\n")


def _announce(found: inputs.Inputs, settings: Settings) -> None:
    sizes = ", ".join(f"{len(getattr(found.clean, role))} {role}" for role in data.ROLES)
    console.note(
        f"{len(found.dark)} dark images; clean images: {sizes} (held back); "
        f"{len(found.rejected)} skipped; about {settings.minutes:g} minutes"
    )


def _fit(
    output: Path, record: dict[str, Any], settings: Settings, prior: Preset, found: inputs.Inputs
) -> None:
    """Fits the preset to the dark images, by the training images among the clean ones only."""
    path = output / "preset.toml"
    if path.exists():
        console.note("fit: finished before")
        return
    began, seconds = time.monotonic(), 60 * settings.minutes * FIT_SHARE
    if "simulations" not in record:
        sizes = [*found.dark.sizes, *found.clean.train.sizes]
        side = min(min(map(min, sizes)) // 16 * 16, preset.MAX_SIDE)
        record["simulations"] = _simulations(prior, side, seconds)
        _save(output, record)
    console.note(f"fit: {record['simulations']} synthetic images a round")
    path.with_suffix(".html").unlink(missing_ok=True)  # an interrupted start's, written first
    preset.fit_files(
        found.dark_paths,
        found.train_paths,
        prior,
        path,
        settings.seed,
        simulations=record["simulations"],
        # Of a machine that has become slower since; the last, fresh simulation is still to come.
        out_of_time=lambda: time.monotonic() - began > 0.7 * seconds,
    )
    record["fit_seconds"] = time.monotonic() - began
    _save(output, record)


def _simulations(prior: Preset, side: int, seconds: float) -> int:
    """Returns how many synthetic images a round of the fit may have, from the time of a batch."""
    batch, most = distributions.BATCH, distributions.SIMULATIONS
    noise = jax.random.uniform(jax.random.key(0), (batch, side, side, 3))
    taken = 0.0
    for number in range(2):  # the first one compiles
        began = time.monotonic()
        parameters = degrade.sample(jax.random.key(number), prior, (batch,))
        np.asarray(measures.measure(degrade.apply(jax.random.key(number), parameters, noise)))
        taken = time.monotonic() - began
    batches = max(MIN_BATCHES, int(seconds / taken / (distributions.ROUNDS + 1)))
    return min(batches * batch, most)


def _train(
    output: Path,
    record: dict[str, Any],
    settings: Settings,
    start: load.LoadedModel,
    found: inputs.Inputs,
) -> None:
    """Fine-tunes for as many steps as are asked for, or the time allows, which is recorded."""
    began = time.monotonic()
    recipe = fine_tune.Recipe(
        output / "preset.toml",
        start.config,
        (settings.model or release.BUNDLED).absolute(),
        settings.lr,
        settings.seed,
        fine_tune.beside(output / "preset.toml", output / "beside.toml"),
    )
    if models.is_tiled(start.config) and start.config.exposure_path:
        folder = output / fine_tune.CALIBRATED
        fine_tune.calibrate_exposure(recipe, start, found.clean, folder)
        recipe = dataclasses.replace(recipe, start_from=folder)
    steps = record.get("steps", settings.steps)
    if steps is None:
        fitted = record.get("fit_seconds", 60 * settings.minutes * FIT_SHARE)
        left = 60 * settings.minutes * (FIT_SHARE + TRAIN_SHARE) - fitted
        left -= time.monotonic() - began
        steps = fine_tune.affordable_steps(recipe, found.clean, left)
    if record.get("steps") != steps:
        record["steps"] = steps
        _save(output, record)
    config = fine_tune.config(recipe, found.clean, steps)
    train.train(config, output / "run", found.clean, train_only=True)


def _compare(
    output: Path,
    record: dict[str, Any],
    settings: Settings,
    start: load.LoadedModel,
    found: inputs.Inputs,
) -> None:
    """Compares both networks, writes the release if it is better, the pages and the record."""
    trained, details = fine_tune.read(output, start)
    name = "released" if settings.model is None else settings.model.resolve().name
    name = f"{name} (start)" if name in (ADAPTED, "low") else name  # "low" is the input
    compared = [_method(ADAPTED, trained), _method(name, start)]
    held_back = suite.from_images(
        "held-back",
        found.clean.test,
        preset=str(output / "preset.toml"),
        realisations=REALISATIONS,
        seed=SEED,
    )
    folder = output / "evaluation"
    result = evaluate.evaluate(held_back, compared, [], folder)
    report.write(folder, result, compared, curves=output / "run" / "scalars.csv")
    decided = verdict.decide(result, ADAPTED, name)
    if decided.better:
        _release(output, record, settings, trained, details, decided)
    networks = {name: start, ADAPTED: trained}
    warnings = _warnings(output, start)
    page.write(output, decided, held_back, found.dark, networks, warnings)
    record |= {"better": decided.better, "line": decided.line, "warnings": warnings}
    _save(output, record)


def _warnings(output: Path, start: load.LoadedModel) -> list[str]:
    """Says what limits the decision."""
    warnings = []
    said = " ".join(page.provenance_of(output / "preset.toml"))
    auc = re.search(r"area under the curve ([\d.]+) ", said)
    if auc and float(auc[1]) > MAX_AUC:
        warnings.append(
            f"the fitted preset does not reproduce the dark images (area under the curve {auc[1]}, "
            f"above {MAX_AUC}), so that the comparison says little about them"
        )
    light = re.search(r"Colour of the light: (red .+?) times", said)
    if light:
        warnings.append(
            f"the dark images have another colour than the clean ones, {light[1]}, which is taken "
            "for the light's; if they show other subjects, the adapted model's colours are wrong"
        )
    if not start.provenance.complete:
        warnings.append(
            "the training images of the model before are not all recorded: it may know held-back "
            "images"
        )
    return warnings


def _method(name: str, model: load.LoadedModel) -> methods.Method:
    provenance = model.provenance
    return methods.from_network(
        name,
        model.config,
        model.params,
        provenance.record,
        provenance.training_hashes,
        provenance.validation_hashes,
        provenance.complete,
    )


def _release(
    output: Path,
    record: dict[str, Any],
    settings: Settings,
    trained: load.LoadedModel,
    details: dict[str, Any],
    decided: verdict.Verdict,
) -> None:
    """Writes the release; its record says from what, to what, and how much better."""
    lines = page.provenance_of(output / "preset.toml")
    asked = record["asked"]
    details |= {
        "adapt.start": asked["model"],
        "adapt.dark_images": asked["dark images"],
        "adapt.clean_images": asked["clean images"],
        "adapt.preset": " ".join(lines),
        "adapt.decision": decided.line,
        "adapt.uncertainty": "not recalibrated after the adaptation",
    }
    card = _card(decided, lines, settings.model or release.BUNDLED)
    release.save(output / "release", trained.config, trained.params, details, card=card)
    count = models.parameter_count(trained.params)
    console.note(f"release: {output / 'release'}, {count:,} parameters")


def _card(decided: verdict.Verdict, fit: Sequence[str], start: Path) -> str:
    """Returns the text of CARD.md, which ends with the card of the model before: its terms hold."""
    parts = [
        "# A model adapted to the images of one clinic",
        "Made by `lle adapt` of lle_jax. Research software, not a medical device: it may remove or "
        "invent detail, so keep the original with each output.",
        f"Adapted: {decided.line}. These figures are of well-lit images of that clinic under the "
        "fitted degradation; elsewhere it was not tried. Its uncertainty was not calibrated again.",
        "\n".join(f"- {line}" for line in fit),
    ]
    path = start / "CARD.md"
    if path.is_file():
        parts += [
            "Its parameters come from the model below, whose terms of use hold for it too; the "
            "figures below are not its own.",
            path.read_text(encoding="utf-8"),
        ]
    return "\n\n".join(parts) + "\n"


def _result(
    output: Path,
    record: dict[str, Any],
    rejected: Sequence[tuple[str, str]],
    *,
    finished_before: bool = False,
) -> Result:
    names = ["index.html", "preset.toml", "preset.html", "run", "evaluation"]
    names += ["release"] if record["better"] else []
    written = tuple(output / name for name in names)
    warnings = tuple(record["warnings"])
    return Result(
        record["better"], record["line"], warnings, written, tuple(rejected), finished_before
    )
