"""Degradations that no preset of lle_jax has: NumPy, SciPy and Pillow, nothing of the project.

Each takes a generator and an image `[H, W, C]` in [0, 1] (sRGB, C 1 or 3) and returns another of 8
bits; grey images stay grey, except under a tint, where they get three channels.
"""

import io

import numpy as np
import scipy.ndimage
from PIL import Image


def decode(image):
    """sRGB to linear light, IEC 61966-2-1."""
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def encode(light):
    """Linear light to sRGB."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def rounded(image):
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def exposed(rng, light, electrons, read=1.5):
    """What a sensor of a full well of `electrons` counts, read noise in electrons, 12 bits."""
    counted = rng.poisson(np.clip(light, 0, 1) * electrons) + read * rng.standard_normal(
        light.shape
    )
    return np.rint(np.clip(counted / electrons, 0, 1) * 4095) / 4095


def photon(rng, image, light=0.1, electrons=1500):
    """Few photons."""
    return rounded(encode(exposed(rng, light * decode(image), electrons)))


def off_centre(rng, image, light=0.4, electrons=2500):
    """A lamp beside the lens: a Gaussian spot around a point of one quarter of the image."""
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in image.shape[:2]), indexing="ij")
    y, x = rng.choice([-1, 1], 2) * rng.uniform(0.3, 0.6, 2)
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 0.9**2))
    field = light * (0.12 + 0.88 * spot)[..., None]
    return rounded(encode(exposed(rng, field * decode(image), electrons)))


def correlated(rng, image, light=0.15, sigma=0.02, length=0.8, quality=75):
    """Grains larger than a pixel, most of them without colour, and JPEG."""
    shape = image.shape[:2]

    def grain():
        noise = scipy.ndimage.gaussian_filter(rng.standard_normal(shape), length)
        return noise / noise.std()

    noise = np.sqrt(0.75) * grain()[..., None]
    if image.shape[-1] == 3:
        noise = noise + np.sqrt(0.25) * np.stack([grain() for _ in range(3)], axis=-1)
    noisy = encode(light * decode(image)) + sigma * noise
    return jpeg(noisy, quality)


def jpeg(image, quality):
    """Written and read by libjpeg, chroma subsampled."""
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(
        file, "JPEG", quality=quality
    )
    read = np.asarray(Image.open(file), np.float32) / 255
    return read.reshape(image.shape)


def tint(rng, image, light=0.3, red=1.25, blue=0.75, electrons=3000):
    """A coloured lamp, of grey pictures too."""
    colour = np.broadcast_to(decode(image), (*image.shape[:2], 3)) * np.array([red, 1, blue])
    return rounded(encode(exposed(rng, light * colour, electrons)))


def dim(rng, image):
    """1.5 % of the light on a good sensor."""
    return photon(rng, image, light=0.015, electrons=8000)


def half(rng, image):
    """Half the light."""
    return photon(rng, image, light=0.5, electrons=4000)


def mild(rng, image, sigma=0.01):
    """Good light, a little noise."""
    return rounded(image + sigma * rng.standard_normal(image.shape))


def coarse(rng, image):
    """Good light, and the noise of a camera that is set to see in the dark."""
    return correlated(rng, image, light=1.0, sigma=0.04, quality=90)


def grain(rng, image):
    """Little light, and very coarse noise."""
    return dark(rng, image, (0.03, 0.06), 0.7, 0.08, 70)


def impulses(rng, image):
    """Little light on a worn sensor: one pixel of twenty is dead or hot."""
    low = encode(rng.uniform(0.1, 0.2) * decode(image)) + 0.005 * rng.standard_normal(image.shape)
    hit = rng.random(image.shape[:2])[..., None]
    return rounded(np.where(hit < 0.025, 0, np.where(hit > 0.975, 1, low)))


def veil(rng, image):
    """Little light, and as much again in a bluish veil, as of a cataract or of smoke."""
    light = rng.uniform(0.1, 0.2) * decode(image)
    colour = np.array([0.9, 1, 1.1]) if image.shape[-1] == 3 else 1
    stray = rng.uniform(0.5, 1.5) * light.mean() * colour
    return rounded(encode(exposed(rng, light + stray, 3000)))


def steep(rng, image):
    """All the light, and a tone curve that takes it: a gamma of 2.5 to 3.5."""
    return rounded(image ** rng.uniform(2.5, 3.5) + 0.01 * rng.standard_normal(image.shape))


def narrow(rng, image):
    """Display values of a fifth, as in a window that is too wide, and noise."""
    return rounded(rng.uniform(0.15, 0.25) * image + 0.01 * rng.standard_normal(image.shape))


def lamp(rng, image):
    """A tenth of the light, of a warm lamp, of grey subjects too."""
    gains = np.array([rng.uniform(1.4, 1.7), 1, rng.uniform(0.4, 0.55)])
    colour = np.broadcast_to(decode(image), (*image.shape[:2], 3)) * gains
    return rounded(encode(exposed(rng, 0.1 * colour, 3000)))


def phone(rng, image):
    """A fifth of the light, of a warm lamp, on a phone of a hard tone curve that writes JPEG."""
    low = lit(rng, image, (0.15, 0.25), (1.3, 1.6), (0.5, 0.65))
    return jpeg(low ** rng.uniform(1.4, 1.8), 80)


def candle(rng, image):
    """A fifth of the light, of a flame, which has hardly any blue, and JPEG."""
    return jpeg(lit(rng, image, (0.15, 0.25), (1.5, 1.8), (0.25, 0.4)), 85)


def shade(rng, image):
    """Half the light, of the blue sky, and a hard tone curve."""
    low = lit(rng, image, (0.4, 0.6), (0.55, 0.7), (1.3, 1.5))
    return rounded(low ** rng.uniform(1.8, 2.4))


def lit(rng, image, light, red, blue):
    """Light within a range, of a lamp of that much red and blue, of grey subjects too."""
    gains = np.array([rng.uniform(*red), 1, rng.uniform(*blue)])
    colour = np.broadcast_to(decode(image), (*image.shape[:2], 3)) * gains
    return encode(exposed(rng, rng.uniform(*light) * colour, 2500))


def defocus(rng, image):
    """Little light, out of focus."""
    return dark(rng, image, (0.1, 0.2), 2.0, 0.02, 85)


def blocks(rng, image):
    """Little light, written as a small JPEG."""
    return dark(rng, image, (0.02, 0.05), 0.5, 0.02, 12)


def night(rng, image):
    """Hardly any light: blurred, noisy, and written as a small JPEG."""
    return dark(rng, image, (0.01, 0.02), 1.0, 0.04, 60)


def dark(rng, image, light, blur, noise, quality):
    """Light within a range, defocus (pixels), noise of the display values, JPEG."""
    blurred = scipy.ndimage.gaussian_filter(rng.uniform(*light) * decode(image), blur, axes=(0, 1))
    return jpeg(encode(blurred) + noise * rng.standard_normal(image.shape), quality)


UNSEEN = {"photon": photon, "off_centre": off_centre, "correlated": correlated, "tint": tint}
OTHERS = {"dim": dim, "half": half, "mild": mild}
# of clinics to which a model is adapted (benchmarks/adaptation.py)
CLINICS = {
    "grain": grain,
    "night": night,
    "impulses": impulses,
    "veil": veil,
    "steep": steep,
    "lamp": lamp,
    "phone": phone,
    "candle": candle,
    "shade": shade,
    "narrow": narrow,
    "defocus": defocus,
    "blocks": blocks,
}
