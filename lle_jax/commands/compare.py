"""`lle compare`: paired tests between methods evaluated on one suite."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="paired tests between methods evaluated on one suite",
        description="Joins folders that lle evaluate wrote on one suite, and compares their "
        "methods image by image: mean difference with 95 % interval, signed-rank test with Holm's "
        "correction, effect size. Folders evaluated on different images or seeds are refused.",
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a folder (OUT/SUITE) of lle evaluate"
    )
    parser.add_argument(
        "--metric", default="psnr", metavar="NAME", help='metric to print, or "all" (default: psnr)'
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="CSV", help="file for the comparisons on all metrics"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import files
    from lle_jax.evaluation import evaluate, statistics

    if arguments.metric not in (*evaluate.METRICS, "all"):
        valid = ", ".join((*evaluate.METRICS, "all"))
        raise ValueError(f"--metric {arguments.metric}: expected one of {valid}")
    methods, rows = evaluate.join(arguments.runs)
    print(evaluate.table(statistics.summarise(rows)))
    comparisons = [c for method in methods for c in evaluate.compare(rows, method)]
    shown = [c for c in comparisons if arguments.metric in (c.metric, "all")]
    print(f"\n{evaluate.comparison_table(shown)}")
    if arguments.output:
        files.write_csv(arguments.output, statistics.Comparison._fields, comparisons)
    return 0
