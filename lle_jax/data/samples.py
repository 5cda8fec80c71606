"""The real images that scikit-image and pydicom carry inside their packages.

One table says which image is for what. The three roles hold different images, and all images of
one patient have the same role: `examples_rgb_color` and `examples_jpeg2k` are of one patient, so
only the latter is used. The test images are all medical.

Sources and licences: scikit-image's `data/README.txt` and docstrings of `skimage.data`; pydicom's
`data/test_files/README.txt`.
"""

import functools
from pathlib import Path

import cv2
import numpy as np
import pydicom.data
import skimage.data

from lle_jax import images

# (package, name or "file:frame", modality, role)
SAMPLES = (
    ("skimage", "retina", "fundus", "test"),
    ("skimage", "microaneurysms", "fundus", "test"),
    ("pydicom", "J2K_pixelrep_mismatch.dcm", "CT", "test"),
    ("pydicom", "examples_overlay.dcm", "MR", "test"),
    ("pydicom", "examples_jpeg2k.dcm", "ultrasound", "test"),
    ("skimage", "cell", "microscopy", "validation"),
    ("pydicom", "CT_small.dcm", "CT", "validation"),
    ("skimage", "coffee", "photograph", "validation"),
    ("skimage", "cat", "photograph", "validation"),
    ("skimage", "immunohistochemistry", "microscopy", "train"),
    ("pydicom", "693_J2KI.dcm", "CT", "train"),
    ("pydicom", "examples_palette.dcm", "ultrasound", "train"),
    ("pydicom", "examples_ybr_color.dcm:0", "ultrasound", "train"),
    ("pydicom", "examples_ybr_color.dcm:15", "ultrasound", "train"),
    ("skimage", "astronaut", "photograph", "train"),
    ("skimage", "brick", "photograph", "train"),
    ("skimage", "camera", "photograph", "train"),
    ("skimage", "coins", "photograph", "train"),
    ("skimage", "grass", "photograph", "train"),
    ("skimage", "gravel", "photograph", "train"),
    ("skimage", "hubble_deep_field", "photograph", "train"),
    ("skimage", "moon", "photograph", "train"),
    ("skimage", "stereo_motorcycle", "photograph", "train"),
    ("skimage", "rocket", "photograph", "train"),
)

# Longer sides are reduced to this, which also removes the JPEG blocks of the larger photographs.
MAX_SIDE = 512


@functools.cache
def load(package: str, name: str) -> np.ndarray:
    """One sample as float32 `[H, W, C]` in [0, 1], read-only, at most `MAX_SIDE` on a side.

    Raises:
      images.ImageError: if the installed package does not hold the file.
    """
    if package == "skimage":
        image = getattr(skimage.data, name)()
        image = image[0] if isinstance(image, tuple) else image  # the left one of a stereo pair
        image = (image if image.ndim == 3 else image[..., None]).astype(np.float32) / 255
    else:
        file, _, frame = name.partition(":")
        path = Path(pydicom.data.__file__).parent / "test_files" / file
        image = images.read(path, int(frame) if frame else None).pixels
    if max(image.shape[:2]) > MAX_SIDE:
        scale = MAX_SIDE / max(image.shape[:2])
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        channels = image.shape[-1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], channels)
    image = np.ascontiguousarray(np.clip(image, 0, 1))
    image.setflags(write=False)
    return image
