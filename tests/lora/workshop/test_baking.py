"""LoRAs baked into a checkpoint: each tensor of the file with its change, in the layouts of real checkpoints."""

import pytest
import torch

from clip_vae_lora.lora.kinds.adapters import LoRAError
from clip_vae_lora.lora.kinds.magnitude import DoRA
from clip_vae_lora.lora.models.published import PUBLISHED
from clip_vae_lora.lora.workshop.checkpoint import checkpoint_of
from clip_vae_lora.lora.workshop.editing.baking import baked, plan_baking
from clip_vae_lora.lora.workshop.gathering import gather

from ...support.loras.shop import CONVOLUTION, QUERY, SD1, TEXT, dense, lora_of, plain, random, relative, source_of

SDXL = PUBLISHED["SDXL"][1]()
_LAYER = "clip_g.transformer.text_model.encoder.layers.3."
BIG_QUERY, BIG_VALUE, BIG_MLP = (
    f"{_LAYER}{name}.weight" for name in ("self_attn.q_proj", "self_attn.v_proj", "mlp.fc1")
)


def sd1_names():
    """The names of a CompVis checkpoint with their shapes."""
    fronts = (("diffusion_model.", "model.diffusion_model."), ("clip_l.transformer.", "cond_stage_model.transformer."))
    return {
        new + key.removeprefix(old): shape for key, shape in SD1.items() for old, new in fronts if key.startswith(old)
    }


def test_a_compvis_checkpoint_has_every_weight_of_the_model():
    names = sd1_names() | {"first_stage_model.encoder.conv_in.weight": (128, 3, 3, 3), "alphas_cumprod": (1000,)}
    found = checkpoint_of(names)
    assert found.shapes == {key: tuple(shape) for key, shape in SD1.items()}
    assert {spot.name for spot in found.spots.values()} == set(sd1_names())


def test_each_tensor_gets_the_change_of_all_files_at_their_strengths_and_others_stay():
    checkpoint = checkpoint_of(sd1_names())
    sources = [
        plain(4, 0, strength_model=0.7, strength_clip=0.4),
        source_of({QUERY: DoRA(lora_of(SD1[QUERY]), random(320, 1).abs())}, name="dora", strength_model=0.5),
    ]
    gathered = gather(sources, checkpoint.shapes, weights=True)
    plan = plan_baking(gathered, checkpoint)
    weights = {key: random(*SD1[key], seed=3) for key in (QUERY, CONVOLUTION, TEXT)}
    for key in (CONVOLUTION, TEXT):
        changed = baked(plan, checkpoint.spots[key].name, weights[key])
        assert (
            relative(changed - weights[key], dense(sources[0])[key]) < 1e-4
        )  # of a small change beside a large weight
    lora = dense(sources[0])[QUERY].float()
    dora = sources[1].file.adapters[next(iter(sources[1].file.adapters))]
    expected = weights[QUERY] + lora + dora.delta(weights[QUERY] + lora) * 0.5
    assert relative(baked(plan, checkpoint.spots[QUERY].name, weights[QUERY]), expected) < 1e-6
    other = random(4)
    assert baked(plan, "first_stage_model.x", other) is other


def test_open_clips_fused_attention_gets_the_changes_of_q_and_v_in_their_rows():
    front = "conditioner.embedders.1.model.transformer.resblocks.3."
    names = {
        f"{front}attn.in_proj_weight": (3840, 1280),
        f"{front}attn.in_proj_bias": (3840,),
        f"{front}attn.out_proj.weight": (1280, 1280),
        f"{front}mlp.c_fc.weight": (5120, 1280),
        "conditioner.embedders.1.model.token_embedding.weight": (49408, 1280),
    }
    checkpoint = checkpoint_of(names)
    source = source_of(
        {key: lora_of(SDXL[key], 2, seed=n) for n, key in enumerate((BIG_QUERY, BIG_VALUE, BIG_MLP))}, shapes=SDXL
    )
    plan = plan_baking(gather([source], checkpoint.shapes), checkpoint)
    found = baked(plan, f"{front}attn.in_proj_weight", torch.zeros(3840, 1280))
    changes = dense(source, SDXL)
    assert relative(found[:1280], changes[BIG_QUERY]) < 1e-6 and not found[1280:2560].any()
    assert relative(found[2560:], changes[BIG_VALUE]) < 1e-6
    assert relative(baked(plan, f"{front}mlp.c_fc.weight", torch.zeros(5120, 1280)), changes[BIG_MLP]) < 1e-6


def test_the_projection_that_open_clip_keeps_transposed_is_changed_as_it_lies():
    name, key = "conditioner.embedders.1.model.text_projection", "clip_g.transformer.text_projection.weight"
    checkpoint = checkpoint_of({name: (1280, 1280)})
    source = source_of({key: lora_of((1280, 1280), 2)}, shapes=SDXL)
    plan = plan_baking(gather([source], checkpoint.shapes), checkpoint)
    found = baked(plan, name, torch.zeros(1280, 1280))
    assert relative(found.T, dense(source, SDXL)[key]) < 1e-6


@pytest.mark.parametrize("front", ["", "model.diffusion_model.", "diffusion_model."])
def test_a_diffusion_model_with_any_front_is_known(front):
    names = {front + key.removeprefix("diffusion_model."): s for key, s in SD1.items() if key.startswith("diffusion")}
    assert QUERY in checkpoint_of(names).shapes


def test_the_sum_is_rounded_once_to_the_tensors_type():
    checkpoint = checkpoint_of(sd1_names())
    sources = [plain(4, n, places=(QUERY,)) for n in range(3)]
    plan = plan_baking(gather(sources, checkpoint.shapes), checkpoint)
    weight = random(*SD1[QUERY]).half()
    exact = weight.double() + sum(dense(source)[QUERY] for source in sources)
    found = baked(plan, checkpoint.spots[QUERY].name, weight)
    assert found.dtype == torch.float16 and (found - exact.half()).abs().max() <= 2e-3  # a step at the values near 2-4
    assert (found == exact.half()).float().mean() > 0.999


def test_strengths_of_0_and_numbers_too_large_for_the_type_are_said():
    checkpoint = checkpoint_of(sd1_names())
    with pytest.raises(LoRAError, match="would stay as it is"):
        plan_baking(gather([plain(2, 0, strength_model=0, strength_clip=0)], checkpoint.shapes), checkpoint)
    huge = source_of({QUERY: lora_of(SD1[QUERY], alpha=1e5)})
    plan = plan_baking(gather([huge], checkpoint.shapes), checkpoint)
    with pytest.raises(LoRAError, match="float16 cannot"):
        baked(plan, checkpoint.spots[QUERY].name, torch.full(SD1[QUERY], 65504.0).half())
