"""`lle fit`: a degradation preset fitted to real low-light images."""

import argparse
import sys
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "fit",
        help="fit a degradation preset to real low-light images",
        description="Fits the distribution of degradation parameters so that clean images degraded "
        "with it have the same measures as the real ones. Writes a preset for `lle degrade` and "
        "for training, and a page with histograms of real and synthetic images. Takes minutes.",
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGES", help="real low-light images or folders"
    )
    parser.add_argument(
        "--clean",
        nargs="+",
        type=Path,
        required=True,
        help="well-lit images of the same kind, not necessarily of the same scenes",
    )
    parser.add_argument(
        "--prior",
        default="prior",
        help="preset whose ranges are searched, a name or a .toml file (default: configs/fit/"
        "prior.toml, exposure, blur, white noise, impulses and JPEG; clinic: also a tone curve and "
        "the colour of the light; sensor: also the correlated noise of a camera that may denoise)",
    )
    parser.add_argument("--seed", type=int, default=0, help="whole number (default 0)")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PRESET", required=True, help=".toml file to write"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import console, images
    from lle_jax.fit import preset
    from lle_jax.images.errors import shown

    prior = preset.load_prior(arguments.prior)
    report = preset.fit_files(
        arguments.inputs, arguments.clean, prior, arguments.output, arguments.seed
    )
    others = images.scan([*arguments.inputs, *arguments.clean]).others
    page = arguments.output.with_suffix(".html")
    print("\n".join(report.provenance))
    console.note(f"preset: {shown(arguments.output)}\nreport: {shown(page)}")
    if others:
        console.note(images.skipped_formats(others))
    arguments.document.update(
        skipped_pictures=others,
        written=[arguments.output, page],
        provenance=report.provenance,
        failed=[{"input": path, "reason": reason} for path, reason in report.failures],
    )
    for path, reason in report.failures:
        print(f"lle fit: {shown(path)}: {reason}", file=sys.stderr)
    return 1 if report.failures else 0
