"""A VAE network of this test's own, by one class, one function that finds it, and one row.

A picture's 2 x 2 pixels are folded into a cell and mixed by a 1x1 convolution; the way back is a 3x3 convolution at the
picture's size, so that tiles need the rows and columns round them.
"""

import json
from dataclasses import dataclass

import pytest
import torch
from torch.nn import functional

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.vae_core.checkpoint.find import LayoutError, find_vae
from clip_vae_lora.vae_core.config import Values, fold, unfold
from clip_vae_lora.vae_core.layers import Layers
from clip_vae_lora.vae_core.networks.source import VAESource, check_tensors
from clip_vae_lora.vae_core.networks.table import NETWORKS, Row
from clip_vae_lora.vae_core.tiling import plans, tiled
from clip_vae_lora.vae_core.tiling.card_plans import Limit, card_plan
from clip_vae_lora.vae_core.tiling.network import VAENetwork
from clip_vae_lora.vae_core.tiling.sweeps import cut

ROUNDING = 5e-6


@dataclass(frozen=True)
class FoldedConfig:
    latent: int
    factor: int = 2
    image_channels: int = 3

    def widths_of(self, way):
        return (12, self.latent)

    def values(self, way, px):
        return Values(24.0 * px, 3.0 * px, 0.0, once_on_card=24.0 * px, largest=12.0 * px, scores=0)


class FoldedVAE(VAENetwork):
    kind, title = "folded", "folded autoencoder"
    steps = (torch.nn.Conv2d,)

    def __init__(self, config, operations=torch.nn, device=None, dtype=None, *, encoder=True, decoder=True):
        super().__init__(config)
        layers = Layers(operations, device, dtype)
        self.mix = layers.conv(12, config.latent, 1) if encoder else None
        self.draw = layers.conv(config.latent // 4, 3) if decoder else None

    def half_for(self, way):
        return self.mix if way == "encode" else self.draw

    def into_encoder(self, pixels):
        return fold(pixels, 2)

    def as_encoding(self, result):
        return result

    def into_decoder(self, latent):
        return unfold(latent, 2)

    def as_pixels(self, result):
        return torch.tanh(result)

    def encoder_shape(self, size):
        return self.config.latent, size[0] // 2, size[1] // 2

    def sweep_encode(self, sweeps, pixels, into):
        sweeps.sweep(pixels.size, 12, lambda tile: self.mix(pixels.read(tile)), into)

    def sweep_decode(self, sweeps, latent, into):
        def each(tile):
            wide = tile.widened(1, latent.size)
            return cut(self.draw(latent.read(wide)), tile, wide)

        sweeps.sweep(latent.size, 12, each, into)


def find_folded(inner, family):
    if "folded.mix.weight" not in inner:
        return None
    renames = {name: name.removeprefix("folded.") for name in inner if name.startswith("folded.")}
    config = FoldedConfig(inner["folded.mix.weight"][0])
    source = VAESource(FoldedVAE, config, "folded", renames)
    return check_tensors(source, {new: inner[old] for old, new in renames.items()}, inner)


@pytest.fixture
def folded(monkeypatch):
    """Its row is in the table; its tensors, as a file has them, are returned."""
    monkeypatch.setitem(NETWORKS, "folded", Row(find_folded, "a folded autoencoder"))
    monkeypatch.setattr(plans, "LIBRARY_BYTES", 0)
    torch.manual_seed(0)
    return {f"folded.{name}": tensor for name, tensor in FoldedVAE(FoldedConfig(8)).state_dict().items()}


@pytest.fixture
def network(folded):
    source = find_vae({name: tuple(tensor.shape) for name, tensor in folded.items()})
    built = source.build().eval()
    built.load_state_dict(source.translate(folded))
    return built


def test_it_is_found_in_a_checkpoint_and_what_it_does_not_know_is_refused(folded):
    shapes = {f"vae.{name}": tuple(tensor.shape) for name, tensor in folded.items()}
    source = find_vae(shapes)
    assert (source.kind, source.prefix, source.config) == ("folded", "vae.", FoldedConfig(8))
    with pytest.raises(LayoutError, match="the folded autoencoder it looks like"):
        find_vae({**shapes, "vae.folded.more.weight": (1, 1, 1, 1)})
    with pytest.raises(LayoutError, match="or a TAESD or a folded autoencoder"):
        find_vae({"quantize.embedding.weight": (16, 4)})


def test_its_tiles_give_what_it_gives_untiled(network):
    pixels = torch.rand(2, 3, 38, 52, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        latent = network.encode(pixels)
        assert latent.shape == (2, 8, 19, 26)
        assert (tiled.encode(network, pixels, (5, 7)) - latent).abs().max() <= ROUNDING
        assert (tiled.decode(network, latent, (5, 7)) - network.decode(latent)).abs().max() <= ROUNDING
        wanted = torch.tanh(functional.conv2d(unfold(latent, 2), network.draw.weight, network.draw.bias, padding=1))
        assert torch.equal(network.decode(latent), wanted)


def test_plans_are_made_of_the_values_it_states(folded):
    config, shape = FoldedConfig(8), (1, 8, 1000, 1000)
    untiled = plans.untiled_plan(config, shape, 4)
    assert untiled.needs_bytes == 4 * (24 + 3) * 4_000_000
    tiles = plans.largest_plan(config, shape, untiled.needs_bytes - 1, 4)
    assert tiles.tile is not None and tiles.needs_bytes < untiled.needs_bytes
    assert card_plan(config, shape, Limit(untiled.needs_bytes // 2, "half"), 4).tile is not None


def test_load_vae_makes_a_vae_of_it_that_the_other_nodes_take(folded, network, place):
    write_tensors(place.models / "vae" / "folded.safetensors", folded, {})
    shown = place.node("CVL_LoadVAE").load("folded.safetensors")
    vae, report = shown["result"]
    assert json.loads(report)["kind"] == "folded" and json.loads(report)["px_per_cell"] == 2
    assert "folded.safetensors: folded autoencoder" in shown["ui"]["text"][0]
    image = torch.rand(1, 30, 41, 3, generator=torch.Generator().manual_seed(2))
    latent = place.node("CVL_VAEEncode").encode(image, vae)["result"][0]
    with torch.no_grad():
        wanted = network.encode(image[:, :, :40].movedim(-1, 1) * 2 - 1)
        torch.testing.assert_close(latent["samples"][..., :20], wanted, rtol=0, atol=ROUNDING)
    assert place.node("CVL_VAEDecode").decode(latent, vae)["result"][0].shape == (1, 30, 41, 3)
    large = {"samples": torch.randn(1, 8, 300, 250, generator=torch.Generator().manual_seed(3))}
    whole = place.node("CVL_VAEDecode").decode(large, vae, "off")["result"][0]
    by_tiles, report = place.node("CVL_VAEDecode").decode(large, vae, "budget", 16)["result"]
    assert "tiles of" in json.loads(report)["plan"] and (whole - by_tiles).abs().max() <= ROUNDING
    with pytest.raises(ValueError, match="no distribution"):
        place.node("CVL_LatentDistribution").measure(image, vae)
