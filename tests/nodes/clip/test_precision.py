"""Precision at the nodes that look at pictures, and one index for a model in every type and with the same LoRAs."""

import json
import math
import shutil

import pytest
import torch

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.images import read_image
from clip_vae_lora.headless import embed
from clip_vae_lora.index import update as updating
from clip_vae_lora.index.model import is_same
from clip_vae_lora.index.reading import open_index
from clip_vae_lora.nodes.catalog import BUNDLED_FOLDER
from clip_vae_lora.nodes.clip import scores as judging
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.image import EXAMPLES, EXAMPLES_FOLDER
from clip_vae_lora.nodes.search import indexing

NAMES = ("red circle", "blue star", "striped heart")
HALVES = ("fp16", "bf16")
CLIP, LORA = "bundled/tiny_clip.safetensors", "bundled/tiny_clip_stripes_lora.safetensors"


@pytest.fixture(scope="module")
def shapes():
    return torch.cat([read_image(EXAMPLES_FOLDER / EXAMPLES[name])[0] for name in NAMES])


@pytest.fixture
def load(place):
    def load(dtype="auto", strength=0.0, **options):
        model = place.node("CVL_LoadCLIPModel").load(CLIP, dtype=dtype, **options)["result"][0]
        return patch(place, model, strength) if strength else model

    return load


def patch(place, model, strength):
    answer = place.node("CVL_LoadLoRA").load(LORA, strength, strength, clip_model=model)
    return next(out for out in answer["result"] if hasattr(out, "network"))


@pytest.fixture
def output(place):
    folder = place.base / "output" / "shapes"
    folder.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(EXAMPLES_FOLDER / EXAMPLES[name], folder)
    return folder


def index(place, model, **options):
    answer = place.node("CVL_IndexFolder").build(model, "output", "shapes", "pictures", **options)
    return json.loads(answer["result"][1]), answer["ui"]["text"][0]


JUDGES = {  # node: what it is asked besides the model and pictures, and where its report is
    "CVL_RankImages": ("rank", ("a photo of a red circle",), 7),
    "CVL_ImageGate": ("route", ("a photo of a red circle", 0.1), 4),
    "CVL_ImageTextSimilarity": ("compare", ("a red circle\na blue star",), 1),
    "CVL_VisualQuestion": ("ask", ("what colour is the circle?", "red\nblue"), 1),
    "CVL_RankTags": ("rank", ("red, blue, circle",), 2),
    "CVL_ZeroShotClassify": ("classify", ("red circle\nblue star", "a photo of a {label}"), 1),
}


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("node", JUDGES)
def test_a_half_is_used_and_its_effect_is_told_at_every_judge(place, load, shapes, node, precision):
    method, asked, report = JUDGES[node]
    model = load()
    ask = getattr(place.node(node), method)
    exact = ask(model, shapes, *asked)
    half = ask(model, shapes, *asked, precision=precision)
    data, before = json.loads(half["result"][report]), json.loads(exact["result"][report])
    assert "precision" not in before and data["precision"]["activations"] == precision
    told = data["precision"]
    assert told["max_cosine_change"] == pytest.approx(told["picture_moved"] + told["text_moved"], abs=1e-6)
    assert 0 < told["max_cosine_change"] < {"fp16": 0.01, "bf16": 0.08}[precision]  # 11 and 8 bits of each number
    text = half["ui"]["text"][0]
    assert f"{precision} in place of fp32" in text and f"{precision} on the CPU is mostly slower" in text
    assert before != data


def test_the_change_that_is_told_bounds_what_cosines_do(place, load, shapes):
    ask, texts = place.node("CVL_ImageTextSimilarity").compare, "a red circle\na blue star"
    model = load()
    exact = json.loads(ask(model, shapes, texts)["result"][1])["texts"]["cosine"]
    half = json.loads(ask(model, shapes, texts, precision="bf16")["result"][1])
    moved = abs(half["texts"]["cosine"][0][0] - exact[0][0])
    assert 0 < moved <= half["precision"]["max_cosine_change"] + 1e-6  # six digits are printed


def test_texts_are_kept_for_each_precision(load):
    from clip_vae_lora.nodes.clip import features

    model = load()
    exact, half = (features.encode_texts(model, None, ["a red circle"], precision=p).features for p in ("fp32", "bf16"))
    again = features.encode_texts(model, None, ["a red circle"]).features
    assert torch.equal(exact, again) and not torch.equal(exact, half)


def test_fp32_is_exact_for_half_weights_too(load, shapes):
    half = load("bf16")
    found = host.image_features(half, shapes, lambda done, total: None)
    same = load("bf16").network.float()
    from clip_vae_lora.clip_core.features.pictures import image_features

    assert torch.allclose(found, image_features(same, shapes), atol=1e-6)  # sums in another order at most


def test_a_precision_that_there_is_not_is_refused(place, load, shapes):
    with pytest.raises(ValueError, match="there is no precision 'fp8'"):
        place.node("CVL_RankImages").rank(load(), shapes, "a", precision="fp8")


# the index


def test_one_index_is_used_with_a_model_in_every_type(place, load, output):
    report, _ = index(place, load())
    assert report["precision"] == {"activations": "fp32"} and report["batch"] == 32 and report["new"] == 3
    for dtype in ("fp32", "fp16", "bf16"):
        again, _ = index(place, load(dtype))
        assert (again["unchanged"], again["embedded"]) == (3, 0)
        answer = place.node("CVL_SearchImages").search(load(dtype), "pictures", "a photo of a blue star", 1)
        assert "blue_star" in answer["result"][1]
        assert ("loaded in another type" in answer["ui"]["text"][0]) == (dtype == "bf16")  # the file is fp16 and fp8


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_lora_makes_another_model_and_the_same_lora_the_same_one(place, load, output, dtype):
    index(place, load("fp32", 1.0))
    assert index(place, load(dtype, 1.0))[0]["unchanged"] == 3
    for other in (load(dtype), load(dtype, 0.99), load(dtype, 0.01), patch(place, load(dtype, 1.0), 1.0)):
        with pytest.raises(FileFormatError, match="this index was made with"):
            index(place, other)


def test_two_loras_one_after_the_other_are_both_in_the_fingerprint_and_strength_0_in_none(place, load):
    once, twice = load(strength=1.0), patch(place, load(strength=1.0), 0.5)
    prints = [host.model_fingerprint(model) for model in (load(), once, twice)]
    assert [[is_same(one, other) for other in prints] for one in prints] == torch.eye(3).bool().tolist()
    assert is_same(host.model_fingerprint(patch(place, load(strength=1.0), 0.5)), prints[2])


def test_another_activation_is_another_model(place, load, output):
    index(place, load())
    with pytest.raises(FileFormatError, match="connect that model, or use another index"):
        index(place, load(activation="gelu"))


def test_an_index_by_embed_py_in_bf16_is_searched_by_the_node_in_any_type(place, load, output):
    where = place.base / "output" / "cvl_index" / "pictures"
    shell = [str(output), "--model", str(BUNDLED_FOLDER / "tiny_clip.safetensors"), "--index", str(where)]
    assert embed.main([*shell, "--dtype", "bf16"]) == 0
    assert open_index(where).facts.precision == "bf16"
    for dtype in ("fp32", "fp16", "bf16"):
        answer = place.node("CVL_SearchImages").search(load(dtype), "pictures", "a photo of a blue star", 1)
        assert "blue_star" in answer["result"][1]
        assert "made with precision bf16, and the query with fp32" in answer["ui"]["text"][0]
    assert embed.main([*shell, "--dtype", "fp32", "--precision", "fp16"]) == 0


def test_an_index_in_half_precision_says_what_that_changes_and_is_named_by_those_that_read_it(place, load, output):
    data, text = index(place, load(), precision="bf16", batch=2)
    told = data["precision"]
    assert told["activations"] == "bf16" and 0 < told["max_cosine_change"] == told["picture_moved"] < 0.05
    assert "no cosine of the first picture" in text and data["batch"] == 2
    answer = place.node("CVL_FindDuplicates").group("pictures", 0.95)
    assert "made with precision bf16" in answer["ui"]["text"][0]
    answer = place.node("CVL_SearchImages").search(load(), "pictures", "a red circle", 1, precision="bf16")
    assert "and the query with" not in answer["ui"]["text"][0]
    scores = json.loads(answer["result"][2])
    assert scores["index_precision"] == "bf16" and scores["precision"]["text_moved"] > 0


# one scan for a prompt


def scans(monkeypatch):
    asked, real = [], indexing.scan

    def counted(*arguments, **options):
        asked.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(indexing, "scan", counted)
    monkeypatch.setattr(updating, "scan", counted)
    return asked


ASKED = {"folder": "output", "subfolder": "shapes", "index": "pictures", "recursive": True}


def test_a_folder_is_scanned_once_for_a_prompt(place, load, output, monkeypatch):
    asked, node = scans(monkeypatch), place.node("CVL_IndexFolder")
    node.IS_CHANGED(**ASKED)
    assert index(place, load())[0]["new"] == 3 and len(asked) == 1
    index(place, load())
    assert len(asked) == 2  # a scan serves one run


@pytest.mark.parametrize("more", [{"after": 1}, {"image": torch.rand(1, 8, 8, 3)}])
def test_where_pictures_may_have_come_since_the_folder_is_scanned_again(place, load, output, monkeypatch, more):
    asked, node = scans(monkeypatch), place.node("CVL_IndexFolder")
    node.IS_CHANGED(**ASKED)
    (output / "red_circle.png").write_bytes((output / "blue_star.png").read_bytes())
    assert index(place, load(), **more)[0]["new"] == 3 + ("image" in more) and len(asked) == 2


def test_a_picture_that_came_after_the_scan_is_seen(place, load, output, monkeypatch):
    node = place.node("CVL_IndexFolder")
    node.IS_CHANGED(**ASKED)
    (output / "below").mkdir()
    shutil.copy(output / "red_circle.png", output / "below" / "more.png")
    assert index(place, load())[0]["new"] == 4
    node.IS_CHANGED(**{**ASKED, "subfolder": None})  # linked: nobody knows which folder it will be
    assert index(place, load())[0]["unchanged"] == 4


# numbers that are none


@pytest.mark.parametrize("node", ["CVL_RankImages", "CVL_ImageGate"])
def test_where_every_score_is_nan_a_sentence_says_so(place, load, shapes, node, monkeypatch):
    method, asked, _ = JUDGES[node]
    monkeypatch.setattr(judging.ranking, "prompt_scores", lambda found, *_, **__: torch.full((len(found),), math.nan))
    with pytest.raises(ValueError, match="no picture of this batch has a score"):
        getattr(place.node(node), method)(load(), shapes, *asked)


@pytest.mark.parametrize("node", JUDGES)
def test_texts_without_numbers_are_refused_by_name(place, load, shapes, node):
    method, asked, _ = JUDGES[node]
    model = load()
    with torch.no_grad():
        model.network.text_model.final_layer_norm.weight.fill_(math.inf)
    with pytest.raises(ValueError, match=r"NaN \(not a number\) features of .*it overflowed; load the model with"):
        getattr(place.node(node), method)(model, shapes, *asked)
