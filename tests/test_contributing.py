"""Follows the recipes of CONTRIBUTING.md in a copy of the project."""

import json
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
        "from lle_jax.evaluation import statistics, tables;"
        "print(tables.table([statistics.Summary('low', 'mine', *5 * (0.5,), 1, 1)]))",
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


# The check of each recipe and what is shown of it, in one process for all.
FOLLOW = """
import json, sys, pytest
for recipe, arguments, shown in json.loads(sys.argv[1]):
    print("=====", recipe, flush=True)
    print("----- status", int(pytest.main(arguments)), flush=True)
    exec(shown, {})
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What is printed for each recipe, in a copy of the package and its tests with all of them."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("__pycache__", "released", "weights")
    shutil.copytree(ROOT / "lle_jax", copy / "lle_jax", ignore=ignore)
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=ignore)
    (copy / "configs").symlink_to(ROOT / "configs")
    jobs = []
    for recipe, (file, source, shown) in RECIPES.items():
        check, changes = edits(recipe)
        (copy / file).write_text(source, encoding="utf-8")
        for path, context, added in changes:
            insert(copy / path, context, added)
        arguments = ["-q", "-n", "0", "-k", "mine", check, "-p", "no:cacheprovider"]
        arguments += ["-c", os.devnull, "--import-mode=importlib", f"--rootdir={copy}"]
        jobs.append((recipe, arguments, shown))
    run = subprocess.run(
        [sys.executable, "-c", FOLLOW, json.dumps(jobs)],
        cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    sections = re.split(r"^===== (\w+)\n", run.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(sections[::2], sections[1::2], strict=True)), run.stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_what_is_checked_and_shown(recipe, printed):
    sections, errors = printed
    assert recipe in sections, errors
    checked, shown = sections[recipe].split("----- status ")
    assert shown.startswith("0\n"), checked + errors
    assert int(re.search(r"(\d+) passed", checked)[1]) >= 1
    assert "mine" in shown, errors
