"""`lle evaluate`: networks, baselines and other systems' outputs on suites."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lle_jax.evaluation.evaluate import EvaluationResult


def add(commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="evaluate networks, baselines and other systems' outputs on suites",
        description="Evaluates each METHOD on each suite, with the input and the classical "
        "baselines: metrics with and without GT-mean, do-no-harm figures, intervals, paired "
        "tests with Holm's correction, subgroups. OUT/SUITE gets per_image.csv, summary.csv, "
        "comparisons.csv, subgroups.csv, suite.json and index.html, a page that needs no network. "
        "A method that was trained on images of the suite is refused. An interrupted command can "
        "be repeated.",
    )
    parser.add_argument(
        "methods",
        nargs="*",
        metavar="METHOD",
        help='a run directory, a release, "released", a classical baseline, or NAME=FOLDER with '
        "the output images of another system",
    )
    parser.add_argument(
        "--suite",
        nargs="+",
        default=["samples"],
        metavar="SUITE",
        help="names of configs/evaluation/ or TOML files (default: samples)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="folder or manifest of the suite's images, instead of its own",
    )
    parser.add_argument(
        "--pairs", nargs=2, metavar=("LOW", "CLEAN"), help="the folders of a suite of pairs"
    )
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        help="metrics of the printed tables, as psnr,ssim,niqe (default: the standard ones); "
        "invention stands for spots and lines added and lost; ms_ssim, vif, lightness_order_error, "
        "niqe, brisque and lpips are measured when named",
    )
    parser.add_argument(
        "--lpips-weights", type=Path, metavar="NPZ", help="network of lpips (docs/metrics.md)"
    )
    parser.add_argument("--latex", action="store_true", help="also print the table as LaTeX")
    parser.add_argument("--no-baselines", action="store_true", help="skip the classical baselines")
    parser.add_argument(
        "--allow-overlap",
        action="store_true",
        help="evaluate on images that a method was trained on; the report says so",
    )
    parser.add_argument(
        "--inputs",
        dest="write_inputs",  # `inputs` of the other commands are paths to read
        type=Path,
        metavar="FOLDER",
        help="write the suites' low-light images here, for another system to enhance, and stop",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import classical, console, data
    from lle_jax.evaluation import evaluate, measures, report, suite
    from lle_jax.evaluation import methods as method_loader

    if bool(arguments.write_inputs) == bool(arguments.output):
        raise ValueError("give -o OUT to evaluate, or --inputs FOLDER to write the inputs only")
    if not arguments.methods and not arguments.write_inputs:
        raise ValueError('no METHOD; give a run directory, a release, "released" or NAME=FOLDER')
    chosen = None if arguments.metrics is None else measures.parse(arguments.metrics)
    suites = suite.load_all(
        arguments.suite,
        source=arguments.source,
        pairs=tuple(arguments.pairs) if arguments.pairs else None,
    )
    names = [each.name.casefold() for each in suites]
    if len(set(names)) < len(names):
        raise ValueError(f"two suites of one name, of {', '.join(names)}; rename the TOML file")
    for each in suites:
        for line in data.skipped_lines(each.rejected):
            print(f"lle evaluate: {line}", file=sys.stderr)
    if arguments.write_inputs:
        arguments.document["written"] = folders = []
        for each in suites:
            folders.append(arguments.write_inputs / each.name)
            count = evaluate.write_inputs(each, folders[-1])
            console.note(f"{count} images: {folders[-1]}")
        return 0
    methods = method_loader.unique(map(method_loader.load, arguments.methods))
    given = {method.name for method in methods}
    names = [] if arguments.no_baselines else [n for n in classical.METHODS if n not in given]
    baselines = [method_loader.load(name) for name in names]
    for each in suites:
        evaluate.refuse_other(arguments.output / each.name, each, [*methods, *baselines])
    arguments.document["suites"] = documents = []
    for each in suites:
        folder = arguments.output / each.name
        compared = ", ".join(method.name for method in (*methods, *baselines))
        console.note(f"{each.name}: {each.count} cases of {len(each.images)} images; {compared}")
        result = evaluate.evaluate(
            each,
            methods,
            baselines,
            folder,
            allow_overlap=arguments.allow_overlap,
            more_metrics=chosen or (),
            lpips_weights=arguments.lpips_weights,
        )
        _print(result, chosen, latex=arguments.latex)
        report.write(folder, result, [*methods, *baselines])
        console.note(f"\nreport: {folder / 'index.html'}")
        documents.append(_document(result, folder))
    return 0


def _print(result: "EvaluationResult", chosen: tuple[str, ...] | None, *, latex: bool) -> None:
    """Prints the table and the tests of the chosen metrics."""
    from lle_jax.evaluation import tables

    print(f"\n{result.suite.name}: {result.suite.settings.get('description', '')}")
    for name, warnings in result.record["warnings"].items():
        print(f"note: {name}: {'; '.join(warnings)}")
    print(f"\n{tables.table(result.summary, chosen)}\n")
    tested = chosen or ("psnr",)
    print(tables.comparison_table([c for c in result.comparisons if c.metric in tested]))
    if latex:
        print(f"\n{tables.latex(result.summary, chosen)}")


def _document(result: "EvaluationResult", folder: Path) -> dict[str, Any]:
    """What --json says of a suite."""
    return {
        "suite": result.suite.name,
        "folder": folder,
        "written": sorted(path for path in folder.iterdir() if path.is_file()),
        "methods": result.methods,
        "summary": [s._asdict() for s in result.summary],
        "comparisons": [c._asdict() for c in result.comparisons],
        "warnings": result.record["warnings"],
        "skipped": [{"input": path, "reason": reason} for path, reason in result.suite.rejected],
    }
