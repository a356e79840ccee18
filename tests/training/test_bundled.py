"""The bundled weights, as stored, on pictures drawn anew from a seed that no training used."""

from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.tokenizer import Tokenizer
from clip_vae_lora.files.tensors import open_tensors
from clip_vae_lora.training.bundled import FILES, KINDS, TEST_SEED, plan_of
from clip_vae_lora.training.fidelity import vae_scores
from clip_vae_lora.training.generation import generate, share_right
from clip_vae_lora.training.recipes.adapter import with_adapter
from clip_vae_lora.training.recipes.clip import TABLE, TABLE_DTYPE, read_clip
from clip_vae_lora.training.recipes.diffusion import read_diffusion
from clip_vae_lora.training.recipes.vae import read_vae
from clip_vae_lora.training.scenes.scene import TRAINED, pair_label
from clip_vae_lora.training.scores import clip_scores, recall_scores, texture_score

MODELS = Path(__file__).resolve().parents[2] / "models"
PATHS = {kind: MODELS / name for kind, name in FILES.items()}


@pytest.fixture(scope="module")
def base():
    return read_clip(PATHS["clip"])


@pytest.fixture(scope="module")
def base_scores(base) -> dict[str, float]:
    return clip_scores(base, Tokenizer(), TEST_SEED, 500)


def test_all_bundled_models_together_are_at_most_sixteen_megabytes():
    assert sum(path.stat().st_size for path in MODELS.iterdir() if path.is_file()) <= 16_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_tells_its_own_story(kind: str):
    with open_tensors(PATHS[kind]) as file:
        story = file.metadata
    plan = plan_of(kind)
    assert story["format"] == "pt"
    assert story["licence"] == "MIT"
    assert (story["steps"], story["seed"]) == (str(plan.steps), str(plan.seed))  # the recipe is the one it was made by
    assert {"command", "data", "objective", "batch", "precision"} <= story.keys()
    assert any(key.startswith("score: ") for key in story)


def test_the_token_table_has_every_token_in_eight_bits():
    with open_tensors(PATHS["clip"]) as file:
        assert file.shapes[TABLE][0] == 49408
        assert file.dtypes[TABLE] == TABLE_DTYPE
        assert {dtype for name, dtype in file.dtypes.items() if name != TABLE} == {torch.float16}


@pytest.mark.slow
def test_the_clip_names_held_out_pictures(base_scores: dict[str, float]):
    assert base_scores["trained pairs"] >= 0.95  # 1 of 90


@pytest.mark.slow
def test_a_held_out_picture_finds_its_caption_among_two_hundred_and_the_other_way_round(base):
    assert min(recall_scores(base, Tokenizer(), TEST_SEED).values()) >= 0.9


@pytest.mark.slow
def test_the_vae_gives_held_out_pictures_back():
    scores = vae_scores(read_vae(PATHS["vae"]), TEST_SEED, 8)
    assert scores["scenes, 256 px"] >= 32.0  # dB
    assert scores["latent deviation, weakest channel"] >= 0.1  # the noise has 0.05: every channel carries something


@pytest.mark.slow
def test_the_diffusion_model_draws_what_a_prompt_asks_for(base):
    """By a reading of the pixels that no training used; the page has the scores of 200 prompts."""
    model, vae = read_diffusion(PATHS["diffusion"]), read_vae(PATHS["vae"])
    pairs = TRAINED[::4]
    texts = [f"a photo of a {pair_label(pair)}" for pair in pairs]
    assert share_right(generate(model, base, vae, texts, TEST_SEED), pairs) >= 0.8  # of twenty; chance: 1 of 90


@pytest.mark.slow
def test_the_lora_teaches_stripes_and_keeps_the_old_labels(base, base_scores: dict[str, float]):
    tokenizer, taught = Tokenizer(), with_adapter(base, PATHS["lora"])
    assert 0.4 < texture_score(base, tokenizer, TEST_SEED, 500) < 0.6  # chance
    assert texture_score(taught, tokenizer, TEST_SEED, 500) >= 0.95
    assert clip_scores(taught, tokenizer, TEST_SEED, 500)["trained pairs"] >= base_scores["trained pairs"] - 0.02


def test_the_lora_has_at_most_three_percent_of_the_numbers_outside_the_token_table(base):
    with open_tensors(PATHS["lora"]) as file:
        trained = sum(torch.Size(shape).numel() for name, shape in file.shapes.items() if not name.endswith(".alpha"))
    outside = sum(weight.numel() for name, weight in base.named_parameters() if name != TABLE)
    assert trained / outside <= 0.03
