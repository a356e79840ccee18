"""The recipes' starting points, and that the files they write are read by the cores' own readers."""

from pathlib import Path

import pytest
import torch

from clip_vae_lora.clip_core.checkpoint.find import find_clip
from clip_vae_lora.clip_core.config import CLIPConfig, TextConfig, VisionConfig
from clip_vae_lora.files.images import read_image
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.training.examples import STRIPED, example_pictures, striped_things
from clip_vae_lora.training.fidelity import round_trip
from clip_vae_lora.training.loop import TrainingPlan
from clip_vae_lora.training.recipes.adapter import stored_adapter, train_adapter, with_adapter
from clip_vae_lora.training.recipes.clip import (
    TABLE,
    TABLE_DTYPE,
    grey_share,
    grid_waves,
    new_clip,
    read_clip,
    stored_clip,
    train_clip,
)
from clip_vae_lora.training.recipes.vae import CONFIG, new_vae, read_vae, stored_vae, train_decoder_
from clip_vae_lora.training.scenes.reading import read_picture, shows_stripes
from clip_vae_lora.training.scenes.scene import SHAPES
from clip_vae_lora.training.scenes.textures import KINDS
from clip_vae_lora.vae_core.checkpoint.find import find_vae
from clip_vae_lora.vae_core.quality import psnr_db

SMALL = CLIPConfig(TextConfig(64, 1, 1, 256, 32), VisionConfig(64, 1, 1, 256, 16, 32, 32))


def test_the_autoencoder_starts_as_a_linear_one_that_keeps_flat_colours():
    flat = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 64, 64)
    middle = round_trip(new_vae(0), flat)[:, :, 24:40, 24:40]
    assert min(map(psnr_db, flat[:, :, :16, :16], middle)) > 20  # dB; a random start gives about 10


def test_every_channel_of_a_new_autoencoder_carries_something():
    scenes = KINDS["scenes"](8, 64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        deviations = new_vae(0).posterior(scenes * 2 - 1).mean.std(dim=(0, 2, 3))
    assert deviations.min() > 0.1  # the noise has 0.05


def test_the_decoder_learns_on_alone_from_what_the_file_holds():
    model = new_vae(0)
    before = stored_vae(model)
    train_decoder_(model, TrainingPlan(steps=2, seed=1, lr=1e-3, warm_up=0), batch=1, precision=torch.float32)
    after = model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor.float(), after[name])}
    assert changed and all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_new_model_leaves_the_callers_random_state_alone():
    state = torch.random.get_rng_state()
    new_vae(0)
    new_clip(0, SMALL)
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_stored_autoencoder_is_read_as_the_layout_it_says(tmp_path: Path):
    tensors = stored_vae(new_vae(1))
    source = find_vae({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert (source.kind, source.config) == ("kl", CONFIG)
    write_tensors(tmp_path / "vae.safetensors", tensors, {})
    again = read_vae(tmp_path / "vae.safetensors").state_dict()
    assert all(torch.equal(again[name], tensor.float()) for name, tensor in tensors.items())


def test_the_stored_clip_is_read_as_the_layout_it_says_and_its_table_loses_nothing(tmp_path: Path):
    model = new_clip(1, SMALL)
    tensors = stored_clip(model)
    source = find_clip({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    assert source.config.text == SMALL.text
    assert source.config.vision == SMALL.vision
    assert tensors[TABLE].dtype == TABLE_DTYPE
    write_tensors(tmp_path / "clip.safetensors", tensors, {})
    assert torch.equal(read_clip(tmp_path / "clip.safetensors", SMALL).state_dict()[TABLE], model.state_dict()[TABLE])


def test_training_leaves_the_token_table_alone():
    model = train_clip(TrainingPlan(steps=1, seed=4, lr=1e-3), batch=8)
    assert torch.equal(model.state_dict()[TABLE], new_clip(4).state_dict()[TABLE])


def test_patches_start_with_places_that_are_all_different():
    waves = grid_waves(6, 128)
    assert waves.shape == (36, 128)
    assert torch.cdist(waves, waves).add(torch.eye(36) * 9).min() > 0.5


@pytest.mark.parametrize(("done", "share"), [(0.0, 1.0), (0.2, 1.0), (0.35, 0.625), (0.5, 0.25), (1.0, 0.25)])
def test_pictures_get_their_colours_in_the_first_half(done: float, share: float):
    assert grey_share(done) == pytest.approx(share)


def test_a_trained_adapter_written_and_read_changes_the_base_as_injected(tmp_path: Path):
    base = new_clip(2, SMALL)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    made = train_adapter(base, TrainingPlan(steps=2, seed=0, lr=1e-2), batch=8)
    assert all(torch.equal(before[name], tensor) for name, tensor in base.state_dict().items())
    tensors, story = stored_adapter(made.adapters, base, {})
    write_tensors(tmp_path / "lora.safetensors", tensors, story)
    changed = with_adapter(base, tmp_path / "lora.safetensors").state_dict()
    for layer, adapter in made.adapters.items():
        weight = before[f"{layer}.weight"]
        expected = weight + adapter.delta(tuple(weight.shape))
        torch.testing.assert_close(changed[f"{layer}.weight"], expected, rtol=0, atol=2e-5)  # factors kept in 16 bits
    assert made.trained == sum(adapter.up.numel() + adapter.down.numel() for adapter in made.adapters.values())


def test_the_headers_of_an_adapter_name_the_training(tmp_path: Path):
    base = new_clip(2, SMALL)
    made = train_adapter(base, TrainingPlan(steps=1, seed=0, lr=1e-2), batch=4)
    tensors, story = stored_adapter(made.adapters, base, {"seed": "0"})
    write_tensors(tmp_path / "lora.safetensors", tensors, story)
    with open_tensors(tmp_path / "lora.safetensors") as file:
        assert file.metadata["seed"] == "0"
        assert any(key.startswith("ss_") for key in file.metadata)


def test_example_pictures_are_drawn_in_the_size_that_workflows_load():
    for name, picture in example_pictures().items():
        assert name.endswith(".png")
        assert picture.shape == (256, 256, 3)
        assert 0 <= picture.min() <= picture.max() <= 1


def test_the_striped_things_are_those_that_lie_in_the_folder_and_each_shape_is_there_twice():
    folder = Path(__file__).resolve().parents[2] / "example_workflows" / "input" / STRIPED
    made = striped_things()
    assert len(made) == 20 and {path.stem for path in folder.iterdir()} == set(made)
    assert all(sum(name.endswith(shape) for name in made) == 2 for shape in SHAPES)
    for name, (picture, caption) in made.items():
        assert (folder / f"{name}.txt").read_text().strip() == caption
        stored = read_image(folder / f"{name}.png")[0][0]
        assert (stored - picture).abs().max() <= 1.01 / 255  # eight bits, cut off as ComfyUI does
        assert shows_stripes(stored.movedim(-1, 0)) and read_picture(stored.movedim(-1, 0)) is not None
