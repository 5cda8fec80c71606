"""`lle quantify`: noise, impulses, blur, JPEG and exposure of images."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "quantify",
        help="measure noise, impulses, blur, JPEG and exposure of images",
        description="Measures every image (each frame of a DICOM or TIFF file) and prints "
        "quartiles, severities and the corrections that apply. OUT gets measures.csv, "
        "measures.jsonl, unreadable.csv and index.html, a page that needs no network and is about "
        "the images given. Images measured before are skipped, so an interrupted "
        "command resumes. The page shows file names, and small pictures of the worst "
        "images; of DICOM it shows neither pictures, which may have a name burnt in, nor "
        "elements.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="PATH", help="images or folders")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--study",
        action="store_true",
        help="also print the published study's table with its verdicts; the one on salt and pepper "
        "is not valid in low light",
    )
    parser.add_argument(
        "--dicom-pictures", action="store_true", help="show pictures of DICOM images on the page"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import console, images, jobs
    from lle_jax.artifacts import quantify, report, tables

    result = quantify.quantify(arguments.inputs, arguments.output)
    if result.rows:
        print(tables.text(result.rows))
    if result.rows and arguments.study:
        print("\n" + tables.study_text(result.rows))
    if arguments.output is not None:
        page = arguments.output / quantify.PAGE
        report.write(page, result, dicom_pictures=arguments.dicom_pictures)
        console.note(f"\nreport: {page}")
    assert result.outcome is not None
    names = (quantify.TABLE, quantify.RECORDS, quantify.UNREADABLE, quantify.PAGE)
    arguments.document.update(
        result.outcome.document(lambda path: {"input": path}),
        skipped_pictures=result.others,
        measures=[quantify.flat(row) for row in result.rows],
        recommendation=tables.recommendation(result.rows) if result.rows else None,
        written=[arguments.output / name for name in names] if arguments.output else [],
    )
    skipped = images.skipped_formats(result.others)
    return jobs.report("quantify", result.outcome, "measured", skipped=skipped)
