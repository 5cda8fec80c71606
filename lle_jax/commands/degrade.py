"""`lle degrade`: low-light copies of images."""

import argparse
import sys
from pathlib import Path


def add(commands) -> None:
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
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
