"""`cvl doctor`: files told by their headers, damage named, and pairs of files that do not go together."""

import json

import pytest
import torch

from clip_vae_lora.files.tensors import write_tensors
from clip_vae_lora.headless import cvl
from clip_vae_lora.nodes.catalog import BUNDLED_FOLDER
from clip_vae_lora.nodes.doctor.files import facts_of_file

FLUX = {"double_blocks.0.img_attn.qkv.weight": (6, 2), "double_blocks.0.img_attn.proj.weight": (2, 2)}
WAN = {f"blocks.0.{name}.weight": (2, 2) for name in ("self_attn.q", "cross_attn.o")} | {
    "time_projection.1.weight": (2, 2)
}
SD1 = {"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (2, 768)}
SDXL = {"input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (2, 2048)}
T5, UMT5 = {"shared.weight": (8, 4096)}, {"shared.weight": (200_001, 1)}
CLIP_L, CLIP_G = (
    {"text_model.embeddings.token_embedding.weight": (4, width), "text_model.x.weight": (1, 1)} for width in (768, 1280)
)
LORA_SDXL = {
    f"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.{half}.weight": shape
    for half, shape in (("lora_up", (4, 2)), ("lora_down", (2, 2048)))
}


@pytest.fixture
def file(tmp_path):
    def made(name: str, shapes: dict, front: str = ""):
        path = tmp_path / f"{name}.safetensors"
        tensors = {front + key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
        write_tensors(path, tensors, {})
        return path

    return made


def run(capsys, *arguments) -> tuple[int, dict]:
    code = cvl.main(["doctor", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("front", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize(("shapes", "family"), [(FLUX, "Flux"), (WAN, "Wan"), (SD1, "SD 1"), (SDXL, "SDXL")])
def test_a_model_is_told_by_its_header(shapes, family, front, file):
    (one,) = facts_of_file(file("model", shapes, front), "model")
    assert one.kind == "MODEL" and one.family == family


@pytest.mark.parametrize(
    ("shapes", "title"),
    [(T5, "T5-XXL"), (CLIP_L, "CLIP-L"), (CLIP_G, "CLIP-G"), (CLIP_L | T5, "CLIP-L and T5-XXL")],
)
def test_a_text_encoder_is_told_by_its_table(shapes, title, file):
    (one,) = facts_of_file(file("text", shapes), "text")
    assert one.kind == "CLIP" and one.title == title and one.text.kinds


def test_the_bundled_files_are_what_they_are(capsys):
    code, document = run(
        capsys, *(BUNDLED_FOLDER / f"tiny_{name}.safetensors" for name in ("vae", "clip_stripes_lora"))
    )
    assert code == 0 and [thing["kind"] for thing in document["things"]] == ["VAE", "LoRA"]
    assert all(thing["whole"] for thing in document["things"])


def test_a_whole_checkpoint_is_several_things(file):
    vae = {"decoder.conv_in.weight": (8, 4, 3, 3)}
    shapes = {**{f"model.diffusion_model.{key}": shape for key, shape in SD1.items()}}
    shapes |= {f"cond_stage_model.transformer.{key}": shape for key, shape in CLIP_L.items()} | vae
    assert [one.kind for one in facts_of_file(file("all", shapes), "all")][:1] == ["MODEL"]
    assert "CLIP" in [one.kind for one in facts_of_file(file("all", shapes), "all")]


def test_files_that_go_together_end_with_0(capsys, file):
    code, document = run(capsys, file("flux", FLUX), file("t5", T5), file("clip", CLIP_L))
    assert code == 0 and document["fits"]
    assert "Flux" in document["things"][1]["goes_with"]


def test_files_that_do_not_go_together_end_with_1_and_are_named(capsys, file):
    model, lora = file("sd1", SD1), file("sdxl_lora", LORA_SDXL)
    code, document = run(capsys, model, lora)
    assert code == 1 and document["misfits"][0]["between"] == [str(model), str(lora)]
    code, document = run(capsys, file("wan", WAN), file("t5", T5))
    assert code == 1 and "UMT5" in document["misfits"][0]["problem"]


def test_damage_is_named_and_ends_with_2(capsys, file):
    path = file("cut", FLUX)
    path.write_bytes(path.read_bytes()[:-8])
    code, document = run(capsys, path)
    assert code == 2 and not document["things"][0]["whole"] and document["misfits"]


def test_what_is_no_file_of_weights_or_not_there_ends_with_2(capsys, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    assert run(capsys, tmp_path / "note.txt")[0] == 2
    code, document = run(capsys, tmp_path / "gone.safetensors")
    assert code == 2 and "gone.safetensors" in document["error"]


def test_people_get_a_line_for_each_file(capsys, file):
    assert cvl.main(["doctor", str(file("flux", FLUX))]) == 0
    said = capsys.readouterr().out
    assert "MODEL, Flux" in said and "goes with: the VAE of Flux.1" in said and "✓ whole" in said
