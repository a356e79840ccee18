"""A picture that carries a workflow is one; other pictures are named for what they are."""

import json

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.headless.workflow.graph import WorkflowError
from clip_vae_lora.headless.workflow.opening import read_workflow

CANVAS = {"nodes": [], "links": [], "name": "née"}


def png(path, compressed=False, **texts):
    info = PngInfo()
    for name, text in texts.items():
        (info.add_itxt if compressed == "i" else info.add_text)(name, text, zip=bool(compressed))
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    return path


@pytest.mark.parametrize("compressed", [False, True, "i"])
def test_a_png_gives_its_canvas_before_its_prompt(tmp_path, compressed):
    path = png(tmp_path / "a.png", compressed, prompt='{"1": {}}', workflow=json.dumps(CANVAS))
    assert read_workflow(path) == CANVAS
    assert read_workflow(png(tmp_path / "b.png", compressed, prompt='{"1": {}}')) == {"1": {}}


def test_a_webp_gives_what_its_exif_holds(tmp_path):
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = 'prompt:{"1": {}}', "workflow:" + json.dumps(CANVAS)
    Image.new("RGB", (2, 2)).save(tmp_path / "a.webp", exif=exif)
    assert read_workflow(tmp_path / "a.webp") == CANVAS


def test_ten_megabytes_in_a_picture(tmp_path):
    long = {**CANVAS, "text": "x" * 10_000_000}
    assert read_workflow(png(tmp_path / "a.png", workflow=json.dumps(long))) == long
    assert read_workflow(png(tmp_path / "b.png", True, workflow=json.dumps(long))) == long


@pytest.mark.parametrize(
    "texts, said",
    [
        ({}, "saved without one"),
        ({"parameters": "a cat\nSteps: 20, Sampler: Euler a"}, "A1111"),
        ({"invokeai_metadata": "{}"}, "InvokeAI"),
        ({"parameters": '{"sui_image_params": {}}'}, "SwarmUI"),
    ],
)
def test_pictures_without_a_workflow_are_named(tmp_path, texts, said):
    with pytest.raises(WorkflowError, match=said):
        read_workflow(png(tmp_path / "a.png", **texts))


def test_a_damaged_canvas_leaves_the_prompt_beside_it(tmp_path):
    assert read_workflow(png(tmp_path / "a.png", workflow="{nodes", prompt='{"1": {}}')) == {"1": {}}


def test_damaged_files(tmp_path):
    (tmp_path / "none.png").touch()
    with pytest.raises(FileFormatError, match="it is empty"):
        read_workflow(tmp_path / "none.png")
    with pytest.raises(FileFormatError, match="its workflow is not valid JSON"):
        read_workflow(png(tmp_path / "a.png", workflow="{nodes"))
    cut = tmp_path / "b.png"
    cut.write_bytes(png(tmp_path / "c.png", True, workflow=json.dumps(CANVAS)).read_bytes()[:60])
    with pytest.raises(FileFormatError, match="its workflow is not valid JSON"):
        read_workflow(cut)
    Image.new("RGB", (2, 2)).save(tmp_path / "d.jpg")
    with pytest.raises(WorkflowError, match="PNG and WebP"):
        read_workflow(tmp_path / "d.jpg")
    with pytest.raises(FileFormatError, match="no such file"):
        read_workflow(tmp_path / "nothing.png")
