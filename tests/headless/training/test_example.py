"""The example in which Train LoRA learns from the pictures that come with the pack, without ComfyUI."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from clip_vae_lora.headless import command

EXAMPLE = Path(__file__).resolve().parents[3] / "example_workflows" / "train_lora.json"


def test_the_example_trains_on_the_twenty_pictures_and_draws_with_what_it_learned(tmp_path: Path):
    with redirect_stdout(StringIO()) as printed:
        settings = ("--set", "2005.steps=2", "--set", "2008.batch_size=1")
        assert command.main([str(EXAMPLE), "--output", str(tmp_path), "--json", *settings]) == 0
    document = json.loads(printed.getvalue())
    told = json.loads(document["outputs"]["2005"]["cvl_report"][0])
    assert told["pictures"] == 20 and not told["unused"] and told["steps"] == 2
    assert list((tmp_path / "loras").glob("stripes*.safetensors"))
    assert "2011" in document["outputs"]


def test_the_example_of_the_vae_learns_a_picture_and_shows_it_through_what_it_learned(tmp_path: Path):
    with redirect_stdout(StringIO()) as printed:
        small = ("--set", "2304.steps=1", "--set", "2302.picture=red circle", "--set", "2305.picture=red circle")
        path = EXAMPLE.with_name("train_vae.json")
        assert command.main([str(path), "--output", str(tmp_path), "--json", *small]) == 0
    document = json.loads(printed.getvalue())
    told = json.loads(document["outputs"]["2304"]["cvl_report"][0])
    assert told["steps"] == 1 and told["encoder"]["unchanged"] and told["latents"]["equal"]
    assert list((tmp_path / "vae").glob("photograph*.safetensors")) and "2308" in document["outputs"]


def test_the_example_of_the_clip_learns_stripes_and_is_at_work_at_once(tmp_path: Path):
    with redirect_stdout(StringIO()) as printed:
        path = EXAMPLE.with_name("train_clip.json")
        small = ("--set", "2403.steps=1", "--set", "2403.batch=4")
        assert command.main([str(path), "--output", str(tmp_path), "--json", *small]) == 0
    outputs = json.loads(printed.getvalue())["outputs"]
    told = json.loads(outputs["2403"]["cvl_report"][0])
    assert told["steps"] == 1 and told["pictures"] == 20 and len(told["held_out"]) == 6
    assert list((tmp_path / "clip").glob("stripes*.safetensors")) and "2405" in outputs
