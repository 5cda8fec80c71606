import jax
import jax.numpy as jnp
import ml_collections
import pytest
from flax import nnx

from lle_jax.experiments import retinexformer
from lle_jax.models import cost, layers


def macs(function, *shapes):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return cost.macs(jax.make_jaxpr(function)(*arrays).jaxpr)


def convolve(x, kernel, **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return jax.lax.conv_general_dilated(
        x, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


IMAGE, KERNEL = (2, 10, 12, 6), (3, 3, 6, 8)


@pytest.mark.parametrize(
    ("options", "kernel", "expected"),
    [
        ({}, KERNEL, 2 * 10 * 12 * 8 * 3 * 3 * 6),
        ({"window_strides": (2, 2)}, KERNEL, 2 * 5 * 6 * 8 * 3 * 3 * 6),
        ({"feature_group_count": 3}, (3, 3, 2, 9), 2 * 10 * 12 * 9 * 3 * 3 * 2),
        # transposed, of stride 2: every input pixel is multiplied by every weight, once
        (
            {"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))},
            (2, 2, 6, 8),
            2 * 10 * 12 * 8 * 2 * 2 * 6,
        ),
    ],
)
def test_a_convolution_counted_by_hand(options, kernel, expected):
    assert macs(lambda x, k: convolve(x, k, **options), IMAGE, kernel) == expected


def test_matrix_products_counted_by_hand():
    assert macs(lambda x, w: x @ w, (5, 7, 6), (6, 4)) == 5 * 7 * 6 * 4
    batched = macs(lambda a, b: jnp.einsum("bhid,bhjd->bhij", a, b), (2, 3, 5, 4), (2, 3, 7, 4))
    assert batched == 2 * 3 * 5 * 7 * 4


def test_what_is_inside_other_functions_is_counted():
    def loop(x, w):
        return jax.lax.scan(lambda carry, _: (jax.jit(jnp.dot)(carry, w), None), x, length=11)[0]

    assert macs(jax.checkpoint(loop), (4, 4), (4, 4)) == 11 * 4**3

    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, g: (g, g))
    assert macs(product, (4, 4), (4, 4)) == 4**3


def test_a_loop_of_unknown_length_is_refused():
    def loop(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    with pytest.raises(ValueError, match="a loop of unknown length"):
        macs(loop, (4, 4))


def test_a_depthwise_convolution_counts_as_its_definition():
    assert macs(layers.depthwise, (1, 10, 12, 6), (3, 3, 1, 6)) == 10 * 12 * 6 * 9


def test_nafnet_counted_by_hand():
    config = ml_collections.ConfigDict(
        {"name": "nafnet", "dtype": "float32", "width": 4, "encoder": (1,), "middle": 1,
         "decoder": (1,)}
    )  # fmt: skip

    def block(c, pixels):
        per_pixel = c * 2 * c + 9 * 2 * c + c * c + c * 2 * c + c * c
        return pixels * per_pixel + c * c  # the channel attention sees one vector

    expected = 16 * 24 * 9 * (3 * 4 + 4 * 3)  # first and last convolution
    expected += 2 * block(4, 16 * 24) + block(8, 8 * 12)
    expected += 8 * 12 * (4 * 4 * 8 + 8 * 16)  # down and up
    weights = 9 * 3 * 4 + 4 + 9 * 4 * 3 + 3 + 4 * 4 * 8 + 8 + 8 * 16
    # per block: two norms, five linear maps with bias, the depthwise one, beta and gamma
    for c in (4, 4, 8):
        weights += 4 * c + (2 * c * c + 2 * c) * 2 + 3 * (c * c + c) + (9 * 2 * c + 2 * c) + 2 * c
    assert cost.cost(config, 16, 24) == (weights, expected)
    # an odd height is padded to the next multiple of 2
    assert cost.cost(config, 15, 24).macs == expected


def test_retinexformer_equals_its_publication(monkeypatch):
    """1.61 M parameters and 15.57 G; there G is 2^30 and a normalised value counts as 5."""
    normalised = []
    original = nnx.LayerNorm.__call__

    def counted(self, x, **options):
        normalised.append(x.size)
        return original(self, x, **options)

    monkeypatch.setattr(nnx.LayerNorm, "__call__", counted)
    parameters, count = cost.cost(retinexformer.get_config().model, 256, 256)
    assert round(parameters / 1e6, 2) == 1.61
    assert round((count + 5 * sum(normalised)) / 2**30, 2) == 15.57
    assert count == 16_656_629_760


def test_seconds_per_image_grow_with_the_image():
    config = ml_collections.ConfigDict(
        {"name": "unet", "dtype": "float32", "widths": (8, 8), "blocks": 1}
    )
    small, large = (cost.seconds_per_image(config, side, side, repeats=3) for side in (16, 256))
    assert 0 < small < large


def test_a_wrong_configuration_is_named():
    with pytest.raises(ValueError, match=r"model\.name is 'unett'"):
        cost.cost(ml_collections.ConfigDict({"name": "unett", "dtype": "float32"}), 16, 16)
