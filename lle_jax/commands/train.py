"""`lle train`: the main job, by the name of an experiment that comes with the package."""

import argparse
import os
from pathlib import Path

import lle_jax

FOLDER = Path(lle_jax.__file__).parent / "experiments"


def add(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network and evaluate it",
        description="Trains and evaluates an experiment, as python -m lle_jax.main does, whose "
        "options follow: --workdir, --mode, --config.GROUP.KEY=VALUE.",
    )
    parser.add_argument("experiment", help=f"one of {', '.join(names())}, or a Python file")
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        help="as of python -m lle_jax.main; -q and -v stand before the experiment",
    )
    parser.set_defaults(run=run)


def names() -> list[str]:
    """Lists the experiments that come with the package."""
    paths = (*FOLDER.glob("*.py"), *(FOLDER / "lol").glob("*.py"))
    names = {path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths}
    return sorted(names - {"__init__", "base", "lol/__init__"})


def run(arguments: argparse.Namespace) -> int:
    """Trains; raises ValueError for an experiment that does not exist."""
    path = Path(arguments.experiment)
    if path.suffix != ".py":
        path = FOLDER / f"{arguments.experiment}.py"
    if not path.is_file():
        raise ValueError(
            f"{arguments.experiment}: no such experiment; expected a Python file or one of "
            f"{', '.join(names())}"
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from lle_jax import main

    return main.main([f"--config={path}", *arguments.options])
