"""Features of texts: the quick way against the reference implementations and against the encoder's own forward."""

import random

import pytest
import torch
import torch.nn.functional as F

from clip_vae_lora.clip_core.features import texts as module
from clip_vae_lora.clip_core.features.padded_texts import passes_of
from clip_vae_lora.clip_core.features.shared_prefixes import batches, build_trie
from clip_vae_lora.clip_core.features.texts import TextCache, TextFeatures, text_features, token_rows
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.tokenizer import END, START, Tokenizer

TEXTS = [
    "a photo of a cat",
    "a photo of a dog",
    "a photo of a cat",
    "a photo",
    "",
    "a photo of a cat and a dog",
    "漢字 and an emoji 🐱",
    "word " * 90,
    "ends here<|endoftext|> and this is not looked at",
    "<|startoftext|> inside",
    *(f"a {look} photo of the {thing}" for look in ("bad", "good", "very very bad") for thing in ("bus", "lawn mower")),
]


@pytest.fixture(scope="module")
def model(networks):
    return networks.randomise_(CLIP(networks.tiny("ViT-B-32")))


def plainly(model, texts):
    """Each text by itself, padded to 77."""
    ids = [Tokenizer().batch([text])[0] for text in texts]
    with torch.no_grad():
        return F.normalize(torch.cat([model.text_features(row) for row in ids]), dim=-1)


@pytest.mark.parametrize("padded", [False, True])  # the CPU's way, and a card's
def test_features_are_those_of_transformers(networks, padded):
    pytest.importorskip("transformers")
    for name in ("ViT-B-32", "ViT-H-14"):  # quick_gelu, and gelu with more layers
        config = networks.tiny(name)
        theirs = networks.hf_clip(config)
        ours = CLIP(config).eval()
        ours.load_state_dict(theirs.state_dict(), strict=False)
        ids, _ = Tokenizer().batch(TEXTS)
        with torch.no_grad():
            expected = F.normalize(theirs.text_projection(theirs.text_model(input_ids=ids).pooler_output), dim=-1)
        found = text_features(ours, Tokenizer(), TEXTS, padded=padded).features
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)  # the project's bound; sums in another order


@pytest.mark.parametrize("padded", [False, True])
def test_features_are_those_of_open_clip(networks, padded):
    pytest.importorskip("open_clip")
    from clip_vae_lora.clip_core.checkpoint.find import find_clip

    config = networks.tiny("ViT-B-32")
    theirs = networks.open_clip_model(config)
    state = theirs.state_dict()
    source = find_clip(networks.shapes(state), networks.metadata(config), None)
    ours = CLIP(config).eval()
    ours.load_state_dict(source.translate({name: state[name] for name in source.names}))
    ids, _ = Tokenizer().batch(TEXTS, pad=0)
    with torch.no_grad():
        expected = theirs.encode_text(ids, normalize=True)
    found = text_features(ours, Tokenizer(), TEXTS, padded=padded).features
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("nodes", [1, 20, 4096])
def test_however_texts_are_batched_their_features_are_the_same(model, monkeypatch, nodes):
    monkeypatch.setattr(module, "NODES_AT_ONCE", nodes)
    found = text_features(model, Tokenizer(), TEXTS).features
    torch.testing.assert_close(found, plainly(model, TEXTS), atol=2e-6, rtol=0)  # sums in another order


@pytest.mark.parametrize("free_bytes", [1, 50_000, 1 << 30])
def test_however_little_memory_a_card_has_the_features_are_the_same(model, free_bytes):
    found = text_features(model, Tokenizer(), TEXTS, padded=True, free_bytes=free_bytes).features
    torch.testing.assert_close(found, plainly(model, TEXTS), atol=2e-6, rtol=0)  # sums in another order


def test_layers_are_called_on_both_ways(model):
    layer, seen = model.text_model.encoder.layers[-1].self_attn.v_proj, []
    before = [text_features(model, Tokenizer(), TEXTS, padded=padded).features for padded in (False, True)]
    hook = layer.register_forward_hook(lambda module, given, result: seen.append(1) or result + 1)
    after = [text_features(model, Tokenizer(), TEXTS, padded=padded).features for padded in (False, True)]
    hook.remove()
    assert len(seen) == 2 and not torch.allclose(before[1], after[1], atol=1e-3)
    torch.testing.assert_close(after[0], after[1], atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(10))
def test_padded_passes_have_all_texts_in_order_and_neither_too_many_tokens_nor_too_much_filling(seed):
    dice = random.Random(seed)
    lengths, most = sorted(dice.choices(range(2, 78), k=3000)), dice.choice([500, 20_000, 1 << 18])
    cuts = list(passes_of(lengths, most))
    assert [number for first, last in cuts for number in range(first, last)] == list(range(len(lengths)))
    for first, last in cuts:
        filled, own = (last - first) * lengths[last - 1], sum(lengths[first:last])
        assert filled <= most and (filled <= 4096 or filled <= 1.25 * own)
    assert list(passes_of([77], 1)) == [(0, 1)] and list(passes_of([], 9)) == []


def test_one_long_text_does_not_lengthen_a_thousand_short_ones():
    assert list(passes_of([6] * 1000 + [77], 1 << 18)) == [(0, 1000), (1000, 1001)]


@pytest.mark.parametrize("padded", [False, True])
def test_a_text_has_the_same_features_whatever_comes_beside_it(model, padded):
    alone = text_features(model, Tokenizer(), TEXTS[:1], padded=padded).features
    found = text_features(model, Tokenizer(), TEXTS, padded=padded).features[:1]
    torch.testing.assert_close(found, alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("padded", [False, True])
def test_a_network_of_one_block_is_encoded_too(networks, padded):
    from dataclasses import replace

    config = networks.tiny("ViT-B-32")
    small = networks.randomise_(CLIP(replace(config, text=replace(config.text, layers=1))))
    torch.testing.assert_close(
        text_features(small, Tokenizer(), TEXTS, padded=padded).features, plainly(small, TEXTS), atol=2e-6, rtol=0
    )


def test_features_have_length_one_and_the_tokens_cut_are_told(model):
    found = text_features(model, Tokenizer(), TEXTS)
    assert found.features.dtype == torch.float32 and found.features.shape == (len(TEXTS), model.config.text.embed)
    torch.testing.assert_close(found.features.norm(dim=1), torch.ones(len(TEXTS)))
    assert found.cut == tuple(15 if text.startswith("word") else 0 for text in TEXTS)


def test_no_texts_are_refused(model):
    with pytest.raises(ValueError, match="no texts"):
        text_features(model, Tokenizer(), [])


@pytest.mark.parametrize("padded", [False, True])
def test_each_batch_is_told_and_may_be_called_off(model, monkeypatch, padded):
    monkeypatch.setattr(module, "NODES_AT_ONCE", 20)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 50)
    steps, way = [], {"padded": padded}
    text_features(model, Tokenizer(), TEXTS, on_step=lambda done, total: steps.append((done, total)), **way)
    assert len(steps) > 2 and steps == sorted(steps) and steps[-1] == (len(TEXTS), len(TEXTS))

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        text_features(model, Tokenizer(), TEXTS, on_step=stop, **way)


def test_half_precision_weights_are_computed_in_their_own_type(networks):
    model = networks.randomise_(CLIP(networks.tiny("ViT-B-32")))
    whole = text_features(model, Tokenizer(), TEXTS).features
    half = text_features(model.to(torch.bfloat16), Tokenizer(), TEXTS).features
    assert half.dtype == torch.float32
    assert float((whole * half).sum(1).min()) > 0.99  # bf16 keeps 8 bits of each number


def random_rows(count: int, seed: int) -> list[tuple[int, ...]]:
    dice = random.Random(seed)
    return sorted({(START, *(dice.randrange(3) for _ in range(dice.randrange(8))), END) for _ in range(count)})


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_has_every_text_along_its_path_and_every_beginning_once(seed):
    rows = random_rows(40, seed)
    tree = build_trie(rows)
    beginnings = {row[: place + 1] for row in rows for place in range(len(row))}
    assert len(tree.tokens) == len(beginnings)
    paths = [
        group.paths[n * group.length : (n + 1) * group.length] for group in tree.groups for n in range(group.texts)
    ]
    assert sorted(tree.order) == list(range(len(rows)))
    for text, path, end in zip(tree.order, paths, tree.ends, strict=True):
        assert tuple(tree.tokens[node] for node in path) == rows[text]
        assert tuple(tree.positions[node] for node in path) == tuple(range(len(rows[text])))
        assert path[-1] == end


@pytest.mark.parametrize("seed", range(20))
def test_the_groups_of_a_tree_have_its_nodes_in_order(seed):
    tree, place = build_trie(random_rows(40, seed)), 0
    for group in tree.groups:
        assert group.first == place
        place = group.last
        for number in range(group.texts):
            path = group.paths[number * group.length : (number + 1) * group.length]
            begin = group.first + number * group.new
            assert path[-group.new :] == tuple(range(begin, begin + group.new))
    assert place == len(tree.tokens)


@pytest.mark.parametrize("nodes", [1, 15, 1000])
def test_batches_follow_each_other_and_stay_under_their_size(nodes):
    rows = random_rows(60, 0)
    cuts = list(batches(rows, nodes))
    assert [number for first, last in cuts for number in range(first, last)] == list(range(len(rows)))
    assert all(last - first == 1 or len(build_trie(rows[first:last]).tokens) <= nodes for first, last in cuts)


def test_an_end_token_written_in_a_text_ends_it():
    (row, empty), cut = token_rows(Tokenizer(), ["cat<|endoftext|>dog", ""], 77)
    assert row == (START, *Tokenizer().encode("cat"), END) and empty == (START, END) and cut == (0, 0)


class Encoder:
    """Features that count, and what was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(list(texts))
        return TextFeatures(torch.tensor([[float(len(text))] * 4 for text in texts]), (0,) * len(texts))


def test_a_text_is_encoded_once_for_each_owner():
    cache, encode = TextCache(10_000), Encoder()
    first = cache.features("a", ["x", "yy", "x"], encode)
    assert first.features[:, 0].tolist() == [1, 2, 1] and first.cut == (0, 0, 0)
    assert cache.features("a", ["yy", "zzz"], encode).features[:, 0].tolist() == [2, 3]
    cache.features("b", ["x"], encode)
    assert encode.asked == [["x", "yy"], ["zzz"], ["x"]]


def test_without_an_owner_nothing_is_kept():
    cache, encode = TextCache(10_000), Encoder()
    cache.features(None, ["x"], encode)
    cache.features(None, ["x"], encode)
    assert encode.asked == [["x"], ["x"]] and cache.bytes == 0


def test_the_cache_stays_under_its_bytes_and_forgets_what_was_not_used_longest():
    size = module.ENTRY_BYTES + 16 + 1  # with four numbers and a letter
    cache, encode = TextCache(3 * size), Encoder()
    cache.features("o", ["a", "b", "c"], encode)
    cache.features("o", ["a"], encode)
    cache.features("o", ["d"], encode)
    assert cache.bytes == 3 * size
    cache.features("o", ["a", "c", "d"], encode)
    assert encode.asked == [["a", "b", "c"], ["d"]]
    cache.features("o", ["b"], encode)
    assert encode.asked[-1] == ["b"]


def test_more_texts_than_fit_are_all_given():
    cache, encode = TextCache(2000), Encoder()
    assert len(cache.features("o", [f"t{n}" for n in range(50)], encode).features) == 50
    assert 0 < cache.bytes <= 2000


def test_what_is_given_can_be_changed_without_harm():
    cache, encode = TextCache(10_000), Encoder()
    with torch.inference_mode():
        cache.features("o", ["x"], encode).features.zero_()
    assert cache.features("o", ["x"], encode).features.tolist() == [[1.0] * 4]
