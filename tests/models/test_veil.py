import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from lle_jax import colour, degrade, models
from lle_jax.experiments import base
from lle_jax.models import dual_path, grid, thumbnail_paths, veil
from lle_jax.models.params import named


def veiled(image, share, white=0.5):
    light = degrade.veiling_glare(colour.srgb_to_linear(image), share=share, white=white)
    return colour.linear_to_srgb(light)


def darkest(image):
    return jnp.min(colour.srgb_to_linear(image), axis=(1, 2), keepdims=True)


@pytest.fixture(scope="module")
def scene(photographs):
    """Photographs with a black patch, over which there is nothing but the veil."""
    scene = photographs.copy()
    scene[:, :16, :16] = 0
    return jnp.asarray(scene)


@pytest.mark.parametrize("white", [0.0, 1.0])
def test_what_glare_did_is_undone_by_the_light_of_the_darkest_part(scene, white):
    image = veiled(scene, 0.6, white)
    share = np.full((len(scene), 1, 1, 1), 0.6, np.float32)
    np.testing.assert_allclose(veil.lift(image, veil.Veil(darkest(image), share)), scene, atol=2e-3)
    assert np.abs(image - scene).max() > 0.5


def test_the_share_is_measured_on_the_thumbnail(scene):
    image = veiled(scene, 0.6)
    cells = grid.cell_means(image)
    found = veil.measure(darkest(cells[..., :3]), cells)
    # a cell's mean display value is a little less than that of its mean light
    np.testing.assert_allclose(found.share, 0.6, atol=0.02)


def test_the_thumbnail_loses_its_veil_and_its_noise_changes_as_the_slope_of_that():
    smooth = np.linspace(0, 0.6, 256, dtype=np.float32)
    scene = np.broadcast_to(smooth[None, :, None, None], (1, 256, 256, 3)).copy()
    image = veiled(scene, 0.5)
    found = veil.Veil(darkest(image), jnp.full((1, 1, 1, 1), 0.5))
    noise = 1e-3 * np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    lifted = veil.lift_cells(grid.cell_means(image + noise), found)
    again = grid.cell_means(veil.lift(image + noise, found))
    inner = np.s_[:, 6:-1]  # well above black, where the noise is cut off and the slope changes
    np.testing.assert_allclose(lifted[inner][..., :3], again[inner][..., :3], atol=2e-3)
    np.testing.assert_allclose(lifted[inner][..., 3:], again[inner][..., 3:], rtol=0.05)
    assert (lifted[inner][..., 3:] > 1.2 * grid.cell_means(image + noise)[inner][..., 3:]).all()


def test_a_small_veil_is_left_and_a_large_one_is_not_without_a_cliff_between():
    shares = np.linspace(0, 0.9, 181, dtype=np.float32).reshape(-1, 1, 1, 1)
    kept = veil.certain(veil.Veil(np.repeat(shares, 3, axis=-1), shares))
    np.testing.assert_array_equal(kept.light[..., :1], kept.share)
    assert (kept.share[shares <= veil.LEFT] == 0).all()
    over = shares >= veil.TAKEN
    np.testing.assert_allclose(kept.share[over], shares[over], rtol=1e-6)
    assert 0 <= np.diff(kept.share.ravel()).min() <= np.diff(kept.share.ravel()).max() < 0.025


def config(**changes):
    small = {"widths": (4, 6), "blocks": (1, 1), "glare_path": True}
    return ml_collections.ConfigDict(base.network("dual_path").to_dict() | small | changes)


@pytest.fixture(scope="module")
def params():
    """Random parameters; the glare path sees nothing but veil in the darkest cell."""
    rng = np.random.default_rng(0)
    params = models.build(config(), jax.random.key(0))[1]

    def leaf(name, value):
        if name == f"{thumbnail_paths.GLARE}output.bias":
            return np.full(value.shape, 12, np.float32)
        if name.startswith(thumbnail_paths.GLARE):
            return value
        spread = 0.3 if value.ndim == 1 else 0.03
        return value + rng.normal(0, spread, value.shape).astype(np.float32)

    leaves = [leaf(name, value) for name, value in named(params)]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def without_path(params):
    leaves = [leaf for name, leaf in named(params) if not name.startswith(thumbnail_paths.GLARE)]
    shapes = models.shapes(config(glare_path=False))
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def test_a_network_takes_the_veil_off_before_all_else(params, scene):
    image = veiled(scene, 0.6)
    steps, plain = (models.tiled(config(glare_path=on)) for on in (True, False))
    context = jax.jit(steps.compute_context)(params, image)
    np.testing.assert_allclose(context.veil.share, 0.6, atol=0.03)
    found = jax.jit(steps.restore)(params, image, context)

    others = without_path(params)
    cells = veil.lift_cells(grid.cell_means(image), context.veil)
    expected = jax.jit(plain.finish_context)(others, cells, np.zeros((2, 1, 1, 1), bool))
    lifted = veil.lift(image, context.veil)
    np.testing.assert_allclose(found, jax.jit(plain.restore)(others, lifted, expected), atol=1e-3)
    assert np.abs(found - models.forward(config(glare_path=False))(others, image)).max() > 0.1


def test_where_there_is_no_veil_nothing_changes_bit_for_bit(params, scene):
    apply, plain = (jax.jit(models.forward(config(glare_path=on))) for on in (True, False))
    np.testing.assert_array_equal(apply(params, scene), plain(without_path(params), scene))
    untrained = models.build(config(), jax.random.key(0))[1]
    context = models.tiled(config()).compute_context(untrained, veiled(scene, 0.6))
    assert (context.veil.share == 0).all()


def test_a_grey_image_stays_grey(params, scene):
    grey = veiled(jnp.repeat(scene[..., :1], 3, axis=-1), 0.6)
    grey = jnp.repeat(grey[..., :1], 3, axis=-1)
    rng = np.random.default_rng(1)
    leaves = [
        rng.normal(0, 0.3, leaf.shape).astype(np.float32)
        if name == f"{thumbnail_paths.GLARE}output.kernel"
        else leaf
        for name, leaf in named(params)
    ]
    params = jax.tree.unflatten(jax.tree.structure(params), leaves)
    context = models.tiled(config()).compute_context(params, grey)
    assert (context.veil.share > 0.1).all()
    assert np.ptp(context.veil.light, axis=-1).max() == 0
    assert np.ptp(models.forward(config())(params, grey), axis=-1).max() == 0


def test_a_tile_is_the_whole_images(params, scene):
    image = jnp.concatenate(list(veiled(scene, 0.6)), axis=1)[None]
    steps = models.tiled(config())
    context = steps.compute_context(params, image)
    tile = steps.restore(params, image[:, :, 64:], context, (0, 64), (64, 128))
    whole = models.forward(config())(params, image)
    inner = np.s_[:, :, steps.reach :]
    np.testing.assert_allclose(tile[inner], whole[:, :, 64:][inner], atol=1e-5)


def test_no_orientation_changes_the_veil(params, scene):
    path = models.bind(config())(params).glare
    cells = grid.cell_means(veiled(scene, 0.6))
    whole = path(cells)
    for number in range(thumbnail_paths.TURNS):
        np.testing.assert_allclose(path(thumbnail_paths.turn(cells, number)), whole, rtol=1e-5)


def test_time_is_spent_on_veils_alone(params, scene):
    """By the program: what lifts a veil stands in a branch."""
    context = models.tiled(config()).compute_context(params, scene)
    program = str(jax.make_jaxpr(dual_path.unveiled)(scene, context))
    assert "cond[" in program
