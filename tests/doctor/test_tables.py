"""The Doctor's tables: they agree with one another, and with those of the cores."""

import pytest

from clip_vae_lora.doctor.facts import Shape
from clip_vae_lora.doctor.models import LORA_KIN, MODELS, family_of_host, takes_loras_of, texts_of
from clip_vae_lora.doctor.spaces import SPACES, space_of_format, spaces_of_vae
from clip_vae_lora.doctor.texts import TEXTS, read_as, text_of_class
from clip_vae_lora.vae_core.config import FAMILIES as VAE_FAMILIES


@pytest.mark.parametrize("family", MODELS)
def test_a_family_works_on_latents_and_reads_texts_that_have_rows(family):
    row = MODELS[family]
    assert row.space in SPACES and set(row.beside) <= set(SPACES) and set(row.texts) <= {*TEXTS, "gemma3"}
    assert all(family_of_host(host) == family for host in row.hosts)


def test_no_name_of_the_host_stands_twice():
    for names in (
        [host for row in MODELS.values() for host in row.hosts],
        [name for space in SPACES.values() for name in space.formats],
        [name for row in TEXTS.values() for name in row.classes],
    ):
        assert len(names) == len(set(names))


def test_what_an_encoder_gives_is_read_by_a_model():
    read = {kind for row in MODELS.values() for kind in row.texts}
    assert {read_as(kind) for kind in TEXTS} <= read


def test_kin_are_families_of_models():
    assert all(kin <= set(MODELS) for kin in LORA_KIN)


def test_the_spaces_have_the_shapes_that_the_vae_core_says():
    same = {"sd1": "sd1", "sdxl": "sdxl", "sd3": "sd3", "flux": "flux", "flux2": "flux2", "sd_x4": "upscaler"}
    for space, family in same.items():
        known = VAE_FAMILIES[family]
        assert SPACES[space].shape == Shape(known.latent, 2, known.px_per_cell)


def test_names_are_found_and_others_are_not():
    assert space_of_format("Flux") == "flux" and space_of_format("Another") is None
    assert spaces_of_vae("WanVAE", Shape(48, 3, 16)) == ("wan22",) and spaces_of_vae("Another", Shape(4, 2, 8)) == ()
    assert text_of_class("SD3ClipModel_") == "sd3" and text_of_class("Another") is None
    assert family_of_host("Another") is None


def test_the_width_tells_which_of_several_texts_a_model_reads():
    assert texts_of("Flux", 4096) == ("t5",) and texts_of("Flux", 2048) == ("qwen3_2b",)
    assert texts_of("Flux", 40) == ("t5", "qwen3_2b")  # a tiny one: it may be either


def test_loras_go_on_models_of_their_own_kin_only():
    assert takes_loras_of("Chroma", ["Flux"]) and takes_loras_of("Wan 2.2 5B", ["Wan"])
    assert not takes_loras_of("SDXL", ["SD 1"]) and not takes_loras_of("Flux", ["Flux.2"])
