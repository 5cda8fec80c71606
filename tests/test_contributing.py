"""Follows the recipes of CONTRIBUTING.md in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAD = "import jax\nimport jax.numpy as jnp\n"

# Recipe -> the new file, what its functions are, and a program that prints what is shown of it.
RECIPES = {
    "network": (
        "lle_jax/models/mine.py",
        HEAD + "from flax import nnx\n\n\n"
        "class Mine(nnx.Module):\n"
        "    def __init__(self, *, width, dtype, rngs):\n"
        "        self.inner = nnx.Linear(3, width, dtype=dtype, rngs=rngs)\n"
        "        self.outer = nnx.Linear(width, 3, dtype=dtype, rngs=rngs)\n\n"
        "    def __call__(self, image):\n"
        "        return image + self.outer(self.inner(image)).astype(jnp.float32)\n",
        "from lle_jax import models; print(*models.NETWORKS)",
    ),
    "baseline": (
        "lle_jax/classical/mine.py",
        "import numpy as np\n\n\ndef mine(image):\n"
        "    return np.clip(2 * image, 0, 1).astype(np.float32)\n",
        "from lle_jax import classical; print(*classical.METHODS)",
    ),
    "metric": (
        "lle_jax/metrics/mine.py",
        HEAD + "from lle_jax.metrics.conventions import pair\n\n\n"
        "def mine(image, reference):\n"
        "    image, reference = pair(image, reference)\n"
        "    return jnp.mean((image - reference) ** 2, axis=(-3, -2, -1))\n",
        "from lle_jax.evaluation import evaluate, statistics;"
        "print(evaluate.table([statistics.Summary('low', 'mine', *5 * (0.5,), 1)]))",
    ),
    "degradation": (
        "lle_jax/degrade/mine.py",
        HEAD + "from lle_jax import checks\n\n\n"
        "def mine(key, image, *, sigma):\n"
        "    image = checks.image(image)\n"
        "    checks.number('sigma', sigma, 0)\n"
        "    sigma = checks.per_image('sigma', sigma, image)\n"
        "    noise = jax.random.normal(key, image.shape, checks.compute_dtype(image))\n"
        "    return jnp.clip(image + sigma * noise, 0, 1).astype(image.dtype)\n",
        "from lle_jax.degrade import stages; print(stages.markdown_table())",
    ),
}


def edits(recipe: str) -> tuple[str, list[tuple[str, list[str], list[str]]]]:
    """The test file that a recipe names, and its edits: file, lines to find, lines to add."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"\*\*A {recipe}\*\*(.*?)```diff\n(.*?)```", text, re.DOTALL)
    assert section
    (check,) = re.findall(r"pytest\s+(\S+\.py)", section[1])
    result: list[tuple[str, list[str], list[str]]] = []
    for line in section[2].splitlines():
        if line.startswith("--- "):
            file = line[4:]
            result.append((file, [], []))
        elif line.startswith("+"):
            result[-1][2].append(line[1:])
        elif result[-1][2]:
            result.append((file, [line[1:]], []))
        else:
            result[-1][1].append(line[1:])
    return check, [edit for edit in result if edit[2]]


def insert(path: Path, context: list[str], added: list[str]) -> None:
    """Adds lines after the one place where the context is."""
    text = path.read_text(encoding="utf-8")
    before = "".join(f"{line}\n" for line in context)
    new = "".join(f"{line}\n" for line in added)
    assert before in text, f"{path.name} has no {before!r}"
    place = text.index(before) + len(before)
    path.write_text(text[:place] + new + text[place:], encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    """The package and its tests, where a recipe may change them."""
    ignore = shutil.ignore_patterns("__pycache__", "released", "weights")
    shutil.copytree(ROOT / "lle_jax", tmp_path / "lle_jax", ignore=ignore)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignore)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_what_is_checked_and_shown(recipe, copy):
    file, source, shown = RECIPES[recipe]
    check, changes = edits(recipe)
    (copy / file).write_text(source, encoding="utf-8")
    for path, context, added in changes:
        insert(copy / path, context, added)
    environment = os.environ | {"PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-k", "mine", check]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--import-mode=importlib"]
    run = subprocess.run(
        [*command, f"--rootdir={copy}"],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 1
    run = subprocess.run(
        [sys.executable, "-c", shown],
        cwd=copy, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "mine" in run.stdout, run.stderr
