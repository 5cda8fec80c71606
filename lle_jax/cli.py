"""The command `lle`: each subcommand parses its arguments, calls the library and prints.

Exit status: 0 if all went well, 1 if some files failed (each is named at the end), 2 if nothing
could be started, with the reason in one line.
"""

import argparse
import sys
from pathlib import Path

# Libraries are imported inside the subcommands, so that --help answers at once.


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    parser = _Parser(prog="lle", description="Degrade, measure and enhance low-light images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    add_degrade(commands)
    add_quantify(commands)
    add_fit(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"lle {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lle {arguments.command}: stopped; the same command goes on", file=sys.stderr)
        return 130


def add_degrade(commands) -> None:
    parser = commands.add_parser(
        "degrade",
        help="make low-light copies of images",
        description="Writes degraded copies of images, and beside each the parameters drawn as "
        "JSON. The same seed gives the same bytes whatever the order or number of files; finished "
        "files are skipped, so an interrupted command can be repeated.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="images or folders")
    parser.add_argument("--preset", required=True, help="a name, as endoscopy, or a .toml file")
    parser.add_argument("--seed", type=int, default=0, help="whole number (default 0)")
    parser.add_argument(
        "--severity", type=float, default=1.0, help="0 (unchanged) to 1 (default): all strengths"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="picture of the first image under each artifact of the preset at five severities",
    )
    parser.set_defaults(run=run_degrade)


def run_degrade(arguments: argparse.Namespace) -> int:
    if arguments.output is None and arguments.contact_sheet is None:
        raise ValueError("nothing to write; give -o OUT or --contact-sheet PNG")
    from lle_jax import degrade, images
    from lle_jax.degrade import files, sheet

    settings = files.Settings(degrade.load(arguments.preset), arguments.seed, arguments.severity)
    failures, count = [], 0
    if arguments.output is not None:
        pairs = files.plan(arguments.inputs, arguments.output)
        count = len(pairs)
        arguments.output.mkdir(parents=True, exist_ok=True)
        failures = files.degrade_files(pairs, settings)
    if arguments.contact_sheet is not None:
        sheet.write(images.find(arguments.inputs)[0], arguments.contact_sheet, settings)
    for failure in failures:
        print(f"lle degrade: {failure}", file=sys.stderr)
    if failures:
        print(f"lle degrade: {len(failures)} of {count} files failed", file=sys.stderr)
    return 1 if failures else 0


def add_quantify(commands) -> None:
    parser = commands.add_parser(
        "quantify",
        help="measure noise, impulses, blur, JPEG and exposure of images",
        description="Measures every image (each frame of a DICOM or TIFF file) and prints "
        "quartiles, severities and the correction that applies. OUT gets measures.csv, "
        "measures.jsonl, unreadable.csv and index.html, a page that needs no network and is about "
        "the images given. What was measured before is not measured again, so an interrupted "
        "command can be repeated. The page shows file names, and small pictures of the worst "
        "images; of DICOM it shows neither pictures, which may have a name burnt in, nor any "
        "other element.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="images or folders")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--study",
        action="store_true",
        help="also print the published study's table with its verdicts, of which the one on salt "
        "and pepper cannot be trusted on low light",
    )
    parser.add_argument(
        "--dicom-pictures", action="store_true", help="show pictures of DICOM images on the page"
    )
    parser.set_defaults(run=run_quantify)


def run_quantify(arguments: argparse.Namespace) -> int:
    from lle_jax.artifacts import quantify, report, tables

    result = quantify.quantify(arguments.inputs, arguments.output)
    if result.rows:
        print(tables.text(result.rows))
    if result.rows and arguments.study:
        print("\n" + tables.study_text(result.rows))
    if arguments.output is not None:
        page = arguments.output / quantify.PAGE
        report.write(page, result, dicom_pictures=arguments.dicom_pictures)
        print(f"\nreport: {page}")
    for path, reason in result.failures:
        print(f"lle quantify: {path}: {reason}", file=sys.stderr)
    if result.failures:
        files = len({row["path"] for row in result.rows}) + len(result.failures)
        print(
            f"lle quantify: {len(result.failures)} of {files} files could not be read",
            file=sys.stderr,
        )
    return 1 if result.failures else 0


def add_fit(commands) -> None:
    parser = commands.add_parser(
        "fit",
        help="learn a degradation preset from real low-light images",
        description="Fits the distribution of degradation parameters so that clean images degraded "
        "with it measure like the real ones. Writes a preset for `lle degrade` and for training, "
        "and beside it a page with histograms of real and synthetic images. Takes minutes.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGES", help="real low-light images or folders"
    )
    parser.add_argument(
        "--clean",
        nargs="+",
        type=Path,
        required=True,
        help="well-lit images of the same kind; they need not show the same",
    )
    parser.add_argument(
        "--prior",
        help="preset whose ranges are searched, a name or a .toml file (default: configs/fit/"
        "prior.toml, exposure, blur, noise, impulses and JPEG)",
    )
    parser.add_argument("--seed", type=int, default=0, help="whole number (default 0)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PRESET", required=True, help=".toml file to write"
    )
    parser.set_defaults(run=run_fit)


def run_fit(arguments: argparse.Namespace) -> int:
    from lle_jax import degrade
    from lle_jax.degrade import fit_files, presets

    prior = degrade.load(arguments.prior or presets.folder().parent / "fit" / "prior.toml")
    report = fit_files.fit_files(
        arguments.inputs, arguments.clean, prior, arguments.output, arguments.seed
    )
    print("\n".join(report.provenance))
    print(f"preset: {arguments.output}\nreport: {arguments.output.with_suffix('.html')}")
    for path, reason in report.failures:
        print(f"lle fit: {path}: {reason}", file=sys.stderr)
    return 1 if report.failures else 0
