"""`lle ablate`: trains and compares variants of an experiment over seeds."""

import argparse
import sys
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "ablate",
        help="train and compare variants of an experiment",
        description="Trains and evaluates every variant of a grid with several seeds, each in a "
        "process of its own, and compares them image by image. The command can be stopped at any "
        "moment; repeated, it resumes. Runs that fail are retried once and named at the end. OUT "
        "gets results.csv, table.csv, table.md, timings.csv and cells/ with all runs.",
    )
    parser.add_argument(
        "grid", type=Path, metavar="GRID", help="a Python file, as experiments/ablations/losses.py"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", required=True, help="folder to write to"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny runs that test the grid in minutes"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="number of seeds (default: the grid's)"
    )
    parser.add_argument("--latex", action="store_true", help="also print the table as LaTeX")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import console
    from lle_jax.evaluation import ablation, ablation_table

    grid = ablation.load(arguments.grid)
    cells = ablation.plan(grid, arguments.output, quick=arguments.quick, seeds=arguments.seeds)
    report = ablation.run(cells, arguments.output)
    print(ablation_table.text(report.table, report.seconds))
    if arguments.latex:
        print(f"\n{ablation_table.latex(report.table, report.seconds)}")
    console.note(f"\ntables: {arguments.output}")
    for failure in report.failures:
        print(f"lle ablate: {failure}", file=sys.stderr)
    if report.failures:
        print(
            f"lle ablate: {len(report.failures)} of {report.cells} cells failed; "
            "the same command retries them",
            file=sys.stderr,
        )
    return 1 if report.failures else 0
