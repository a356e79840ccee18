"""SigLIP gives what transformers and open_clip give, from their files."""

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip, find_text_encoders
from clip_vae_lora.clip_core.checkpoint.layouts import LayoutError
from clip_vae_lora.clip_core.features.pictures import image_features
from clip_vae_lora.clip_core.features.texts import text_features
from clip_vae_lora.clip_core.features.whole_texts import WholeTexts
from clip_vae_lora.clip_core.networks.siglip import SigLIP
from clip_vae_lora.clip_core.tokenizer import Tokenizer

from ...support import siglip

CLOSE = {"rtol": 0, "atol": 1e-5}  # float32 through two blocks, in another order of additions


def read(state, **known):
    """Our network of a state dict, through names and shapes as a file has them."""
    source = find_clip({name: tuple(tensor.shape) for name, tensor in state.items()}, **known)
    network = source.build()
    network.load_state_dict(source.translate({name: state[name] for name in source.names}))
    return source, network.eval().requires_grad_(False)


def ids_and_pixels(px: int, vocab: int = 256) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.randint(vocab, (3, 64), generator=draw), torch.randn(2, 3, px, px, generator=draw)


@pytest.mark.parametrize(
    ("sizes", "px"),
    [
        ({}, 64),
        ({"patch_px": 14, "image_px": 384, "width": 32}, 384),  # So400m's patches do not fill its pictures
        ({"heads": 16, "width": 1152, "image_px": 32}, 32),  # So400m's heads
    ],
)
def test_it_gives_what_transformers_gives(sizes, px):
    theirs = siglip.hugging_face(**sizes)
    source, ours = read(theirs.state_dict())
    ids, pixels = ids_and_pixels(px)
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels)
        texts, images = ours.text_features(ids), ours.image_features(pixels)
        last, hidden, pooled = ours.vision_model.states(pixels, -2)
        middle = theirs.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
    assert isinstance(ours, SigLIP) and source.config.vision.image_px == px
    scale = max(1.0, float(expected.text_model_output.pooler_output.abs().max()))
    torch.testing.assert_close(texts / scale, expected.text_model_output.pooler_output / scale, **CLOSE)
    torch.testing.assert_close(images / scale, expected.vision_model_output.pooler_output / scale, **CLOSE)
    torch.testing.assert_close(last, expected.vision_model_output.last_hidden_state, **CLOSE)
    torch.testing.assert_close(hidden, middle, **CLOSE)
    torch.testing.assert_close(pooled, images)
    cosines = torch.nn.functional.normalize(texts) @ torch.nn.functional.normalize(images).T
    logits = cosines * ours.logit_scale.exp() + ours.logit_bias
    torch.testing.assert_close(logits, expected.logits_per_text, **CLOSE)


def test_it_gives_what_open_clip_gives():
    text, image = siglip.open_clip_state()
    state = {f"text.{name}": tensor for name, tensor in text.state_dict().items()}
    state |= {f"visual.trunk.{name}": tensor for name, tensor in image.state_dict().items()}
    state |= {"logit_scale": torch.tensor(2.0), "logit_bias": torch.tensor(-3.0)}
    source, ours = read(state)
    ids, pixels = ids_and_pixels(64)
    with torch.no_grad():
        torch.testing.assert_close(ours.text_features(ids), text(ids), **CLOSE)
        torch.testing.assert_close(ours.image_features(pixels), image(pixels), **CLOSE)
    assert not [note for note in source.notes if "not read" in note]


def test_features_of_texts_and_pictures_are_rows_of_length_one_in_the_order_given():
    theirs = siglip.hugging_face()
    _, ours = read(theirs.state_dict())
    tokenizer = WholeTexts(lambda text: [2 + ord(letter) % 200 for letter in text])
    texts = ["a cat", "dog", "a cat", "x" * 100]
    found = text_features(ours, tokenizer, texts)
    rows, cut = tokenizer.rows(ours.config, texts)
    with torch.no_grad():
        expected = theirs.get_text_features(input_ids=torch.tensor(rows)).pooler_output
    assert found.cut == cut == (0, 0, 0, 37)
    torch.testing.assert_close(found.features, torch.nn.functional.normalize(expected), **CLOSE)
    assert image_features(ours, torch.rand(2, 40, 70, 3)).norm(dim=1).sub(1).abs().max() < 1e-6


def test_a_tokenizer_of_another_kind_is_refused():
    _, ours = read(siglip.hugging_face().state_dict())
    with pytest.raises(ValueError, match="the tokenizer is not this model's"):
        text_features(ours, Tokenizer(), ["a cat"])


def test_a_vocabulary_larger_than_the_model_is_refused():
    _, ours = read(siglip.hugging_face().state_dict())
    with pytest.raises(ValueError, match="gives token 300, and the model knows 256"):
        text_features(ours, WholeTexts(lambda text: [300]), ["a cat"])


@pytest.mark.parametrize("vocab", [32_000, 256_000])
def test_the_version_is_told_by_the_vocabulary(vocab):
    state = siglip.hugging_face(32, vocab=16).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    shapes["text_model.embeddings.token_embedding.weight"] = (vocab, 32)
    config = find_clip(shapes).config
    assert (config.version, config.pad) == ((1, 1) if vocab == 32_000 else (2, 0))
    assert (config.mean, config.std, config.resize) == ((0.5,) * 3, (0.5,) * 3, "squash")


def test_naflex_is_refused_by_name():
    shapes = {name: tuple(tensor.shape) for name, tensor in siglip.hugging_face().state_dict().items()}
    shapes["vision_model.embeddings.patch_embedding.weight"] = (64, 768)
    with pytest.raises(LayoutError, match="NaFlex"):
        find_clip(shapes)


def test_its_text_half_is_no_text_encoder_of_a_diffusion_model():
    shapes = {name: tuple(tensor.shape) for name, tensor in siglip.hugging_face().state_dict().items()}
    with pytest.raises(LayoutError, match="it is SigLIP"):
        find_text_encoders(shapes)


def test_8_bits_of_bitsandbytes_are_read_with_their_scales():
    state = dict(siglip.hugging_face().state_dict())
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    largest = state[name].abs().amax(1)
    meant = state[name]
    state[name] = (meant / largest[:, None] * 127).round().to(torch.int8)
    state[name.replace("weight", "SCB")] = largest
    _, ours = read(state)
    torch.testing.assert_close(ours.state_dict()[name], meant, rtol=0, atol=float(largest.max()) / 127)
