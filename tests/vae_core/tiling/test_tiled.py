"""By tiles == at once, for every tile, shape and batch; progress, cancelling, NaN."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_vae_lora.vae_core.config import VAEConfig
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.tiling import tiled

ROUNDING = 1e-5  # of the range: fp32 sums and means in another order, through some thirty layers


@torch.no_grad()
def network(config, dtype=torch.float32):
    """Every number random, so that no tensor can hide behind ones or zeros."""
    torch.manual_seed(0)
    vae = AutoencoderKL(config, dtype=dtype).eval()
    for parameter in vae.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return vae


NETWORKS = [
    network(VAEConfig(32, (1, 2, 2), 1, 4, True)),
    network(VAEConfig(32, (3, 2, 3), 2, 16, False)),
    network(VAEConfig(64, (1,), 1, 4, True)),
    network(VAEConfig(32, (1, 2, 1, 2), 1, 4, True, decoder_channels=64)),
]
SIDES, TILES = st.integers(2, 24), st.integers(1, 24)


def assert_same(got, wanted, tolerance=ROUNDING):
    reach = max(1.0, (wanted.max() - wanted.min()).item())
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * reach)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NETWORKS), st.tuples(SIDES, SIDES), st.tuples(TILES, TILES), st.integers(1, 2))
def test_decoding_by_tiles_is_decoding_at_once(vae, size, tile, batch):
    z = torch.randn(batch, vae.config.latent, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert_same(tiled.decode(vae, z, tile), vae.decode(z))


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(NETWORKS), st.tuples(SIDES, SIDES), st.tuples(TILES, TILES), st.integers(1, 2))
def test_encoding_by_tiles_is_encoding_at_once(vae, size, tile, batch):
    shape = [side * vae.config.factor for side in size]
    pixels = torch.randn(batch, 3, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        got, wanted = tiled.encode(vae, pixels, tile), vae.encoding(pixels)
    assert_same(got.mean, wanted.mean)
    assert_same(got.logvar, wanted.logvar)


@torch.no_grad()
def test_a_single_cell_is_as_near_to_float64_by_tiles_as_at_once():
    """Its groups have two values: the untiled result itself is 4e-5 off."""
    vae, z = NETWORKS[0], torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    wide = network(vae.config, torch.float64)
    wide.load_state_dict(vae.state_dict())
    assert_same(tiled.decode(vae, z, (1, 1)).double(), wide.decode(z.double()), 1e-4)


@torch.no_grad()
def test_in_double_precision_the_difference_is_rounding_too():
    vae = network(VAEConfig(32, (1, 2, 2), 1, 4, True), torch.float64)
    z = torch.randn(1, 4, 17, 9, dtype=torch.float64)
    assert_same(tiled.decode(vae, z, (5, 4)), vae.decode(z), 1e-11)


@torch.no_grad()
def test_in_half_precision_the_difference_is_that_precisions_own():
    vae = NETWORKS[0]
    half = network(vae.config, torch.bfloat16)
    half.load_state_dict(vae.state_dict())
    z = torch.randn(1, 4, 17, 9)
    exact, once = vae.decode(z), half.decode(z.bfloat16()).float()
    by_tiles = tiled.decode(half, z.bfloat16(), (5, 4)).float()
    assert (by_tiles - exact).abs().mean() < 1.2 * (once - exact).abs().mean()


@pytest.mark.parametrize("way, shape", [("decode", (2, 4, 9, 7)), ("encode", (2, 3, 36, 28))])
def test_progress_counts_every_tile_up_to_the_total(way, shape):
    steps = []
    getattr(tiled, way)(NETWORKS[0], torch.randn(shape), (4, 3), on_step=lambda *step: steps.append(step))
    assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
    assert {total for _, total in steps} == {len(steps)}


@pytest.mark.parametrize("way, shape", [("decode", (1, 4, 9, 7)), ("encode", (1, 3, 36, 28))])
def test_what_progress_raises_comes_through_after_that_tile(way, shape):
    class Cancelled(Exception):
        pass

    steps = []

    def cancel(done, total):
        steps.append(done)
        if done == 5:
            raise Cancelled

    with pytest.raises(Cancelled):
        getattr(tiled, way)(NETWORKS[0], torch.randn(shape), (4, 3), on_step=cancel)
    assert steps == [1, 2, 3, 4, 5]


def test_nan_is_not_hidden():
    z = torch.randn(1, 4, 9, 7)
    z[0, 0, 4, 4] = torch.nan
    assert tiled.decode(NETWORKS[0], z, (4, 3)).isnan().all()  # the statistics are everybody's: as untiled
    assert NETWORKS[0].decode(z).isnan().all()


def test_the_input_is_left_alone_and_the_result_carries_no_graph():
    z = torch.randn(1, 4, 9, 7)
    before = z.clone()
    tiled.decode(NETWORKS[2], z, (4, 3)).zero_()
    assert torch.equal(z, before)
    assert not tiled.decode(NETWORKS[2], z, (4, 3)).requires_grad


@torch.no_grad()
def test_patched_weights_are_seen_as_the_hosts_layers_cast_them():
    class Conv2d(torch.nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight * 1.1, self.bias)

    class GroupNorm(torch.nn.GroupNorm):
        def forward(self, x):
            return torch.nn.functional.group_norm(x, self.num_groups, self.weight * 0.9, self.bias + 0.1, self.eps)

    torch.manual_seed(0)
    operations = type("Operations", (), {"Conv2d": Conv2d, "GroupNorm": GroupNorm})
    vae = AutoencoderKL(VAEConfig(32, (1, 2), 1, 4, True), operations).eval()
    z = torch.randn(1, 4, 9, 7)
    assert_same(tiled.decode(vae, z, (4, 3)), vae.decode(z))


def test_what_the_network_refuses_is_refused():
    with pytest.raises(ValueError, match="this latent has 16 channels, this VAE wants 4"):
        tiled.decode(NETWORKS[0], torch.zeros(1, 16, 8, 8), (16, 16))
    with pytest.raises(ValueError, match="multiples of 4 px"):
        tiled.encode(NETWORKS[0], torch.zeros(1, 3, 9, 8), (16, 16))
    with pytest.raises(ValueError, match="at least one cell"):
        tiled.decode(NETWORKS[0], torch.zeros(1, 4, 8, 8), (0, 16))
