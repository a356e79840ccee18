"""Text and image encoders on a card that is not there: loaded in part, and with tables that it cannot index."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig
from clip_vae_lora.clip_core.encoding.encode import Runner
from clip_vae_lora.clip_core.encoding.rows import Row
from clip_vae_lora.clip_core.families import FAMILIES
from clip_vae_lora.clip_core.features.texts import text_features
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.layers import look_up
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.clip_core.prompts.chunks import Token, empty_chunk
from clip_vae_lora.clip_core.tokenizer import END, Tokenizer
from clip_vae_lora.nodes.host.shared.towers import Towers

from ..support.cards.card import DeviceMismatch, card
from ..support.cards.pretended_card import pretend_cuda

TEXT = TextConfig(64, 2, 1, 256, 32, activation="quick_gelu")
NEAR = 1e-5  # attention on a card is another kernel than the CPU's three steps
TABLE_BYTES = 49408 * 64 * 4


class Linear(nn.Linear):
    def forward(self, x):
        bias = None if self.bias is None else self.bias.to(x)
        return nn.functional.linear(x, self.weight.to(x), bias)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return nn.functional.layer_norm(x, self.normalized_shape, self.weight.to(x), self.bias.to(x), self.eps)


class Embedding(nn.Embedding):
    def forward(self, ids, out_dtype=None):
        return nn.functional.embedding(ids, self.weight.to(ids.device, out_dtype))


class Conv2d(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight.to(x), None)


CASTING = SimpleNamespace(Linear=Linear, LayerNorm=LayerNorm, Embedding=Embedding, Conv2d=Conv2d)  # as a host's


def filled(network: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            centre = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.05 + centre)
    return network.requires_grad_(False).eval()


def in_part(network: nn.Module, left: str) -> nn.Module:
    """On the card, but for the weights under `left`."""
    network.to("cuda")
    for name, module in network.named_modules():
        if left in name and getattr(module, "weight", None) is not None:
            module.to("cpu")
    return network


def rows() -> list[Row]:
    """Two rows, the second with two learned vectors in it."""
    learned = torch.arange(64).float() / 64
    plain, other = empty_chunk(END, 77), empty_chunk(END, 77)
    other = (other[0], Token(learned, 1.0), Token(-learned.double(), 1.0), *other[3:])
    return [Row(tuple(plain)), Row(tuple(other))]


@pytest.mark.parametrize("left", ["token_embedding", "embeddings", "layers.1", "text_projection"])
def test_an_encoder_loaded_in_part_computes_on_the_device_named(left):
    expected = Runner(filled(CLIPText(TEXT)), -2)(rows())
    with card() as cost:
        model = in_part(filled(CLIPText(TEXT, CASTING)), left)
        run = Runner(model, -2, device="cuda")
        cost.reset()
        found = run(rows())
        assert found.hidden.device.type == found.pooled.device.type == "cuda"
        assert cost.moved_bytes < TABLE_BYTES // 8  # the table stays where it is: only rows of it travel
        hidden, pooled = found.hidden.cpu(), found.pooled.cpu()
    assert (hidden - expected.hidden).abs().max() <= NEAR and (pooled - expected.pooled).abs().max() <= NEAR


def test_towers_compute_where_the_host_says_and_else_where_it_brought_them():
    source = SimpleNamespace(config=TEXT, build=lambda operations, device, dtype: CLIPText(TEXT, operations))
    tokens = {"l": [[(token.id, token.emphasis) for token in empty_chunk(END, 77)]]}
    expected, _ = filled(Towers(FAMILIES["sd1"], [source], CASTING)).encode_token_weights(tokens)
    with card():
        towers = filled(Towers(FAMILIES["sd1"], [source], CASTING))
        in_part(towers, "token_embedding")
        assert towers.encode_token_weights(tokens)[0].device.type == "cpu"  # nobody says: with its token table
        towers.device = torch.device("cuda")  # as a patcher does
        assert towers.encode_token_weights(tokens)[0].device.type == "cuda"
        towers.set_clip_options({"execution_device": torch.device("cpu")})
        assert towers.encode_token_weights(tokens)[0].device.type == "cpu"
        towers.set_clip_options({"execution_device": torch.device("cuda"), "layer": None})
        found = towers.encode_token_weights(tokens)[0].cpu()
        towers.reset_clip_options()
        assert towers.towers()[0].execution_device is None
    assert (found - expected).abs().max() <= NEAR


def test_text_features_with_the_token_table_left_behind():
    texts, config = ["a cat", "a small dog", "a cat"], CLIPConfig(TEXT, VisionConfig(64, 1, 1, 256, 16, 32, 32))
    expected = text_features(filled(CLIP(config)), Tokenizer(), texts).features
    with card() as cost:
        model = in_part(filled(CLIP(config, CASTING)), "token_embedding")
        cost.reset()
        found = text_features(model, Tokenizer(), texts, device="cuda").features
        assert cost.moved_bytes < TABLE_BYTES // 8
        streamed = text_features(model, Tokenizer(), texts, device="cuda", table_device="cuda").features
        assert cost.moved_bytes > TABLE_BYTES  # the host's layer brings its table, which a stream needs
    assert (found - expected).abs().max() <= NEAR and torch.equal(found, streamed)


def test_pictures_with_the_bare_class_token_left_behind():
    config = CLIPConfig(TEXT, VisionConfig(64, 2, 1, 256, 16, 32, 32))
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    expected = filled(CLIP(config)).image_features(pixels)
    with card():
        model = in_part(filled(CLIP(config, CASTING)), "embeddings")
        embeddings = model.vision_model.embeddings
        embeddings.class_embedding = nn.Parameter(embeddings.class_embedding.cpu(), requires_grad=False)
        found = model.image_features(pixels.to("cuda")).cpu()
    assert (found - expected).abs().max() <= NEAR


def test_without_a_device_named_the_weights_on_the_card_would_meet_those_left_behind():
    """What the tests above would see if a layer did not cast."""
    with card(), pytest.raises(DeviceMismatch):
        Runner(in_part(filled(CLIPText(TEXT)), "layers.1"), device="cuda")(rows())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_a_table_of_fp8_gives_its_rows_exactly_and_is_never_indexed_as_such(dtype):
    table = nn.Embedding(300, 16)
    table.weight = nn.Parameter(torch.randn(300, 16).to(dtype), requires_grad=False)
    ids = torch.tensor([[0, 299], [7, 7]])
    expected = table.weight.float()[ids]
    with Indexed() as seen:
        found = look_up(table, ids, torch.float32)
    assert torch.equal(found, expected) and seen.types == {torch.uint8}
    host = Embedding(300, 16)
    host.weight = table.weight
    with Indexed() as seen:
        assert torch.equal(look_up(host, ids, torch.float32), expected) and seen.types == {torch.float32}


class Indexed(torch.overrides.TorchFunctionMode):
    """The types of the tables looked up in."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nn.functional.embedding:
            self.types.add(args[1].dtype)
        return func(*args, **(kwargs or {}))


def test_a_pass_has_no_wait_and_few_moves():
    """Ids, ends, and the learned vectors with their two places; a mask would be one more."""
    with pretend_cuda() as count:
        model = CLIPText(TEXT, device="cuda").eval()
        count.reset()
        Runner(model)(rows())
    assert not count.waits and count.moves <= 5, str(count)
