"""Records LPIPS of PyTorch modules with random weights, for tests that do not need PyTorch.

    pip install torch==2.13.0 numpy
    python tests/reference/record_learned.py

writes learned.json beside this file. The trunks are the public `features` of torchvision's AlexNet
and VGG16, written out here with torch.nn; weights and images come from NumPy at fixed seeds.
"""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("learned.json")
VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # modules whose output is compared


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random float32 tensors of these shapes, by name; heads are positive, as trained ones are."""
    result = {}
    for seed, name in enumerate(sorted(shapes)):
        generator = np.random.default_rng(seed)
        shape = shapes[name]
        scale = 0.1 if name.endswith("bias") else np.sqrt(2 / np.prod(shape[1:]))
        values = scale * generator.standard_normal(shape, np.float32)
        result[name] = (np.abs(values) if name.startswith("lin") else values).astype(np.float32)
    return result


def pair() -> tuple[np.ndarray, np.ndarray]:
    """Two images `[2, 64, 64, 3]`, float32 in [0, 1]: smooth ones, and the same with noise."""
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:64, :64][..., None] / 64
    phase = np.arange(6).reshape(2, 1, 1, 3)
    clean = 0.5 + 0.4 * np.sin(9 * row + phase) * np.cos(7 * column - phase)
    noise = np.array([0.02, 0.2]).reshape(2, 1, 1, 1) * generator.standard_normal(clean.shape)
    return np.clip(clean + noise, 0, 1).astype(np.float32), clean.astype(np.float32)


def checksum(arrays) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def trunk(network: str):
    from torch import nn

    if network == "alex":
        return nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
    layers, channels = [], 3
    for width in VGG:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def measure(network: str) -> dict:
    import torch

    features = trunk(network)
    shapes = {f"features.{name}": tuple(p.shape) for name, p in features.named_parameters()}
    convolutions = [name for name in shapes if name.endswith("weight")]
    outputs = {int(name.split(".")[1]): shapes[name][0] for name in convolutions}
    for head, tap in enumerate(TAPS[network]):
        shapes[f"lin{head}.model.1.weight"] = (1, outputs[tap - 1], 1, 1)
    arrays = weights(shapes)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    features.load_state_dict({n[9:]: t for n, t in tensors.items() if n.startswith("features.")})
    features.double()
    shift, scale = (
        torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
        for values in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450])
    )
    x, y = (
        (2 * torch.from_numpy(image).double().permute(0, 3, 1, 2) - 1 - shift) / scale
        for image in pair()
    )
    layers = []
    with torch.no_grad():
        for number, module in enumerate(features):
            x, y = module(x), module(y)
            if number in TAPS[network]:
                unit = [z / (z.square().sum(1, keepdim=True).sqrt() + 1e-10) for z in (x, y)]
                head = tensors[f"lin{len(layers)}.model.1.weight"].double()
                weighted = torch.nn.functional.conv2d((unit[0] - unit[1]).square(), head)
                layers.append(weighted.mean(dim=(1, 2, 3)))
    return {
        "sha256": checksum(arrays[name] for name in sorted(arrays)),
        "lpips": sum(layers).tolist(),
        "layers": [layer.tolist() for layer in layers],
    }


def main() -> None:
    record = {
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy")},
        "images": checksum(pair()),
        "networks": {network: measure(network) for network in TAPS},
    }
    PATH.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
