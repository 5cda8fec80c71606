"""Installs a wheel into a folder of its own and uses it outside the checkout.

    python tools/try_wheel.py build/wheel/lle_jax-*.whl

The dependencies are those of the interpreter that runs this. What a student with own images does
first: see the version, train by name, degrade and enhance a picture, quantify, release the run.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

FEW = [
    "--config.train.steps=3",
    "--config.optim.warmup_steps=1",
    "--config.model.widths=(4,6)",
    "--config.evaluation.baselines=False",
    "--config.evaluation.realisations=1",
]
COMMANDS = (
    ["train", "unet", *FEW, "--workdir=run"],
    ["degrade", "clean", "--preset", "fundus", "-o", "dark"],
    ["enhance", "dark", "-o", "better"],
    ["quantify", "dark", "-o", "report"],
    ["release", "run", "-o", "released"],
    ["enhance", "dark", "-o", "mine", "--model", "released"],
)
EXPECTED = (
    "run/evaluation/index.html",
    "dark/a.png",
    "better/a.png",
    "report/index.html",
    "released/release.json",
    "mine/a.png",
)


def main() -> None:
    """Runs the commands; the first that fails ends it with its output."""
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site, work = folder / "site", folder / "work"
        (work / "clean").mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel]
        subprocess.run(pip, check=True)
        grey = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        cv2.imwrite(str(work / "clean" / "a.png"), cv2.resize(grey, (96, 96)))
        environment = os.environ | {"PYTHONPATH": str(site)}

        def python(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=work, env=environment, capture_output=True, text=True,
            )  # fmt: skip
            if done.returncode:
                sys.exit(f"{' '.join(arguments)}: status {done.returncode}\n{done.stderr}")
            return done.stdout

        where = python("-c", "import lle_jax; print(lle_jax.__file__)").strip()
        if site not in Path(where).parents:
            sys.exit(f"{where} was imported, not the wheel")
        print(python("-m", "lle_jax", "--version").strip())
        for command in COMMANDS:
            python("-m", "lle_jax", *command)
            print(f"lle {' '.join(command)}", flush=True)
        if missing := [path for path in EXPECTED if not (work / path).is_file()]:
            sys.exit(f"not written: {', '.join(missing)}")


if __name__ == "__main__":
    main()
