"""The nodes that encode prompts, on the standalone host: dialects, joining, lost embeddings, the cache, odd input."""

import json

import pytest
import torch

from clip_vae_lora.clip_core.prompts import plan
from clip_vae_lora.clip_core.prompts.dialects import PromptError
from clip_vae_lora.clip_core.prompts.plan import JOINING, PromptSettings, plan_prompt
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.text import embeddings
from clip_vae_lora.nodes.text.token_count import PORTS

from ...support import tiny

ODD = [
    "\ud800 lone \udfff",
    "(" * 10_000,
    ")" * 10_000,
    "[" * 10_000 + "x",
    "(a" * 3000 + ")" * 10,
    "\0\1",
    "🦊" * 50,
]
ROUNDING = 1e-5  # float32, another order of additions
PORT = PORTS["l"]


@pytest.fixture
def clip(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    return place.node("CVL_LoadTextEncoder").load("c.safetensors")["result"][0]


@pytest.fixture
def sdxl(place):
    tiny.clip_file(place.models / "text_encoders" / "c.safetensors")
    return place.node("CVL_LoadTextEncoder").load("c.safetensors", "c.safetensors", "sdxl")["result"][0]


def encode(place, clip, text, **options):
    conditioning, report = place.node("CVL_TextEncode").encode(clip, text, **options)["result"]
    ((hidden, extra),) = conditioning
    return hidden, extra["pooled_output"], json.loads(report)


def test_the_a1111_dialect_brings_its_weighting_and_splitting(place, clip):
    report = encode(place, clip, "a (b (c:1.5):1.2)", dialect="a1111")[2]
    assert (report["weighting"], report["splitting"]) == ("a1111", "comma")
    assert (encode(place, clip, "a")[2]["weighting"], encode(place, clip, "a")[2]["splitting"]) == ("comfy", "hard")


def test_break_is_text_in_comfy_until_joining_says_otherwise(place, clip):
    assert encode(place, clip, "cat BREAK dog")[2]["tokens"] == {"l": [3]}
    assert encode(place, clip, "cat BREAK dog", joining=JOINING)[2]["tokens"] == {"l": [1, 1]}
    assert encode(place, clip, "cat BREAK dog", dialect="a1111")[2]["tokens"] == {"l": [1, 1]}


def test_concat_puts_the_encodings_behind_one_another(place, clip):
    whole, pooled, report = encode(place, clip, "a cat CONCAT a dog", joining=JOINING)
    first, second = encode(place, clip, "a cat"), encode(place, clip, "a dog")
    assert torch.equal(whole, torch.cat([first[0], second[0]], dim=1))
    assert torch.equal(pooled, first[1])
    assert [part["join"] for part in report["parts"]] == ["", "CONCAT"]


def test_average_mixes_by_its_weight_and_fills_up_with_empty_chunks(place, clip):
    mixed = encode(place, clip, "a cat AVERAGE(0.25) a dog", joining=JOINING)[0]
    first, second = encode(place, clip, "a cat")[0], encode(place, clip, "a dog")[0]
    assert (mixed - (0.75 * first + 0.25 * second)).abs().max() <= ROUNDING
    longer = "many words " * 60
    uneven = encode(place, clip, f"a cat AVERAGE {longer}", joining=JOINING)[0]
    filled = torch.cat([first, encode(place, clip, "")[0]], dim=1)
    assert (uneven - (0.5 * filled + 0.5 * encode(place, clip, longer)[0])).abs().max() <= ROUNDING


def test_averages_of_averages_are_filled_up_on_both_their_sides(place, clip):
    longer = "many words " * 60
    mixed, _, report = encode(place, clip, f"a cat AVERAGE a dog AVERAGE {longer}", joining=JOINING)
    pair = 0.5 * encode(place, clip, "a cat")[0] + 0.5 * encode(place, clip, "a dog")[0]
    filled = torch.cat([pair, encode(place, clip, "")[0]], dim=1)
    assert (mixed - (0.5 * filled + 0.5 * encode(place, clip, longer)[0])).abs().max() <= ROUNDING
    assert any("2 empty chunks" in note for note in report["notes"])


def test_more_joins_than_can_be_joined_in_linear_time_are_refused(place, clip):
    with pytest.raises(PromptError, match="at most 100 parts"):
        encode(place, clip, "a CONCAT " * 5000, joining=JOINING)
    report = encode(place, clip, "a CONCAT " * 99, joining=JOINING)[2]
    assert len(report["parts"]) == 100 and len(report["notes"]) < 5


def test_many_missing_embeddings_are_few_notes_and_few_searches(place, clip, monkeypatch):
    (place.models / "embeddings" / "style.pt").touch()
    searched = []
    nearest = embeddings._nearest
    monkeypatch.setattr(embeddings, "_nearest", lambda *given: searched.append(given) or nearest(*given))
    report = encode(place, clip, " ".join(f"embedding:stile{n}" for n in range(500)))[2]
    assert len(searched) <= 16 and len(report["notes"]) < 12 and len(report["embeddings_lost"]) == 500
    assert "style" in report["notes"][0] and "492 more" in report["notes"][-1]


def test_both_prompts_of_sdxl_need_the_same_joins(place, sdxl):
    sizes = (1024, 1024, 0, 0, 1024, 1024)
    node = place.node("CVL_TextEncodeSDXL")
    with pytest.raises(PromptError, match="CONCAT"):
        node.encode(sdxl, *sizes, "a CONCAT b", "c", joining=JOINING)
    ((hidden, extra),) = node.encode(sdxl, *sizes, "a " * 100, "c")["result"][0]
    assert hidden.shape[1] == 2 * 77 and extra["width"] == 1024


def test_an_embedding_is_found_or_named_with_the_nearest(place, clip):
    write_tensors(place.models / "embeddings" / "tabby.safetensors", {"emb_params": torch.ones(3, 64)}, {})
    write_tensors(place.models / "embeddings" / "wide.safetensors", {"emb_params": torch.ones(3, 1024)}, {})
    report = encode(place, clip, "embedding:tabby on a sofa, embedding:tubby, embedding:wide")[2]
    assert report["embeddings_found"] == ["tabby"]
    assert "tabby" in report["embeddings_lost"]["tubby"]["clip_l"]
    assert "1024" in report["embeddings_lost"]["wide"]["clip_l"]
    assert any("tubby" in note for note in report["notes"])
    bare = encode(place, clip, "tabby on a sofa", dialect="a1111")[2]
    assert bare["embeddings_found"] == ["tabby"] and bare["tokens"] == {"l": [6]}


@pytest.mark.parametrize("name", ["../secret", "..\\secret", "/etc/passwd", "sub/../../secret", "\0"])
def test_an_embedding_is_never_looked_for_outside_its_folder(place, clip, name):
    write_tensors(place.models / "secret.safetensors", {"emb_params": torch.ones(1, 64)}, {})
    assert encode(place, clip, f"embedding:{name} cat")[2]["embeddings_found"] == []


def test_only_new_rows_are_encoded_and_a_lora_makes_all_rows_new(place, clip):
    rows = []
    clip.towers.clip_l.transformer.text_model.encoder.register_forward_pre_hook(lambda m, a: rows.append(len(a[0])))
    first = encode(place, clip, "a (red:1.3) fox")[0]
    assert sum(rows) == 2
    again = encode(place, clip, "a (red:1.3) fox")[0]
    encode(place, clip, "a (red:0.3) (fox:1.2)")
    assert sum(rows) == 2 and torch.equal(first, again)
    names = ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"]
    tiny.lora_file(place.models / "loras" / "l.safetensors", names)
    patched = place.node("CVL_LoadLoRA").load("l.safetensors", 1.0, 1.0, clip=clip)["result"][1]
    assert not torch.equal(encode(place, patched, "a (red:1.3) fox")[0], first)
    assert torch.equal(encode(place, clip, "a (red:1.3) fox")[0], first)


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "1e400"])
@pytest.mark.parametrize("dialect", ["comfy"])
def test_a_weight_that_is_no_finite_number_is_refused_in_a_sentence(place, clip, weight, dialect):
    with pytest.raises(ValueError, match="finite"):
        encode(place, clip, f"a (cat:{weight})", dialect=dialect)


@pytest.mark.parametrize("text", ["(\ud800:50)", "embedding:\ud800x", "[\udfff:1]", "x\ud800embedding:y"])
def test_lone_surrogates_are_nowhere_in_a_report(place, clip, text):
    for answer in (
        place.node("CVL_TextEncode").encode(clip, text),
        place.node("CVL_InspectTokens").inspect(clip, text, dialect="a1111"),
    ):
        for shown in (answer["result"][1], *answer["ui"]["text"], *answer["ui"]["cvl_report"]):
            shown.encode("utf-8")
    with pytest.raises(ValueError, match="not a number") as refused:
        encode(place, clip, "(\ud800:nan)")
    str(refused.value).encode("utf-8")


@pytest.mark.parametrize("dialect", ["comfy", "a1111"])
@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_encoded_and_reported(place, clip, text, dialect):
    hidden, _, report = encode(place, clip, text[:120], dialect=dialect)
    assert hidden.isfinite().all()
    json.dumps(report).encode("utf-8")
    plan_prompt(text, [PORT], PromptSettings(dialect=dialect), embeddings.library)


def test_a_huge_prompt_is_planned_in_linear_time():
    planned = plan_prompt("a (red:1.1) fox, [lazy] dog " * 4000, [PORT], PromptSettings(dialect="a1111"))  # 112 kB
    assert sum(planned.tokens["l"]) > 20_000


def test_inspect_tokens_gives_every_place_of_every_chunk(place, clip):
    answer = place.node("CVL_InspectTokens").inspect(clip, "a (red:1.3) fox, " * 20)
    picture, tokens = answer["result"]
    chunks = json.loads(tokens)["encoders"]["clip_l"]
    assert [len(chunk["ids"]) for chunk in chunks] == [77, 77]
    assert chunks[0]["pieces"][:3] == ["a ", "red ", "fox "] and chunks[0]["weights"][2] == 1.3
    assert picture.ndim == 4 and picture.shape[-1] == 3 and 0 <= picture.min() and picture.max() <= 1
    assert answer["ui"]["images"]


def test_a_clip_skip_leaves_the_clip_as_it_is(place, clip):
    last = encode(place, clip, "a fox")[0]
    (tower,) = clip.towers.towers()
    before = tower.layer
    assert not torch.equal(encode(place, clip, "a fox", clip_skip=2)[0], last)
    assert tower.layer == before and torch.equal(encode(place, clip, "a fox")[0], last)


def test_all_rows_kept_are_bounded():
    from clip_vae_lora.nodes.host.shared.towers import CACHE_BYTES, ROWS

    assert ROWS.bytes <= ROWS.limit_bytes == CACHE_BYTES


def test_the_shared_tokenizer_is_one():
    assert plan.tokenizer() is plan.tokenizer()
