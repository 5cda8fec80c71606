"""Where a medical image shows something: its field of view."""

import jax

from lle_jax.metrics import filters

# Chosen on the 20 training and validation photographs of DRIVE, whose field of view is published:
# beyond it luma is 0.03, and of what is within, 1 % is below 0.14. All that is within counts, and
# of what is not, 7 %, which is the blurred rim; with 10 pixels and 0.03 it was 43 %.
SIGMA = 3.4  # pixels; wider than a vessel or a small lesion, so that none is a hole
BLACK = 0.05  # luma; 13 levels of 255


def field_of_view(luma: jax.Array) -> jax.Array:
    """Tells where an image is not black, but for a few dark pixels.

    Cameras and scanners surround what they show with black, which is not exactly 0: noise, JPEG and
    stray light leave contrast in it that nobody sees, and that is no lesion.

    Args:
      luma: of a well-lit image, `[..., H, W, 1]` in [0, 1].

    Returns:
      bool `[..., H, W]`, where luma, smoothed by a Gaussian, is above `BLACK`.
    """
    return filters.gaussian_derivative(luma, SIGMA)[..., 0] > BLACK
