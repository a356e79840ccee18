"""CVL_TextEncode and its relatives beside the stock nodes: 300 generated prompts, every family, patches, hooks."""

import random

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors

from ...support.small_clips import stock_clip

# float32 on both sides, values of order one (a few dozen where weights are large); the order of additions differs
ROUNDING = 1e-5
WORDS = "a red fox jumps over the lazy dog in an old painting of trees, rivers and 3 houses; moody light".split()
STYLES = ["comfy", "a1111", "a1111 no norm", "compel", "comfy++", "down_weight", "perp"]


def generated(seed: int) -> str:
    """A prompt with weights, nesting, escapes, embeddings, stray brackets; every tenth is several chunks long."""
    draw = random.Random(seed)

    def phrase(depth: int) -> str:
        words = " ".join(draw.choices(WORDS, k=draw.randint(1, 5)))
        kind = draw.random()
        if depth < 3 and kind < 0.25:
            return f"({phrase(depth + 1)}:{draw.choice(['1.2', '0.6', '1.35', '0', '-0.4'])})"
        if depth < 3 and kind < 0.4:
            return f"({phrase(depth + 1)})"
        return words + draw.choice(["", ", ", r" \(escaped\) ", " embedding:tabby", " (embedding:tabby:1.2), "])

    length = draw.randint(60, 70) if seed % 10 == 0 else draw.randint(1, 12)
    return " ".join(phrase(0) for _ in range(length)) + draw.choice(["", "", "", " ) stray", " (open"])


@pytest.fixture(scope="module")
def clips(comfyui):
    generator = torch.Generator().manual_seed(5)
    pair = {"clip_l": torch.randn(3, 768, generator=generator), "clip_g": torch.randn(3, 1280, generator=generator)}
    write_tensors(comfyui.models / "embeddings" / "tabby.safetensors", {k: v * 0.05 for k, v in pair.items()}, {})
    made = {}

    def get(family: str):
        if family not in made:
            made[family] = stock_clip(family)
        return made[family]

    return get


def stock(comfyui, clip, text):
    return only(comfyui.nodes["CLIPTextEncode"]().encode(clip=clip, text=text)[0])


def ours(comfyui, clip, text, **options):
    return only(comfyui.nodes["CVL_TextEncode"]().encode(clip=clip, text=text, **options)["result"][0])


def only(conditioning):
    ((hidden, extra),) = conditioning
    return hidden, extra["pooled_output"]


def assert_equal(first, second, rounding=ROUNDING):
    for theirs, mine in zip(first, second, strict=True):
        assert theirs.shape == mine.shape and theirs.dtype == mine.dtype and theirs.device == mine.device
        assert (theirs - mine).abs().max() <= rounding


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_300_prompts_give_what_the_stock_node_gives(comfyui, clips, family):
    clip = clips(family)
    for seed in range(300):
        text = generated(seed)
        assert_equal(stock(comfyui, clip, text), ours(comfyui, clip, text))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sd3", "flux"])
def test_every_family_gives_what_the_stock_node_gives(comfyui, clips, family):
    text = "a (red:1.3) fox, (lazy:0.4) dog, " * 8
    assert_equal(stock(comfyui, clips(family), text), ours(comfyui, clips(family), text))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sd3", "flux"])
def test_every_style_works_with_every_family_and_leaves_an_unweighted_prompt_alone(comfyui, clips, family, style):
    clip, plain = clips(family), "a red fox and a lazy dog"
    assert_equal(stock(comfyui, clip, plain), ours(comfyui, clip, plain, weighting=style), rounding=0)
    weighted = ours(comfyui, clip, "a (red:1.3) fox and a (lazy:0.5) dog", weighting=style)[0]
    assert weighted.isfinite().all()
    if family != "flux":  # whose conditioning is T5's alone
        assert (weighted - stock(comfyui, clip, plain)[0]).abs().max() > 1e-3


def test_t5_passes_through_untouched(comfyui, clips):
    text = "a (red:1.3) fox and a [lazy] dog"
    reference, answer = stock(comfyui, clips("sd3"), text)[0], ours(comfyui, clips("sd3"), text, dialect="a1111")[0]
    assert torch.equal(reference[:, 77:], answer[:, 77:])
    assert not torch.equal(reference[:, :77], answer[:, :77])


def test_a_clip_without_clip_is_passed_on_or_refused_in_a_sentence(comfyui, clips):
    node = comfyui.nodes["CVL_TextEncode"]()
    answer = node.encode(clip=clips("t5"), text="a (red:1.3) fox")
    assert_equal(stock(comfyui, clips("t5"), "a (red:1.3) fox"), only(answer["result"][0]), rounding=0)
    assert "no CLIP" in answer["result"][1]
    with pytest.raises(ValueError, match="of another kind"):
        node.encode(clip=clips("t5"), text="x", weighting="compel")
    with pytest.raises(ValueError, match="of another kind"):
        comfyui.nodes["CVL_InspectTokens"]().inspect(clip=clips("t5"), text="x")


@pytest.mark.parametrize("family", ["flux", "t5"])
def test_what_comfyuis_own_reading_cannot_take_is_mended_or_a_sentence(comfyui, clips, family):
    node = comfyui.nodes["CVL_TextEncode"]()
    assert only(node.encode(clip=clips(family), text="a \ud800 cat")["result"][0])[0].isfinite().all()
    with pytest.raises(ValueError, match="nested less deep"):
        node.encode(clip=clips(family), text="(" * 10_000 + "x" + ":1.0)" * 10_000)


NAMELESS = (  # a prompt at which ComfyUI's tokenizers stop, and what is read
    ("a cat, embedding:", "a cat, "),
    ("a (embedding:) cat", "a () cat"),
    ("a cat embedding: ", "a cat  "),
    ("(embedding::1.2) cat", "() cat"),
    ("embedding:", ""),
    ("a cat, embedding: embedding:", "a cat,  "),
)


@pytest.mark.parametrize("family", ["flux", "t5", "sd3", "sd1", "sdxl"])
@pytest.mark.parametrize(("text", "read"), NAMELESS)
def test_an_embedding_without_a_name_is_left_out_and_said_whatever_reads_the_prompt(comfyui, clips, family, text, read):
    answer = comfyui.nodes["CVL_TextEncode"]().encode(clip=clips(family), text=text)
    hidden, pooled = only(answer["result"][0])
    expected = stock(comfyui, clips(family), read)
    assert torch.equal(hidden[:, -1:], expected[0][:, -1:]) or family in ("sd1", "sdxl")  # T5's tokens are the last
    assert_equal(expected, (hidden, pooled), ROUNDING)
    assert "without a name" in answer["result"][1]


def test_a_named_embedding_beside_a_nameless_one_is_used(comfyui, clips):
    for family in ("flux", "sd3", "sdxl"):
        mine = ours(comfyui, clips(family), "embedding:tabby a cat, embedding:")
        assert_equal(stock(comfyui, clips(family), "embedding:tabby a cat, "), mine)


def test_weights_that_make_t5_alone_nan_are_said(comfyui, clips):
    assert "NaN" in comfyui.nodes["CVL_TextEncode"]().encode(clip=clips("t5"), text="a (cat:nan)")["result"][1]


def test_the_sdxl_node_gives_what_the_stock_node_gives(comfyui, clips):
    sizes = dict(zip(("width", "height", "crop_w", "crop_h", "target_width", "target_height"), range(8, 1000, 100)))
    texts = {"text_g": "a (red:1.3) fox, " * 20, "text_l": "a dog"}  # two chunks and one
    node = comfyui.nodes["CLIPTextEncodeSDXL"]
    given = {"clip": clips("sdxl"), **sizes, **texts}
    reference = (node.execute(**given) if hasattr(node, "execute") else node().encode(**given))[0]
    answer = comfyui.nodes["CVL_TextEncodeSDXL"]().encode(**given)["result"][0]
    assert_equal(only(reference), only(answer))
    assert {k: v for k, v in answer[0][1].items() if k in sizes} == sizes
    assert set(answer[0][1]) == set(reference[0][1])
    with pytest.raises(ValueError, match="clip_g"):
        comfyui.nodes["CVL_TextEncodeSDXL"]().encode(clip=clips("sd1"), **sizes, **texts)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_clip_skip_is_the_stock_clip_set_last_layer(comfyui, clips, family):
    for skip in (1, 2, 3):
        (skipped,) = comfyui.nodes["CLIPSetLastLayer"]().set_last_layer(clips(family), -skip)
        assert_equal(stock(comfyui, skipped, "a (red:1.2) fox"), ours(comfyui, skipped, "a (red:1.2) fox"))
        assert_equal(stock(comfyui, skipped, "a fox"), ours(comfyui, clips(family), "a fox", clip_skip=skip))
    with pytest.raises(ValueError, match="at most 3"):
        ours(comfyui, clips(family), "a fox", clip_skip=4)


class Passes:
    """Counts the rows that go through a CLIP-L."""

    def __init__(self, clip):
        self.rows = 0
        embeddings = clip.cond_stage_model.clip_l.transformer.text_model.encoder
        self.hook = embeddings.register_forward_pre_hook(self.count)

    def count(self, module, args):
        self.rows += args[0].shape[0]

    def taken(self) -> int:
        rows, self.rows = self.rows, 0
        return rows


def test_what_was_encoded_is_not_encoded_again_until_a_lora_changes_the_weights(comfyui):
    clip = stock_clip("sd1")
    passes = Passes(clip)
    first = ours(comfyui, clip, "a (red:1.3) fox")
    assert passes.taken() == 2  # the prompt and the empty one
    assert_equal(first, ours(comfyui, clip, "a (red:1.3) fox"), rounding=0)
    ours(comfyui, clip, "a (red:0.7) (fox:1.1)")
    assert passes.taken() == 0  # only weights changed
    ours(comfyui, clip, "a (blue:1.3) fox")
    assert passes.taken() == 1
    patched = clip.clone()
    name = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(patched.patcher.model_state_dict()[name].shape, generator=generator) * 0.05
    assert patched.add_patches({name: ("diff", (change,))}) == [name]
    assert_equal(stock(comfyui, patched, "a (red:1.3) fox"), ours(comfyui, patched, "a (red:1.3) fox"))
    assert (first[0] - ours(comfyui, patched, "a (red:1.3) fox")[0]).abs().max() > 1e-3
    passes.taken()
    assert_equal(first, ours(comfyui, clip, "a (red:1.3) fox"), rounding=0)
    assert passes.taken() == 0  # the unpatched rows are still there
    passes.hook.remove()


def test_hooks_on_the_clip_work_and_are_not_mixed_up_with_the_cache(comfyui, clips):
    import comfy.hooks

    clip = clips("sd1").clone()
    text = "a (red:1.3) fox"
    before = ours(comfyui, clip, text)
    name = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    hook = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    change = torch.full_like(clip.patcher.model_state_dict()[name], 0.02)
    hook.weights, hook.weights_clip, hook.need_weight_init = {}, {name: ("diff", (change,))}, False
    group = comfy.hooks.HookGroup()
    group.add(hook)
    (hooked,) = comfyui.nodes["SetClipHooks"]().apply_hooks(clip, False, True, hooks=group)
    reference = comfyui.nodes["CLIPTextEncode"]().encode(clip=hooked, text=text)[0]
    answer = comfyui.nodes["CVL_TextEncode"]().encode(clip=hooked, text=text)["result"][0]
    assert len(reference) == len(answer)
    for theirs, mine in zip(reference, answer):
        assert (theirs[0] - mine[0]).abs().max() <= ROUNDING
        assert set(theirs[1]) == set(mine[1])
    assert (before[0] - answer[0][0]).abs().max() > 1e-3
    assert_equal(before, ours(comfyui, clips("sd1"), text), rounding=0)


def test_the_stock_clip_is_not_changed(comfyui, clips):
    clip = clips("sdxl")

    def state():
        family = clip.cond_stage_model
        return set(vars(clip)), set(vars(family)), clip.layer_idx, id(family.clip_l)

    before = state()
    ours(comfyui, clip, "a (red:0.5) fox", weighting="compel", clip_skip=2)
    assert before == state()


def test_an_embedding_for_one_of_two_encoders_is_said(comfyui, clips):
    write_tensors(comfyui.models / "embeddings" / "only_l.safetensors", {"emb_params": torch.ones(2, 768)}, {})
    report = comfyui.nodes["CVL_TextEncode"]().encode(clip=clips("sdxl"), text="embedding:only_l fox")["result"][1]
    assert "only_l" in report and "clip_g" in report and "768" in report
