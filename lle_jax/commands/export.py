"""`lle export`: a released model as one file that runs without lle_jax."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write the model as one StableHLO file",
        description="Writes a model with its parameters as StableHLO, which jax loads without "
        "lle_jax (docs/enhance.md): [batch, height, width, 3] -> the same shape, float32 in "
        "[0, 1], for any batch, height and width, on CPU, NVIDIA GPU and TPU.",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="for example model.stablehlo",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FOLDER",
        help="a release or a run directory (default: the bundled model)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from lle_jax import console
    from lle_jax.checkpoints.load import load_model
    from lle_jax.files import write_bytes
    from lle_jax.inference import export

    model = arguments.model
    if model and arguments.output.resolve().is_relative_to(model.resolve()):
        raise ValueError(f"{arguments.output}: in the model's folder; choose another -o")
    loaded = load_model(model)
    data = export.serialise(loaded.config, loaded.params)
    write_bytes(arguments.output, data)
    console.note(
        f"{arguments.output}: {len(data) / 1e6:.1f} MB, platforms {', '.join(export.PLATFORMS)}"
    )
    return 0
