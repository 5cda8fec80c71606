"""Installs a wheel into a folder of its own and plays what three people do first with it.

    python tools/try_wheel.py build/wheel/lle_jax-*.whl               # all of PEOPLE
    python tools/try_wheel.py build/wheel/lle_jax-*.whl jax_engineer  # one of them

The dependencies are those of the interpreter that runs this; nothing of the checkout is imported.
Programs compiled by earlier starts are not used, as on a new machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

TINY = [
    "--config.data.source=photos",
    "--config.data.batch_size=2",
    "--config.train.steps=3",
    "--config.optim.warmup_steps=1",
    "--config.model.widths=(4,6)",
    "--config.evaluation.baselines=False",
    "--config.evaluation.realisations=1",
]
PATIENT = ("Rosenzweig^Gerlinde", "PID-550917")

# What somebody writes who wants the parts and no command: pure functions of arrays.
SNIPPET = """
import jax, jax.numpy as jnp, numpy as np, optax
import lle_jax
from lle_jax import degrade, metrics, models
from lle_jax.checkpoints.load import load_model
from lle_jax.experiments import base

key = jax.random.key(0)
clean = jax.image.resize(jax.random.uniform(key, (4, 6, 6, 3)), (4, 32, 32, 3), "linear")

def darken(key, image, gain):
    return degrade.gaussian_noise(key, degrade.exposure(image, gain=gain), sigma=0.01)

keys, gains = jax.random.split(key, 4), jnp.array([0.2, 0.3, 0.4, 0.5])
low = jax.jit(jax.vmap(darken))(keys, clean, gains)
assert low.shape == clean.shape and low.mean() < clean.mean()

by_gain = jax.grad(lambda gain: darken(key, clean[0], gain).mean())
slopes = jax.jit(jax.vmap(by_gain))(gains)
assert (slopes > 0).all(), slopes  # more light, brighter

by_image = jax.grad(metrics.ssim)
steepest = jax.jit(jax.vmap(by_image))(low, clean)
nearer = jnp.clip(low + 0.1 * steepest / jnp.abs(steepest).max(), 0, 1)
assert (metrics.ssim(nearer, clean) > metrics.ssim(low, clean)).all()

config = base.network("unet")
config.widths = (4, 6)
apply, params = models.build(config, key)
optimiser = optax.adamw(1e-3)

@jax.jit
def step(params, state):
    loss, gradient = jax.value_and_grad(lambda p: jnp.mean((apply(p, low) - clean) ** 2))(params)
    updates, state = optimiser.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, loss

state, losses = optimiser.init(params), []
for _ in range(3):
    params, state, loss = step(params, state)
    losses.append(float(loss))
assert losses[2] < losses[0], losses

released = load_model()
apply, params = models.forward(released.config), released.params
better = jax.jit(apply)(params, low)
assert better.shape == low.shape and np.isfinite(better).all()
assert better.mean() > low.mean()
print(f"lle_jax {lle_jax.__version__}, jax {jax.__version__}: losses {losses}")
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def student(run: Run, work: Path) -> None:
    """A student with own images trains, evaluates, enhances and shares a network."""
    for seed in range(12):
        write_image(work / "photos" / f"{seed:02}.{('png', 'jpg', 'tif')[seed % 3]}", seed)
    write_image(work / "mine" / "new.png", 99)
    assert run("--version").stdout.startswith("lle_jax ")
    run("train", "unet", *TINY, "--workdir=run")
    check_files(work / "run", "config.json", "scalars.csv", "evaluation/index.html")
    (start,) = json.loads((work / "run" / "environment.json").read_text())
    assert start["git"] is None, start["git"]
    listed = json.loads((work / "run" / "data.json").read_text())
    roles = {role: len(listed[role]) for role in ("train", "validation", "test")}
    assert sum(roles.values()) == 12, roles
    assert min(roles.values()) >= 1, roles
    run("evaluate", "run", "--source", "photos", "--no-baselines", "-o", "results")
    check_files(work / "results" / "samples", "summary.csv", "index.html")
    run("degrade", "mine", "--preset", "fundus", "-o", "dark")
    run("enhance", "dark", "-o", "better", "--model", "run")
    run("release", "run", "-o", "shared")
    run("enhance", "dark", "-o", "shared_better", "--model", "shared")
    enhanced = [(work / name / "new.png").read_bytes() for name in ("better", "shared_better")]
    assert enhanced[0] == enhanced[1] != (work / "dark" / "new.png").read_bytes()


def hospital_engineer(run: Run, work: Path) -> None:
    """A hospital's engineer measures and enhances a folder, one file of which is broken."""
    clinic, ward = work / "clinic", work / "clinic" / "ward 3" / "today"
    write_dicom(clinic / "IM0001", 0)
    write_dicom(ward / "scan.dcm", 1)
    write_image(ward / "photo.png", 2, light=0.2)
    (clinic / "broken.dcm").write_bytes((clinic / "IM0001").read_bytes()[:5000])
    originals = contents(clinic)

    done = run("quantify", "clinic", "-o", "report", status=1)
    assert "broken.dcm" in done.stderr
    check_files(work / "report", "measures.csv", "index.html")
    assert len((work / "report" / "measures.csv").read_text().splitlines()) == 1 + 3
    assert "broken.dcm" in (work / "report" / "unreadable.csv").read_text()
    check_private(done.stdout, done.stderr, *map(str, contents(work / "report").values()))

    done = run("enhance", "clinic", "-o", "better", "--json", status=1)
    check_private(done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert (document["status"], len(document["done"])) == (1, 3), document
    (failed,) = document["failed"]
    assert failed["input"].endswith("broken.dcm"), failed
    outputs = {each["input"]: each["outputs"][0] for each in document["done"]}
    check_files(work, *outputs.values())
    for original in ("clinic/IM0001", "clinic/ward 3/today/scan.dcm"):
        pair = work / original, work / outputs[original]
        check_derived(*map(pydicom.dcmread, pair))
    times = [(work / path).stat().st_mtime_ns for path in outputs.values()]

    again = json.loads(run("enhance", "clinic", "-o", "better", "--json", status=1).stdout)
    assert (len(again["done"]), len(again["skipped"]), len(again["failed"])) == (0, 3, 1), again
    assert [(work / path).stat().st_mtime_ns for path in outputs.values()] == times
    assert contents(clinic) == originals


def jax_engineer(run: Run, work: Path) -> None:
    """A JAX engineer transforms a degradation and a metric, trains, and loads the model."""
    run(code=SNIPPET)


PEOPLE = (student, hospital_engineer, jax_engineer)


def write_image(path: Path, seed: int, light: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    cv2.imwrite(str(path), (light * cv2.resize(coarse, (96, 96))).astype(np.uint8))


def write_dicom(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).uniform(0, 60, (8, 8)).astype(np.float32)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.PatientName, image.PatientID = PATIENT
    image.Modality, image.ImageType = "US", ["ORIGINAL", "PRIMARY"]
    image.Rows = image.Columns = 96
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelRepresentation = 0
    image.PixelData = cv2.resize(coarse, (96, 96)).astype(np.uint8).tobytes()
    image.save_as(path, enforce_file_format=True)


def check_files(folder: Path, *names: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    assert not missing, f"not written in {folder.name}: {', '.join(missing)}"


def check_private(*texts: str) -> None:
    """The patient's name and number stay in the DICOM files."""
    for word in (*PATIENT, PATIENT[0].partition("^")[0]):
        assert not any(word in text for text in texts), f"{word} was printed"


def check_derived(original: Dataset, enhanced: Dataset) -> None:
    """A derived object of the same patient and study, in a series of its own."""
    assert enhanced.ImageType[0] == "DERIVED"
    assert (enhanced.PatientName, enhanced.PatientID) == PATIENT
    assert enhanced.StudyInstanceUID == original.StudyInstanceUID
    assert enhanced.SeriesInstanceUID != original.SeriesInstanceUID
    assert enhanced.SOPInstanceUID != original.SOPInstanceUID
    (source,) = enhanced.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert enhanced.pixel_array.mean() > original.pixel_array.mean()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def main() -> None:
    """Plays the people named, or all; the first that fails ends it with what was printed."""
    wheel, names = Path(sys.argv[1]).resolve(), sys.argv[2:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = folder / "site"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", site, wheel], check=True)
        environment = os.environ | {
            "PYTHONPATH": str(site),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }

        def run(*command: str, code: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
            start = time.monotonic()
            done = subprocess.run(
                [sys.executable, *(["-c", code] if code else ["-m", "lle_jax", *command])],
                cwd=work, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            line = "a snippet" if code else f"lle {' '.join(command)}"
            if done.returncode != status:
                sys.exit(f"{line}: status {done.returncode}\n{done.stdout}{done.stderr}")
            print(f"{time.monotonic() - start:6.1f} s  {line}", flush=True)
            return done

        work = folder
        where = run(code="import lle_jax; print(lle_jax.__file__)").stdout.strip()
        if site not in Path(where).parents:
            sys.exit(f"{where} was imported, not the wheel")
        for person in PEOPLE:
            if not names or person.__name__ in names:
                print(person.__doc__, flush=True)
                work = folder / person.__name__
                work.mkdir()
                person(run, work)


if __name__ == "__main__":
    main()
