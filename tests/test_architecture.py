"""The rules of docs/architecture.md that can be read off the source: floors, lengths, configs."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

import lle_jax

ROOT = Path(lle_jax.__file__).parent
MAX_MODULE, MAX_FUNCTION = 400, 60  # lines

# Package or module -> floor; a package imports only from floors below its own.
FLOORS = {
    "cli": 9, "main": 8, "__main__": 10,
    "adapt": 7.8,  # composes the whole job of training/train.py
    "commands": 7, "experiments": 7,
    "reader_study": 6.5,  # its intervals are those of evaluation.statistics
    "evaluation": 6,
    "training": 5, "inference": 5, "fit": 5,
    "checkpoints": 4, "metrics": 4, "artifacts": 4,
    "data": 3, "models": 3, "degrade": 3, "classical": 3,
    "images": 2,
    "jobs": 1, "files": 1, "rundir": 1, "colour": 1, "checks": 1, "xla": 1, "pages": 1,
    "text_table": 1, "phase_timer": 1, "memory": 1, "interrupt": 1, "console": 1,
}  # fmt: skip
# A module that is on another floor than its package.
MODULE_FLOORS = {
    # The whole job, from the data to the evaluation, in one file to fork: it is a command, and it
    # reads `experiments`. The other modules of `training` stay below `evaluation`.
    "training/train.py": 7.5,
    # The commands that start `main` and `adapt`.
    "commands/train.py": 8.5,
    "commands/adapt.py": 8.5,
}
# Functions that may be longer.
LONG_FUNCTIONS = {
    # a flat list of all keys with their defaults, to be read at one glance
    ("experiments/base.py", "get_config"),
}
WITHIN_FLOOR = 1  # the small files of the lowest floor may import each other, without a cycle


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if "released" not in path.parts)


def package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path):
    """Packages of lle_jax that a module imports, also within functions, with the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "lle_jax":
            names = [f"lle_jax.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "lle_jax" and len(parts) > 1:
                yield parts[1], node.lineno


each_module = pytest.mark.parametrize(
    "path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix()
)


def test_every_package_has_a_floor():
    assert {package(path) for path in modules()} - {"__init__"} <= FLOORS.keys()


@each_module
def test_imports_go_only_to_lower_floors(path):
    own = package(path)
    if own == "__init__":
        return
    floor = MODULE_FLOORS.get(path.relative_to(ROOT).as_posix(), FLOORS[own])
    wrong = [
        f"line {line}: {own} (floor {floor}) imports {other} ({FLOORS.get(other)})"
        for other, line in imports(path)
        if other in FLOORS
        and other != own
        and FLOORS[other] >= floor
        and not FLOORS[other] == floor == WITHIN_FLOOR
    ]
    assert not wrong


def test_no_packages_import_each_other():
    graph: dict[str, set[str]] = {}
    for path in modules():
        if package(path) != "__init__":
            graph.setdefault(package(path), set()).update(
                other for other, _ in imports(path) if other in FLOORS and other != package(path)
            )
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@each_module
def test_no_module_or_function_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION
        and (path.relative_to(ROOT).as_posix(), node.name) not in LONG_FUNCTIONS
    ]
    assert not long


@each_module
def test_no_field_of_a_configuration_has_a_hidden_default(path):
    hidden = []
    for node in ast.walk(tree(path)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr != "get":
            continue
        owner = ast.unparse(node.func.value)
        if "config" in owner.split("(")[0].split("."):
            hidden.append(f"line {node.lineno}: {owner}.get")
    assert not hidden
