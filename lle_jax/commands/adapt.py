"""`lle adapt`: a model adapted to the images of one clinic."""

import argparse
import sys
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "adapt",
        help="adapt a model to the dark images of one clinic",
        description="Fits the degradation of the dark images, fine-tunes a model on the clean "
        "images under it, and compares it with the model before on clean images that were held "
        "back. OUT/release is written only where the adapted model is better; otherwise the exit "
        "status is 1. OUT/index.html says why. An interrupted command can be repeated.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="DARK",
        help="real low-light images or folders, at least 30",
    )
    parser.add_argument(
        "--clean",
        nargs="+",
        type=Path,
        required=True,
        metavar="CLEAN",
        help="well-lit images of the same kind, at least 30, not necessarily of the same scenes; "
        "or a manifest, of which no patient is divided",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="folder to write to"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=30.0,
        metavar="N",
        help="time for all of it, about (default: %(default)g)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a release or run directory to start from (default: the bundled model)",
    )
    parser.add_argument(
        "--prior",
        default="clinic",
        help="preset whose ranges the fit searches, as of lle fit (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="training steps, instead of what the time allows"
    )
    parser.add_argument(
        "--lr", type=float, default=2e-4, metavar="N", help="learning rate (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=0, help="whole number (default 0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import adapt, console, data, memory
    from lle_jax.commands.enhance import compilation_cache

    compilation_cache()
    memory.keep_freed_memory()
    settings = adapt.Settings(
        arguments.model,
        arguments.prior,
        arguments.minutes,
        arguments.steps,
        arguments.lr,
        arguments.seed,
    )
    result = adapt.adapt(arguments.inputs, arguments.clean, arguments.output, settings)
    for line in data.skipped_lines(result.rejected):
        print(f"lle adapt: {line}", file=sys.stderr)
    for line in result.warnings:
        print(f"lle adapt: warning: {line}", file=sys.stderr)
    if result.finished_before:
        console.note(f"{arguments.output}: finished before with the same inputs; nothing to do")
    console.note(f"page: {result.written[0]}")
    arguments.document.update(
        better=result.better,
        decision=result.line,
        warnings=result.warnings,
        finished_before=result.finished_before,
        written=result.written,
        skipped=[{"input": path, "reason": reason} for path, reason in result.rejected],
    )
    if not result.better:
        print(f"lle adapt: {result.line}", file=sys.stderr)
        return 1
    print(result.line)
    return 0
