"""What a plan trains: encoders, blocks, LoRAs, and how fast each."""

import pytest

from clip_vae_lora.training.clip.plan import ClipPlan
from clip_vae_lora.training.clip.presets import PRESETS, plan_of
from clip_vae_lora.training.clip.targets import ClipTargetError, lora_layers, rates, trained_parameters

from .tiny_batch import towers

MODEL = towers().model


def _names(**changes) -> set[str]:
    return set(trained_parameters(MODEL, ClipPlan(**changes)))


def test_all_of_both_encoders_and_the_scale_learn_by_default():
    assert _names() == {name for name, _ in MODEL.named_parameters()}


def test_a_locked_encoder_learns_nothing():
    assert not [name for name in _names(towers="text") if name.startswith(("vision_model", "visual_projection"))]
    assert not [name for name in _names(towers="image") if name.startswith(("text_model", "text_projection"))]
    assert {"logit_scale", "text_projection.weight"} <= _names(towers="text")
    assert "logit_scale" not in _names(towers="text", train_scale=False)


def test_the_last_blocks_go_with_their_norm_and_projection():
    found = {name for name in _names(blocks="1") if not name.startswith("logit")}
    assert all(
        ".layers.1." in n or "final_layer_norm" in n or "post_layernorm" in n or "projection" in n for n in found
    )
    assert {"vision_model.encoder.layers.1.mlp.fc1.weight", "text_projection.weight"} <= found


def test_blocks_are_chosen_by_name_and_a_name_that_fits_nothing_is_refused():
    found = _names(blocks="vision_model.encoder.layers.0.*", train_scale=False)
    assert found and all(name.startswith("vision_model.encoder.layers.0.") for name in found)
    with pytest.raises(ClipTargetError, match="fits no name"):
        _names(blocks="vision_model.encoder.layers.7.*")


def test_a_lora_stands_beside_queries_keys_and_values_of_both_encoders():
    found = lora_layers(MODEL, plan_of("CLIP-LoRA", {}))
    assert len(found) == 2 * 2 * 3 and all(name.endswith(("q_proj", "k_proj", "v_proj")) for name in found)
    assert {name.partition(".")[0] for name in lora_layers(MODEL, plan_of("CLIP-LoRA", {"towers": "text"}))} == {
        "text_model"
    }


def test_lower_layers_learn_more_slowly_by_one_factor_for_each_block_above_them():
    names = [name for name, _ in MODEL.named_parameters()]
    found = rates(MODEL, names, 0.5)
    assert "logit_scale" not in found and "text_projection.weight" not in found
    assert found["vision_model.encoder.layers.1.mlp.fc1.weight"] == 0.5
    assert found["vision_model.encoder.layers.0.mlp.fc1.weight"] == 0.25
    assert found["vision_model.embeddings.class_embedding"] == found["vision_model.pre_layrnorm.weight"] == 0.125
    assert found["text_model.embeddings.token_embedding.weight"] == 0.125
    assert not rates(MODEL, names, 1.0)


def test_recipes_have_their_published_numbers():
    lora, flyp = plan_of("CLIP-LoRA", {}), plan_of("FLYP", {})
    assert (lora.rank, lora.alpha, lora.dropout, lora.lr, lora.batch) == (2, 1.0, 0.25, 2e-4, 32)
    assert lora.lr * lora.floor == pytest.approx(1e-6) and lora.steps_for(1000, 16) == 500 * 16
    assert (flyp.lr, flyp.weight_decay, flyp.warm_up, flyp.steps_for(2560, 0)) == (1e-5, 0.1, 500, 100)
    assert plan_of("LiT", {}).towers == "text" and set(PRESETS) >= {"FLYP", "CLIP-LoRA", "LiT", "from-scratch-small"}


def test_a_recipes_batch_is_no_larger_than_the_data_but_a_batch_asked_for_stays():
    assert plan_of("FLYP", {}, 40).batch == 40 and plan_of("FLYP", {"batch": 64}, 40).batch == 64


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"batch": 1},
        {"held_out": 1.0},
        {"loss": "hinge"},
        {"floor": 2.0},
        {"epochs": 0.0},
        {"layers": "all"},
        {"precision": "int8"},
        {"lr": float("nan")},
    ],
)
def test_numbers_that_cannot_be_followed_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClipPlan(**wrong)
