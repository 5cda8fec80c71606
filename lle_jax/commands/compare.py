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
        "--metrics",
        metavar="LIST",
        help="metrics of the table and the tests, as psnr,ssim (default: all, and the tests of "
        "psnr)",
    )
    parser.add_argument("--latex", action="store_true", help="also print the table as LaTeX")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="CSV", help="file for the comparisons on all metrics"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import files
    from lle_jax.evaluation import evaluate, measures, statistics, tables, written

    chosen = None if arguments.metrics is None else measures.parse(arguments.metrics)
    read = [folder.resolve() for folder in arguments.runs]
    if arguments.output and arguments.output.resolve().parent in read:
        raise ValueError(f"{arguments.output}: in an evaluation that is read; choose another -o")
    methods, rows, notes = written.join(arguments.runs)
    measured = dict.fromkeys(row.metric for row in rows)
    for name in chosen or ():
        if name not in measured:
            raise ValueError(f"--metrics: {name} was not measured; measured: {', '.join(measured)}")
    for note in notes:
        print(f"note: {note}")
    summary = statistics.summarise(rows)
    print(tables.table(summary, chosen))
    comparisons = [c for method in methods for c in evaluate.compare(rows, method)]
    shown = [c for c in comparisons if c.metric in (chosen or ("psnr",))]
    print(f"\n{tables.comparison_table(shown)}")
    if arguments.latex:
        print(f"\n{tables.latex(summary, chosen)}")
    arguments.document.update(
        methods=methods,
        notes=notes,
        summary=[s._asdict() for s in summary],
        comparisons=[c._asdict() for c in comparisons],
        written=[arguments.output] if arguments.output else [],
    )
    if arguments.output:
        files.write_csv(arguments.output, statistics.Comparison._fields, comparisons)
    return 0
