"""`lle compare`: paired tests between methods that were judged on one suite."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="paired tests between methods judged on one suite",
        description="Joins folders that lle evaluate wrote on one suite, and compares their "
        "methods image by image: mean difference with 95 % interval, signed-rank test with Holm's "
        "correction, effect size. Folders of different images or seeds are refused.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a folder (OUT/SUITE) of lle evaluate"
    )
    parser.add_argument(
        "--metric", default="psnr", metavar="NAME", help='(default: psnr); "all" shows all'
    )
    parser.add_argument("-o", "--output", type=Path, metavar="CSV", help="write all of it here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import files
    from lle_jax.evaluation import judge, statistics

    if arguments.metric not in (*judge.METRICS, "all"):
        known = ", ".join((*judge.METRICS, "all"))
        raise ValueError(f"--metric {arguments.metric}: expected one of {known}")
    subjects, rows = judge.join(arguments.runs)
    print(judge.table(statistics.summarise(rows)))
    found = [c for subject in subjects for c in judge.compare(rows, subject)]
    shown = [c for c in found if arguments.metric in (c.metric, "all")]
    print(f"\n{judge.comparison_table(shown)}")
    if arguments.output:
        files.write_csv(arguments.output, statistics.Comparison._fields, found)
    return 0
