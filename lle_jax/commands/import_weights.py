"""`lle import-weights`: converts a public PyTorch checkpoint to a release."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "import-weights",
        help="convert a PyTorch checkpoint to a release",
        description="Reads a .pth or .safetensors file without PyTorch and without executing "
        "anything in it, and writes a release for lle enhance --model (docs/networks.md).",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint")
    parser.add_argument(
        "--model",
        required=True,
        metavar="NETWORK",
        help="its architecture: flol, iat, nafnet, retinexformer or zero_dce",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the release"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import hashlib

    from lle_jax import console, models
    from lle_jax.checkpoints import release
    from lle_jax.models import import_weights, torch_files

    import_weights.check_network(arguments.model)
    data = torch_files.load(arguments.file)
    tensors = torch_files.parse(data, arguments.file)
    try:
        config, params = import_weights.convert(tensors, arguments.model)
    except ValueError as error:
        raise torch_files.WeightsError(f"{arguments.file}: {error}") from None
    record = {"imported from": arguments.file.name, "sha256": hashlib.sha256(data).hexdigest()}
    release.save(arguments.output, config, params, record)
    sizes = ", ".join(f"{k} {v}" for k, v in config.items() if k not in ("name", "dtype"))
    count = models.parameter_count(params)
    console.note(f"{arguments.output}: {arguments.model}, {sizes}, {count:,} parameters")
    return 0
