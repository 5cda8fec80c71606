"""`lle release`: writes the EMA parameters of a run as a release."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ml_collections
    from flax import nnx

    from lle_jax.evaluation.suite import Suite
    from lle_jax.training import uncertainty


def add(commands) -> None:
    parser = commands.add_parser(
        "release",
        help="write the moving-average (EMA) parameters of a run as a release, to be shared",
        description="Writes the EMA parameters of a run's newest checkpoint as plain files. "
        "The release says nothing about this machine: only the last part of each path in the "
        "configuration is stored.",
    )
    parser.add_argument("model", type=Path, metavar="RUN", help="a run directory")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the release"
    )
    parser.add_argument(
        "--float16", action="store_true", help="store float16: half the size, 11 significant bits"
    )
    parser.add_argument("--card", type=Path, help="a CARD.md instead of the generated one")
    parser.add_argument(
        "--interval",
        type=float,
        metavar="LEVEL",
        help="calibrate the uncertainty to prediction intervals of this coverage, e.g. 0.9",
    )
    parser.add_argument(
        "--suite",
        default="validation",
        help="calibration suite, neither training nor test images (default: %(default)s)",
    )
    parser.add_argument(
        "--source", help="folder or manifest of the suite's images, instead of its own"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import console
    from lle_jax.checkpoints import release, training_record
    from lle_jax.evaluation import suite

    card = None if arguments.card is None else read_card(arguments.card)
    loaded, record = training_record.read(arguments.model)
    params = loaded.params
    if arguments.interval is not None:
        (images,) = suite.load_all([arguments.suite], source=arguments.source)
        params, factors = calibrate(loaded.config, params, images, arguments.interval)
        record["interval"] = {
            "level": arguments.interval,
            "factors": factors._asdict(),
            "suite": images.fingerprint,
        }
    release.save(
        arguments.output,
        loaded.config,
        params,
        record,
        dtype="float16" if arguments.float16 else "float32",
        card=card,
    )
    size = sum(file.stat().st_size for file in arguments.output.iterdir())
    console.note(f"{arguments.output}: step {record['step']}, {size / 1e6:.1f} MB")
    return 0


def read_card(path: Path) -> str:
    """Returns the text of a card; raises CheckpointError if it is none."""
    from lle_jax.checks import CheckpointError

    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: not UTF-8 text; save it as UTF-8") from None


def calibrate(
    config: "ml_collections.ConfigDict", params: "nnx.State", suite: "Suite", level: float
) -> "tuple[nnx.State, uncertainty.Factors]":
    """Calibrates the predicted uncertainty on a suite; returns the factors too."""
    from lle_jax import checks, jobs
    from lle_jax.evaluation import coverage
    from lle_jax.inference import tiles
    from lle_jax.training import uncertainty

    checks.number("interval", level, 0.01, 0.999)
    net = tiles.network(config, params)
    cases = jobs.track(suite.cases(), suite.count, unit="image", description="interval")
    measured = coverage.measure(net, cases)
    grouped = ((each.error, each.half_width, each.case.modality, each.grey) for each in measured)
    factors = uncertainty.calibration_factors(grouped, level)
    return uncertainty.scale_uncertainty(params, factors), factors
