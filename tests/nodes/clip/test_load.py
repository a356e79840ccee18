"""The kinds of CLIP that Load CLIP Model reads, and what it finds beside the weights."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from clip_vae_lora.clip_core.config import PUBLISHED, CLIPConfig, ResNetConfig, to_metadata
from clip_vae_lora.clip_core.networks.clip import CLIP
from clip_vae_lora.clip_core.networks.layers import UNFILLED
from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.nodes.host import host

from ...support import tiny
from ...support.files.archives import write_archive

RESNET = CLIPConfig(tiny.CLIP_CONFIG.text, ResNetConfig(8, (1, 2, 1, 1), 4, 64, 32))
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


def resnet_state() -> dict[str, torch.Tensor]:
    state = tiny.seeded(CLIP(RESNET))
    return {name: tensor.abs() + 0.5 if name.endswith("running_var") else tensor for name, tensor in state.items()}


def load(place, name: str, **inputs):
    """The model and its report."""
    model, report, *_ = place.node("CVL_LoadCLIPModel").load(name, **inputs)["result"]
    return model, json.loads(report)


def features(model) -> torch.Tensor:
    network = host.clip_network(model)
    side = network.config.vision.image_px
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.image_features(pixels)


@pytest.fixture
def folder(place):
    """A Hugging Face folder with a tiny CLIP in it; returns what writes a document beside the weights."""
    made = place.models / "clip_vision" / "some-clip"
    made.mkdir()
    tiny.clip_file(made / "model.safetensors")

    def beside(name: str, document) -> None:
        (made / name).write_text(json.dumps(document))

    return beside


def test_a_resnet_is_loaded_and_classifies(place):
    write_tensors(place.models / "clip_vision" / "rn.safetensors", resnet_state(), to_metadata(RESNET))
    model, report = load(place, "rn.safetensors")
    assert report["vision"] == {"blocks": [1, 2, 1, 1], "width": 8, "heads": 4, "image_px": 64}
    image = torch.rand(1, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    best, probabilities, *_ = place.node("CVL_ZeroShotClassify").classify(model, image, "a\nb", "a {label}")["result"]
    assert best in ("a", "b") and json.loads(probabilities)["labels"] == ["a", "b"]


def test_a_lora_reaches_a_resnet(place):
    """Convolutions and the pooling by OpenAI's names; "vision" selects them."""
    write_tensors(place.models / "clip_vision" / "rn.safetensors", resnet_state(), to_metadata(RESNET))
    names = {"visual.layer4.0.conv3": (256, 64, 1, 1), "visual.attnpool.v_proj": (256, 256)}
    tensors = {}
    for name, (out, inside, *kernel) in names.items():
        tensors[f"{name}.lora_A.weight"] = torch.full((2, inside, *kernel), 0.1)
        tensors[f"{name}.lora_B.weight"] = torch.full((out, 2, *kernel), 0.1)
    write_tensors(place.models / "loras" / "l.safetensors", tensors, {})
    model = load(place, "rn.safetensors")[0]
    node = place.node("CVL_LoadLoRA")
    changed, report = (node.load("l.safetensors", 1.0, 1.0, clip_model=model)["result"][place] for place in (3, 2))
    assert list(json.loads(report)["blocks"]) == ["vision"]
    before, after = (host.clip_network(found).state_dict() for found in (model, changed))
    assert {name for name in before if not before[name].equal(after[name])} == {
        f"{name.replace('visual', 'vision_model')}.weight" for name in names
    }
    assert not torch.allclose(features(model), features(changed))
    off = node.load("l.safetensors", 1.0, 1.0, clip_model=model, blocks="vision: 0")["result"][3]
    assert features(off).equal(features(model))


@pytest.mark.parametrize("kind", ["transformer", "resnet"])
def test_an_archive_gives_the_features_of_the_same_tensors_in_a_plain_file(place, kind):
    state = tiny.seeded(CLIP(tiny.CLIP_CONFIG)) if kind == "transformer" else resnet_state()
    state = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in state.items()}  # as in OpenAI's
    write_archive(place.models / "clip_vision" / "openai.pt", state)
    write_tensors(place.models / "clip_vision" / "plain.safetensors", state, {})
    (ours, report), (plain, _) = load(place, "openai.pt"), load(place, "plain.safetensors", activation="quick_gelu")
    assert features(ours).equal(features(plain))
    assert report["activation"] == "quick_gelu" and report["ignored"] == [
        "context_length",
        "input_resolution",
        "vocab_size",
    ]
    assert "after its kind, the archives that OpenAI published: quick_gelu" in report["notes"]
    assert load(place, "openai.pt", activation="gelu")[1]["activation"] == "gelu"


def test_the_heads_are_the_users_choice_and_change_the_features(place):
    tiny.clip_file(place.models / "clip_vision" / "a.safetensors")
    (auto, report), (two, chosen) = load(place, "a.safetensors"), load(place, "a.safetensors", heads=2)
    assert (report["vision"]["heads"], chosen["vision"]["heads"]) == (1, 2)
    assert not torch.allclose(features(auto), features(two))
    with pytest.raises(ValueError, match="image encoder: 7 heads cannot share a width of 64; choose heads that divide"):
        load(place, "a.safetensors", heads=7)


def test_a_config_of_hugging_face_tells_activation_heads_and_colours(place, folder):
    folder(
        "config.json",
        {"text_config": {"hidden_act": "gelu"}, "vision_config": {"hidden_size": 64, "num_attention_heads": 4}},
    )
    folder(
        "preprocessor_config.json",
        {
            "image_mean": [0.5] * 3,
            "image_std": [0.25] * 3,
            "do_center_crop": False,
            "size": {"height": 32, "width": 32},
        },
    )
    model, report = load(place, "some-clip/model.safetensors")
    assert (report["activation"], report["vision"]["heads"]) == ("gelu", 4)
    assert report["preprocess"] == {"resize": "squash", "mean": [0.5] * 3, "std": [0.25] * 3}
    assert "after config.json: gelu, 4 heads" in report["notes"]
    assert "after preprocessor_config.json: mean 0.5, 0.5, 0.5, std 0.25, 0.25, 0.25, squash" in report["notes"]
    assert host.clip_network(model).config.resize == "squash"
    chosen = load(place, "some-clip/model.safetensors", activation="quick_gelu", heads=2)[1]
    assert (chosen["activation"], chosen["vision"]["heads"]) == ("quick_gelu", 2)


def test_a_hugging_face_clip_without_a_word_on_its_activation_has_the_librarys_default(place, folder):
    folder("config.json", {"model_type": "clip", "text_config": {}, "vision_config": {}})
    assert load(place, "some-clip/model.safetensors")[1]["notes"] == ["after config.json: quick_gelu"]


def test_a_config_of_open_clip_tells_all_of_it(place, folder):
    vision = {"width": 64, "layers": 2, "head_width": 16, "image_size": 32, "patch_size": 8}
    pictures = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    folder(
        "open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": vision}, "preprocess_cfg": pictures}
    )
    folder("config.json", {"text_config": {"hidden_act": "gelu"}})
    report = load(place, "some-clip/model.safetensors")[1]
    assert (report["activation"], report["vision"]["heads"]) == ("quick_gelu", 4)
    assert report["preprocess"]["resize"] == "squash"
    assert any("asks for 'bilinear' as interpolation" in note for note in report["notes"])


def test_a_config_of_another_model_in_the_same_folder_is_left_out(place, folder):
    folder("config.json", {"text_config": {"hidden_act": "gelu"}, "vision_config": {"hidden_size": 1280}})
    folder("preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    report = load(place, "some-clip/model.safetensors")[1]
    assert report["activation"] == "quick_gelu" and report["preprocess"]["mean"][0] != 0.5
    assert any(note.startswith("config.json is not about this model (width 1280, here 64)") for note in report["notes"])


@pytest.mark.parametrize(
    ("name", "document", "says"),
    [
        ("config.json", {"text_config": ["gelu"]}, "config.json: its text_config should be an object"),
        ("config.json", {"vision_config": "x"}, "config.json: its vision_config should be an object"),
        ("config.json", {"vision_config": {"num_attention_heads": "x"}}, "its num_attention_heads should be a whole"),
        ("config.json", ["x"], "config.json: a JSON object"),
        ("open_clip_config.json", {"model_cfg": 3}, "open_clip_config.json: its model_cfg should be an object"),
        ("open_clip_config.json", {"preprocess_cfg": {"mean": [1, 2]}}, "its mean should be three numbers"),
        ("open_clip_config.json", {"preprocess_cfg": {"std": [1, 0, 1]}}, "its std should be three numbers"),
    ],
)
def test_a_config_that_does_not_say_it_properly_is_refused_in_a_sentence(place, folder, name, document, says):
    folder(name, document)
    with pytest.raises(ValueError) as caught:
        load(place, "some-clip/model.safetensors")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_text_loader_says_the_same_of_a_bad_config(place):
    folder = place.models / "text_encoders" / "some-clip"
    folder.mkdir()
    write_tensors(folder / "model.safetensors", tiny.text_state(), {})
    (folder / "config.json").write_text(json.dumps({"text_config": 5}))
    with pytest.raises(ValueError, match="config.json: its text_config should be an object"):
        place.node("CVL_LoadTextEncoder").load("some-clip/model.safetensors")


def test_a_header_of_ours_is_believed_before_the_files_beside_it(place, folder):
    config = replace(tiny.CLIP_CONFIG, resize="squash")
    path = place.models / "clip_vision" / "some-clip" / "ours.safetensors"
    write_tensors(path, tiny.seeded(CLIP(config)), to_metadata(config))
    folder("config.json", {"text_config": {"hidden_act": "gelu"}})
    report = load(place, "some-clip/ours.safetensors")[1]
    assert (report["activation"], report["preprocess"]["resize"], report["notes"]) == ("quick_gelu", "squash", [])
    chosen = load(place, "some-clip/ours.safetensors", activation="gelu", heads=2)[1]
    assert (chosen["activation"], chosen["vision"]["heads"]) == ("gelu", 2)


@pytest.mark.parametrize(
    ("name", "activation", "resize"),
    [
        ("DFN5B-CLIP-ViT-H-14.safetensors", "quick_gelu", "squash"),
        ("DFN2B-CLIP-ViT-L-14-39B.safetensors", "gelu", "crop"),
        ("h14_fullcc2.5b.safetensors", "quick_gelu", "crop"),
        ("h14_v1.2_altogether.safetensors", "gelu", "crop"),
        ("vit_b_32-quickgelu-laion400m_e31-d867053b.safetensors", "quick_gelu", "crop"),
        ("vit_b_16-laion400m_e32-55e67d44.safetensors", "gelu", "crop"),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K.safetensors", "gelu", "crop"),
        ("ViT-L-14-openai.safetensors", "quick_gelu", "crop"),
    ],
)
def test_the_name_of_published_weights_is_a_hint_that_is_announced(place, name, activation, resize):
    tiny.clip_file(place.models / "clip_vision" / name)
    report = load(place, name)[1]
    assert (report["activation"], report["preprocess"]["resize"]) == (activation, resize)
    assert [note for note in report["notes"] if note.startswith("after its name, which is that of ")]
    other = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[activation]
    assert load(place, name, activation=other)[1]["activation"] == other


def test_every_part_of_a_model_in_parts_stands_for_the_whole(place):
    folder = place.models / "clip_vision" / "parts"
    folder.mkdir()
    state = tiny.seeded(CLIP(tiny.CLIP_CONFIG))
    names = sorted(state)
    where = {name: f"model-0000{1 + (place % 2)}-of-00002.safetensors" for place, name in enumerate(names)}
    for part in sorted(set(where.values())):
        save_file({name: state[name] for name in names if where[name] == part}, folder / part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    tiny.clip_file(place.models / "clip_vision" / "whole.safetensors")
    expected = features(load(place, "whole.safetensors")[0])
    for part in sorted(set(where.values())):
        model, report = load(place, f"parts/{part}")
        assert features(model).equal(expected) and report["file"] == "model.safetensors.index.json"


def test_a_changed_config_is_read_again(place, folder):
    node, name = place.node("CVL_LoadCLIPModel"), "some-clip/model.safetensors"
    before = node.IS_CHANGED(name)
    folder("config.json", {"text_config": {"hidden_act": "gelu"}})
    assert node.IS_CHANGED(name) != before


def test_the_published_dfn_of_378_px_squashes():
    """The one size of which only one was published."""
    from clip_vae_lora.clip_core.checkpoint.find import find_clip

    config = PUBLISHED["ViT-H-14-378"]
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in CLIP(config, UNFILLED).state_dict().items()}
    source = find_clip(shapes)
    assert (source.config.resize, source.config.text.activation, source.notes) == ("squash", "quick_gelu", ())
