"""`lle enhance`: brighter and cleaner copies of images."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

SUFFIX_OF = {"png": ".png", "jpeg": ".jpg", "bmp": ".bmp", "tiff": ".tif", "dicom": ".dcm"}


def add(commands) -> None:
    parser = commands.add_parser(
        "enhance",
        help="make brighter and cleaner copies of images",
        description="Writes enhanced copies of images and videos in the format, depth and colours "
        "of the originals, "
        "with their metadata; DICOM as derived objects. Finished files are skipped, so an "
        "interrupted command can be repeated. Inputs are never overwritten.",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="images, videos, folders (mirrored in OUT), patterns; or - for one image from "
        "standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="folder to write to; for one image also a file, or - for standard output (the default "
        "if the input is -)",
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="fraction of the change, 0 (unchanged) to 1"
    )
    _add_exposure(parser)
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also write pictures of before and after side by side",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write OUT.uncertainty.tif, 16 bits: the half-width of the prediction interval "
        "of each value; the model's card reports its coverage",
    )
    parser.add_argument(
        "--anonymise",
        action="store_true",
        help="remove EXIF and the DICOM elements that the basic profile of PS3.15 removes; file "
        "names, and names burnt into the pixels, remain",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a run directory or a release (default: the bundled model)",
    )
    _add_sequences(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.set_defaults(run=run)


def _add_exposure(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the brightness, and for what needs no correction."""
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        "--exposure",
        default="auto",
        metavar="auto|VALUE|+1EV",
        help="the wanted mean brightness, in (0, 1), or stops of light more or less than what the "
        "network predicts, as +1EV or -0.5EV (write --exposure=-0.5EV) (default: auto)",
    )
    wanted.add_argument(
        "--like",
        nargs="+",
        type=Path,
        metavar="REFERENCE",
        help="as bright as these well-lit images of the same device: the median of their means",
    )
    parser.add_argument(
        "--consistent",
        action="store_true",
        help="give all images of a DICOM series, or of a folder, the same stops of light",
    )
    parser.add_argument(
        "--always",
        action="store_true",
        help="make the whole correction, also of images that need little or nothing, which "
        "otherwise get little or are copied unchanged",
    )
    for former in ("--skip-well-exposed", "--gate"):
        parser.add_argument(former, action=_Former, nargs=0, help=argparse.SUPPRESS)


def _add_sequences(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the frames of a sequence."""
    parser.add_argument(
        "--video",
        action="store_true",
        help="the images of a folder are the frames of one sequence, in the natural order of their "
        "names, and get one exposure over time",
    )
    parser.add_argument(
        "--frame-rate",
        type=float,
        metavar="N",
        help="with --video, frames per second (default: 25)",
    )


class _Former(argparse.Action):
    """An option of an earlier version."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"{option_string} is the default now; --always is the opposite")


def run(arguments: argparse.Namespace) -> int:
    compilation_cache()
    from lle_jax import images, jobs
    from lle_jax.images.errors import shown
    from lle_jax.images.plan import is_file
    from lle_jax.inference import files, frames

    rate = arguments.frame_rate
    if rate is not None and not arguments.video:
        raise ValueError("--frame-rate is that of folders of frames; add --video")
    if arguments.video and rate is None:
        rate = frames.DEFAULT_RATE
    settings = files.Settings(
        arguments.strength,
        _exposure(arguments),
        arguments.always,
        arguments.consistent,
        arguments.compare,
        arguments.anonymise,
        arguments.uncertainty,
        rate,
    )
    if "-" in (*arguments.inputs, arguments.output):
        if arguments.json:
            raise ValueError("- writes an image to standard output; leave out --json")
        return _pipe(arguments, settings)
    if arguments.output is None:
        raise ValueError("nowhere to write; give -o OUT")
    output = Path(arguments.output)
    plan = files.plan(arguments.inputs, output, settings)
    skipped = images.skipped_formats(plan.others)
    arguments.document["skipped_pictures"] = plan.others
    job = files.Job(None if is_file(plan, output) else output, arguments.model, settings)
    if arguments.dry_run:
        return _dry_run(arguments, plan, job, skipped)
    outcome = job.run(plan.pairs)
    outcome.failed.extend(plan.failed)
    arguments.document.update(
        outcome.document(lambda pair: {"input": pair[0], "outputs": settings.outputs(pair[1])})
    )
    return jobs.report(
        "enhance", outcome, "enhanced", skipped=skipped, label=lambda pair: shown(pair[0])
    )


def _exposure(arguments: argparse.Namespace) -> str:
    """The wanted brightness, from the references where there are any."""
    from lle_jax import images
    from lle_jax.inference import exposure

    if not arguments.like:
        return arguments.exposure
    pictures = (images.read(path).pixels for path in arguments.like)
    stills = (each[len(each) // 2] if each.ndim == 4 else each for each in pictures)
    return f"{exposure.of_references(stills).mean:.4f}"


def _dry_run(arguments: argparse.Namespace, plan, job, skipped: str) -> int:
    """Prints what would be done."""
    from lle_jax import console
    from lle_jax.images.errors import shown

    job.refuse_foreign(plan.pairs)
    planned = [(*pair, job.finished(pair)) for pair in plan.pairs]
    for source, target, finished in planned:
        print(f"{shown(source)} -> {shown(target)}{' (finished)' * finished}")
    for _, reason in plan.failed:
        print(f"lle enhance: {reason}", file=sys.stderr)
    if skipped:
        console.note(skipped)
    names = ("input", "output", "finished")
    arguments.document.update(
        planned=[dict(zip(names, each, strict=True)) for each in planned],
        failed=[{"input": pair[0], "reason": reason} for pair, reason in plan.failed],
    )
    return 1 if plan.failed else 0


def _pipe(arguments: argparse.Namespace, settings) -> int:
    """One image from standard input, or to standard output; nothing else is printed there."""
    from lle_jax import images
    from lle_jax.checkpoints import load
    from lle_jax.inference import enhance, files

    others = settings.compare or settings.uncertainty or settings.consistent or arguments.video
    if len(arguments.inputs) != 1 or others or arguments.dry_run:
        raise ValueError(
            "- is for one image, without --compare, --uncertainty, --consistent, --video and "
            "--dry-run"
        )
    piped, output = arguments.inputs[0] == "-", arguments.output or "-"
    if piped and output != "-" and _is_standard_input(Path(output)):
        raise ValueError(
            f"{output}: this is standard input, which is never overwritten; choose another"
        )
    net, digest = enhance.load(arguments.model), load.digest(arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(arguments.inputs[0])
        if piped:
            source = Path(folder, "standard input")
            source.write_bytes(sys.stdin.buffer.read())
        suffix = SUFFIX_OF.get(images.read(source).format, "")
        if piped:  # what is unchanged is copied where its format is kept
            source = source.rename(source.with_suffix(suffix))
        name = f"standard output{suffix or '.png'}"
        target = Path(folder, name) if output == "-" else Path(output)
        if files.enhance_file(net, source, target, settings, digest):
            print("unchanged", file=sys.stderr)
        if output == "-":
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()
    return 0


def _is_standard_input(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdin.fileno()))
    except OSError:  # no such file, or no standard input that is one
        return False


def compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that a later start is quick.

    A folder that the user gave to jax (JAX_COMPILATION_CACHE_DIR) is left as it is.
    """
    import jax

    from lle_jax.files import cache_folder

    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
