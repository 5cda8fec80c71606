"""`lle degrade`: low-light copies of images."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "degrade",
        help="make low-light copies of images",
        description="Writes degraded copies of images, each with its sampled parameters in a JSON "
        "file beside it. The same seed gives the same bytes whatever the order or number of files. "
        "Finished files are skipped, so an interrupted command can be repeated.",
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="images, folders, patterns")
    parser.add_argument(
        "--preset", required=True, help="a name, such as endoscopy, or a .toml file"
    )
    parser.add_argument("--seed", type=int, default=0, help="whole number (default 0)")
    parser.add_argument(
        "--severity",
        type=float,
        default=1.0,
        help="scales all strengths, 0 (unchanged) to 1 (default)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="OUT",
        help="folder to write to; for one image also a file",
    )
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
    from lle_jax import degrade, images, jobs
    from lle_jax.degrade import files, sheet
    from lle_jax.images import plan
    from lle_jax.images.errors import naming
    from lle_jax.images.files import refuse_input

    settings = files.Settings(degrade.load(arguments.preset), arguments.seed, arguments.severity)
    status = 0
    if arguments.contact_sheet is not None:
        found = images.find(plan.expand(arguments.inputs))
        with naming(arguments.contact_sheet, "cannot be written"):
            for path in found:
                refuse_input(arguments.contact_sheet, path)
    if arguments.output is not None:
        planned = plan.plan(arguments.inputs, arguments.output)
        if arguments.contact_sheet is not None:
            _refuse_target(arguments.contact_sheet, [target for _, target in planned.pairs])
        folder = None if plan.is_file(planned, arguments.output) else arguments.output
        outcome = files.degrade_files(planned.pairs, settings, folder)
        outcome.failed.extend(planned.failed)
        skipped = images.skipped_formats(planned.others)
        arguments.document.update(
            outcome.document(lambda pair: {"input": pair[0], "output": pair[1]}),
            skipped_pictures=planned.others,
        )
        status = jobs.report("degrade", outcome, "degraded", skipped=skipped)
    if arguments.contact_sheet is not None:
        sheet.write(found[0], arguments.contact_sheet, settings)
        arguments.document["contact_sheet"] = arguments.contact_sheet
    return status


def _refuse_target(sheet: Path, targets: list[Path]) -> None:
    """Raises ValueError where the contact sheet would replace a copy, or the copy the sheet."""
    if sheet.resolve() in {target.resolve() for target in targets}:
        raise ValueError(
            f"{sheet}: a low-light copy is written there; choose another name for the contact sheet"
        )
