"""Records what PyTorch computes with the published networks, for tests that do not need PyTorch.

    pip install torch==2.13.0 numpy
    python tests/reference/record_networks.py

writes beside this file networks.json (the tensors' names and shapes, the outputs),
zero_dce_tiny.pth (float16, as torch.save writes it), and zero_dce_tiny.legacy.pth (the same as
PyTorch before 1.6 did, inside a training program's dictionary). The modules are written anew from
the papers; names and shapes of their tensors are those of the public checkpoints. The weights are
random, from NumPy, so nothing large is stored.
"""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
PATH = FOLDER / "networks.json"
TINY = FOLDER / "zero_dce_tiny.pth"
TINY_LEGACY = FOLDER / "zero_dce_tiny.legacy.pth"
SIZES = {
    "flol": {"width": 4, "amplitude_width": 4, "frequency_blocks": 2, "spatial_blocks": 2},
    "iat": {"width": 4, "blocks": 2, "global_width": 8},
    "nafnet": {"width": 4, "encoder": [1, 2], "middle": 2, "decoder": [2, 1]},
    "retinexformer": {"width": 8, "blocks": [1, 2, 1]},
    "zero_dce": {"width": 5, "iterations": 8},
}


def image() -> np.ndarray:
    """`[2, 16, 24, 3]` float32 in [0, 1]."""
    return np.random.default_rng(0).random((2, 16, 24, 3), np.float32)


def weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Random tensors, float32: around 1 what multiplies features, else of 0.7 / sqrt(fan-in)."""
    result = {}
    for seed, (name, shape) in enumerate(sorted(shapes.items())):
        fan_in = np.prod(shape[1:]) if len(shape) > 1 and shape[0] > 1 else 4
        values = 0.7 * np.random.default_rng(seed).standard_normal(shape) / np.sqrt(fan_in)
        scales = ("norm1.weight", "norm2.weight", "norm.weight", "rescale", "alpha", "color_base")
        if name.endswith("running_var"):
            values = 0.5 + np.abs(values)
        result[name] = np.asarray(values + name.endswith(scales), np.float32)
    return result


def modules() -> dict:
    """The published networks at the widths of SIZES, as torch modules."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def gate(x):
        first, second = x.chunk(2, dim=1)
        return first * second

    class ChannelNorm(nn.Module):
        """Layer normalisation over channels."""

        def __init__(self, c):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

        def forward(self, x):
            x = x.movedim(1, -1)
            x = F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-6)
            return x.movedim(-1, 1)

    class NAFBlock(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
            self.conv1 = nn.Conv2d(c, 2 * c, 1)
            self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
            self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
            self.conv3 = nn.Conv2d(c, c, 1)
            self.conv4 = nn.Conv2d(c, 2 * c, 1)
            self.conv5 = nn.Conv2d(c, c, 1)
            self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
            self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

        def forward(self, x):
            y = gate(self.conv2(self.conv1(self.norm1(x))))
            x = x + self.beta * self.conv3(y * self.sca(y))
            return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))

    class NAFNet(nn.Module):
        def __init__(self, width, encoder, middle, decoder):
            super().__init__()
            widths = [width * 2**level for level in range(len(encoder))]

            def blocks(count, c):
                return nn.Sequential(*(NAFBlock(c) for _ in range(count)))

            def double(c):
                return nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2))

            self.intro = nn.Conv2d(3, width, 3, padding=1)
            self.ending = nn.Conv2d(width, 3, 3, padding=1)
            self.encoders = nn.ModuleList(map(blocks, encoder, widths))
            self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
            self.middle_blks = blocks(middle, 2 * widths[-1])
            self.ups = nn.ModuleList(map(double, reversed(widths)))
            self.decoders = nn.ModuleList(map(blocks, decoder, reversed(widths)))

        def forward(self, image):
            x, skips = self.intro(image), []
            for stage, down in zip(self.encoders, self.downs, strict=True):
                skips.append(stage(x))
                x = down(skips[-1])
            x = self.middle_blks(x)
            for up, stage in zip(self.ups, self.decoders, strict=True):
                x = stage(up(x) + skips.pop())
            return image + self.ending(x)

    class Estimator(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv1 = nn.Conv2d(4, width, 1)
            self.depth_conv = nn.Conv2d(width, width, 5, padding=2, groups=4)
            self.conv2 = nn.Conv2d(width, 3, 1)

        def forward(self, image):
            x = torch.cat([image, image.mean(dim=1, keepdim=True)], dim=1)
            features = self.depth_conv(self.conv1(x))
            return features, self.conv2(features)

    class Attention(nn.Module):
        def __init__(self, c, heads):
            super().__init__()
            self.heads = heads
            self.to_q = nn.Linear(c, c, bias=False)
            self.to_k = nn.Linear(c, c, bias=False)
            self.to_v = nn.Linear(c, c, bias=False)
            self.rescale = nn.Parameter(torch.ones(heads, 1, 1))
            self.proj = nn.Linear(c, c)
            depthwise = {"padding": 1, "groups": c, "bias": False}
            self.pos_emb = nn.Sequential(
                nn.Conv2d(c, c, 3, **depthwise), nn.GELU(), nn.Conv2d(c, c, 3, **depthwise)
            )

        def forward(self, x, light):
            b, c, h, w = x.shape
            pixels = x.flatten(2).transpose(1, 2)
            value = self.to_v(pixels).transpose(1, 2).reshape(b, c, h, w)

            def split(x):  # [b, heads, channels of a head, pixels]
                return x.reshape(b, self.heads, c // self.heads, h * w)

            query = F.normalize(split(self.to_q(pixels).transpose(1, 2)), dim=-1)
            key = F.normalize(split(self.to_k(pixels).transpose(1, 2)), dim=-1)
            weights = torch.softmax(key @ query.transpose(2, 3) * self.rescale, dim=-1)
            mixed = (weights @ split(value * light)).reshape(b, c, h * w)
            mixed = self.proj(mixed.transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)
            return mixed + self.pos_emb(value)

    class FeedForward(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(c, 4 * c, 1, bias=False),
                nn.GELU(),
                nn.Conv2d(4 * c, 4 * c, 3, padding=1, groups=4 * c, bias=False),
                nn.GELU(),
                nn.Conv2d(4 * c, c, 1, bias=False),
            )

    class Normalised(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.fn, self.norm = FeedForward(c), nn.LayerNorm(c)

        def forward(self, x):
            return self.fn.net(self.norm(x.movedim(1, -1)).movedim(-1, 1))

    class Stage(nn.Module):
        def __init__(self, count, c, heads):
            super().__init__()
            self.blocks = nn.ModuleList(
                nn.ModuleList([Attention(c, heads), Normalised(c)]) for _ in range(count)
            )

        def forward(self, x, light):
            for attention, feed_forward in self.blocks:
                x = x + attention(x, light)
                x = x + feed_forward(x)
            return x

    class Denoiser(nn.Module):
        def __init__(self, width, blocks):
            super().__init__()
            levels = len(blocks) - 1
            self.embedding = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.mapping = nn.Conv2d(width, 3, 3, padding=1, bias=False)

            def halve(c):
                return nn.Conv2d(c, 2 * c, 4, stride=2, padding=1, bias=False)

            def down(level):
                c = width * 2**level
                return nn.ModuleList([Stage(blocks[level], c, 2**level), halve(c), halve(c)])

            def up(level):
                c = width * 2**level
                double = nn.ConvTranspose2d(2 * c, c, 2, stride=2)
                merge = nn.Conv2d(2 * c, c, 1, bias=False)
                return nn.ModuleList([double, merge, Stage(blocks[level], c, 2**level)])

            self.encoder_layers = nn.ModuleList(map(down, range(levels)))
            self.bottleneck = Stage(blocks[-1], width * 2**levels, 2**levels)
            self.decoder_layers = nn.ModuleList(map(up, reversed(range(levels))))

        def forward(self, lit, light):
            x, skips = self.embedding(lit), []
            for stage, halve, halve_light in self.encoder_layers:
                x = stage(x, light)
                skips.append((x, light))
                x, light = halve(x), halve_light(light)
            x = self.bottleneck(x, light)
            for double, merge, stage in self.decoder_layers:
                skip, light = skips.pop()
                x = stage(merge(torch.cat([double(x), skip], dim=1)), light)
            return lit + self.mapping(x)

    class SingleStage(nn.Module):
        def __init__(self, width, blocks):
            super().__init__()
            self.estimator, self.denoiser = Estimator(width), Denoiser(width, blocks)

        def forward(self, image):
            light, light_up = self.estimator(image)
            return self.denoiser(image * light_up + image, light)

    class Retinexformer(nn.Module):
        def __init__(self, width, blocks):
            super().__init__()
            self.body = nn.Sequential(SingleStage(width, blocks))

        def forward(self, image):
            return self.body(image)

    class ZeroDCE(nn.Module):
        def __init__(self, width, iterations):
            super().__init__()
            inputs = [3, width, width, width, 2 * width, 2 * width, 2 * width]
            outputs = 6 * [width] + [3 * iterations]
            for number, (i, o) in enumerate(zip(inputs, outputs, strict=True), 1):
                setattr(self, f"e_conv{number}", nn.Conv2d(i, o, 3, padding=1))

        def forward(self, image):
            x1 = F.relu(self.e_conv1(image))
            x2 = F.relu(self.e_conv2(x1))
            x3 = F.relu(self.e_conv3(x2))
            x4 = F.relu(self.e_conv4(x3))
            x5 = F.relu(self.e_conv5(torch.cat([x3, x4], 1)))
            x6 = F.relu(self.e_conv6(torch.cat([x2, x5], 1)))
            curves = torch.tanh(self.e_conv7(torch.cat([x1, x6], 1)))
            for curve in curves.split(3, dim=1):
                image = image + curve * (image**2 - image)
            return image

    class ColourNorm(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.alpha = nn.Parameter(torch.ones(1, 1, c))
            self.beta = nn.Parameter(torch.zeros(1, 1, c))
            self.color = nn.Parameter(torch.eye(c))

        def forward(self, x):
            x = F.linear(x.movedim(1, -1), self.color) * self.alpha[0] + self.beta[0]
            return x.movedim(-1, 1)

    class MLP(nn.Module):
        def __init__(self, c, layer):
            super().__init__()
            self.fc1, self.fc2 = layer(c, 4 * c), layer(4 * c, c)

        def forward(self, x):
            return self.fc2(F.gelu(self.fc1(x)))

    def pointwise(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 1)

    class LocalBlock(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.pos_embed = nn.Conv2d(c, c, 3, padding=1, groups=c)
            self.norm1, self.norm2 = ColourNorm(c), ColourNorm(c)
            self.conv1, self.conv2 = pointwise(c, c), pointwise(c, c)
            self.attn = nn.Conv2d(c, c, 5, padding=2, groups=c)
            self.mlp = MLP(c, pointwise)
            self.gamma_1 = nn.Parameter(torch.ones(1, c, 1, 1))
            self.gamma_2 = nn.Parameter(torch.ones(1, c, 1, 1))

        def forward(self, x):
            x = x + self.pos_embed(x)
            x = x + self.gamma_1 * self.conv2(self.attn(self.conv1(self.norm1(x))))
            return x + self.gamma_2 * self.mlp(self.norm2(x))

    class LocalNet(nn.Module):
        def __init__(self, c, blocks):
            super().__init__()
            self.conv1 = nn.Conv2d(3, c, 3, padding=1)
            self.mul_blocks = nn.Sequential(*(LocalBlock(c) for _ in range(blocks)))
            self.add_blocks = nn.Sequential(*(LocalBlock(c) for _ in range(blocks)))
            self.mul_end = nn.Sequential(nn.Conv2d(c, 3, 3, padding=1), nn.ReLU())
            self.add_end = nn.Sequential(nn.Conv2d(c, 3, 3, padding=1), nn.Tanh())

        def forward(self, image):
            x = F.leaky_relu(self.conv1(image), 0.2)
            return self.mul_end(self.mul_blocks(x) + x), self.add_end(self.add_blocks(x) + x)

    class Queries(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.q = nn.Parameter(torch.ones(1, 10, c))
            self.k, self.v = nn.Linear(c, c, bias=False), nn.Linear(c, c, bias=False)
            self.proj = nn.Linear(c, c)

        def forward(self, x):
            def split(x):  # [b, heads, tokens, channels of a head]
                return x.unflatten(-1, (4, -1)).transpose(1, 2)

            query = split(self.q.expand(len(x), -1, -1))
            mixed = F.scaled_dot_product_attention(query, split(self.k(x)), split(self.v(x)))
            return self.proj(mixed.transpose(1, 2).flatten(2))

    class Generator(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.pos_embed = nn.Conv2d(c, c, 3, padding=1, groups=c)
            self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
            self.attn, self.mlp = Queries(c), MLP(c, nn.Linear)

        def forward(self, x):
            x = x + self.pos_embed(x)
            x = self.attn(self.norm1(x.flatten(2).transpose(1, 2)))
            return x + self.mlp(self.norm2(x))

    class Embedding(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.proj = nn.Sequential(
                nn.Conv2d(3, c // 2, 3, stride=2, padding=1),
                nn.BatchNorm2d(c // 2),
                nn.GELU(),
                nn.Conv2d(c // 2, c, 3, stride=2, padding=1),
                nn.BatchNorm2d(c),
            )

    class GlobalNet(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.gamma_base = nn.Parameter(torch.ones(1))
            self.color_base = nn.Parameter(torch.eye(3))
            self.conv_large, self.generator = Embedding(c), Generator(c)
            self.gamma_linear, self.color_linear = nn.Linear(c, 1), nn.Linear(c, 1)

        def forward(self, image):
            x = self.generator(self.conv_large.proj(image))
            color = self.color_linear(x[:, 1:]).reshape(-1, 3, 3) + self.color_base
            return self.gamma_linear(x[:, 0]) + self.gamma_base, color

    class IAT(nn.Module):
        def __init__(self, width, blocks, global_width):
            super().__init__()
            self.local_net, self.global_net = LocalNet(width, blocks), GlobalNet(global_width)

        def forward(self, image):
            factor, addend = self.local_net(image)
            gamma, color = self.global_net(image)
            x = torch.einsum("bihw,boi->bohw", image * factor + addend, color)
            return x.clamp(1e-8, 1) ** gamma[..., None, None]

    def two_layers(c):
        return nn.Sequential(pointwise(c, c), nn.LeakyReLU(0.1), pointwise(c, c))

    class Frequency(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.fpre = pointwise(c, c)
            self.process1, self.process2 = two_layers(c), two_layers(c)

        def forward(self, x):
            spectrum = torch.fft.rfft2(self.fpre(x))
            parts = self.process1(spectrum.abs()), self.process2(spectrum.angle())
            return torch.fft.irfft2(torch.polar(*parts), s=x.shape[2:]) + x

    class Depthwise(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.dwc = nn.Conv2d(c, c, 3, padding=1, groups=c)

    class AmplitudeBlock(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.norm1, self.norm2 = ChannelNorm(c), ChannelNorm(c)
            self.conv1, self.conv3 = pointwise(c, 2 * c), pointwise(c, c)
            self.conv2 = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
            self.conv4, self.conv5 = pointwise(c, 2 * c), pointwise(c, c)
            self.fatt, self.sge = Frequency(c), Depthwise(c)
            self.beta = nn.Parameter(torch.zeros(1, c, 1, 1))
            self.gamma = nn.Parameter(torch.zeros(1, c, 1, 1))

        def forward(self, x):
            first, second = self.conv2(self.conv1(self.norm1(x))).chunk(2, dim=1)
            x = self.conv3(self.fatt(self.sge.dwc(first) * second))
            x = x + x * self.beta
            return x + self.gamma * self.conv5(gate(self.conv4(self.norm2(x))))

    class AmplitudeNet(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv_init, self.conv_out = pointwise(3, c), pointwise(c, 3)
            self.conv1, self.conv2, self.conv3 = (AmplitudeBlock(c) for _ in range(3))

        def forward(self, x):
            x = self.conv_init(F.interpolate(x, scale_factor=0.5, mode="bilinear"))
            x = self.conv_out(self.conv3(self.conv2(self.conv1(x))))
            return F.interpolate(x, scale_factor=2, mode="bilinear")

    class Residual(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.conv1 = nn.Conv2d(c, c, 3, padding=1)
            self.conv2 = nn.Conv2d(c, c, 3, padding=1)

        def forward(self, x):
            return x + self.conv2(F.relu(self.conv1(x)))

    class Process(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.frequency_process, self.cat = Frequency(c), pointwise(c, c)

        def forward(self, x):
            return x + self.cat(self.frequency_process(x))

    class FLOL(nn.Module):
        def __init__(self, width, amplitude_width, frequency_blocks, spatial_blocks):
            super().__init__()
            c = width
            self.AmpNet = nn.Sequential(AmplitudeNet(amplitude_width), nn.Sigmoid())
            self.conv_first_1 = nn.Conv2d(6, c, 3, padding=1)
            self.conv_first_2 = nn.Conv2d(c, c, 3, stride=2, padding=1)
            self.conv_first_3 = nn.Conv2d(c, c, 3, stride=2, padding=1)
            self.feature_extraction = nn.Sequential(Residual(c))
            self.recon_trunk = nn.Sequential(Residual(c))
            self.upconv1 = nn.Conv2d(2 * c, 4 * c, 3, padding=1)
            self.upconv2 = nn.Conv2d(2 * c, 4 * c, 3, padding=1)
            self.HRconv = nn.Conv2d(2 * c, c, 3, padding=1)
            self.conv_last = nn.Conv2d(c, 3, 3, padding=1)
            self.transformer = nn.Module()
            self.transformer.block = nn.Sequential(*(Process(c) for _ in range(frequency_blocks)))
            self.recon_trunk_light = nn.Sequential(*(Residual(c) for _ in range(spatial_blocks)))

        def clear(self, image):
            taps = torch.exp(-0.5 * (torch.arange(-2, 3, dtype=image.dtype) / 1.5) ** 2)
            kernel = torch.outer(taps, taps)[None, None] / taps.sum() ** 2
            padded = F.pad(image, (2, 2, 2, 2), "reflect").flatten(0, 1)[:, None]
            smooth = F.conv2d(padded, kernel).reshape(image.shape)
            weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype)
            luma, light = (torch.einsum("bchw,c->bhw", x, weights) for x in (image, smooth))
            ratio = light / ((luma - light).abs() + 0.0001)
            return (ratio / (ratio.amax((1, 2), keepdim=True) + 0.0001)).clamp(0, 1)[:, None]

        def forward(self, image):
            bright = torch.fft.ifft2(torch.fft.fft2(image) / (self.AmpNet(image) + 1e-8)).real
            extend = 0, -image.shape[3] % 8, 0, -image.shape[2] % 8
            padded, bright = (F.pad(x, extend, "reflect") for x in (image, bright))
            leaky = nn.LeakyReLU(0.1)
            x1 = leaky(self.conv_first_1(torch.cat([bright, padded], 1)))
            x2 = leaky(self.conv_first_2(x1))
            x3 = leaky(self.conv_first_3(x2))
            x = self.feature_extraction(x3)
            clear = F.interpolate(self.clear(bright), size=x.shape[2:], mode="nearest")
            far, near = x + self.transformer.block(x), self.recon_trunk_light(x)
            x = torch.cat([self.recon_trunk(far * (1 - clear) + near * clear), x3], 1)
            x = torch.cat([leaky(F.pixel_shuffle(self.upconv1(x), 2)), x2], 1)
            x = torch.cat([leaky(F.pixel_shuffle(self.upconv2(x), 2)), x1], 1)
            x = padded + self.conv_last(leaky(self.HRconv(x)))
            return x[:, :, : image.shape[2], : image.shape[3]]

    kinds = {
        "flol": FLOL,
        "iat": IAT,
        "nafnet": NAFNet,
        "retinexformer": Retinexformer,
        "zero_dce": ZeroDCE,
    }
    return {name: kinds[name](**sizes) for name, sizes in SIZES.items()} | {
        "tiny": ZeroDCE(width=2, iterations=1)
    }


def main() -> None:
    import torch

    torch.set_num_threads(1)
    recorded = {"torch": torch.__version__, "numpy": np.__version__, "networks": {}}
    for name, module in modules().items():
        shapes = {key: list(tensor.shape) for key, tensor in module.state_dict().items()}
        state = {key: torch.from_numpy(value) for key, value in weights(shapes).items()}
        if name == "tiny":
            module.load_state_dict(state)
            state = module.half().state_dict()
            torch.save(state, TINY)
            # a transposed view and a Parameter, as files of training programs have them
            state = {f"module.{key}": torch.nn.Parameter(value) for key, value in state.items()}
            first = state["module.e_conv1.weight"]
            turned = first.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
            state["module.e_conv1.weight"] = turned
            contents = {"params": state, "epoch": 7, "loss": 0.25, "best": [1, None, True]}
            torch.save(contents, TINY_LEGACY, _use_new_zipfile_serialization=False)
            continue
        module.load_state_dict(state)
        with torch.no_grad():
            output = module.double().eval()(torch.from_numpy(image()).double().movedim(-1, 1))
        recorded["networks"][name] = {
            "sizes": SIZES[name],
            "shapes": shapes,
            "output": [round(float(x), 6) for x in output.movedim(1, -1).flatten()],
        }
    PATH.write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    main()
