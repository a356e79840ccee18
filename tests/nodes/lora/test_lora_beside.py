"""What lies beside a LoRA: notes with its words, and previews, which never lead out of the file's own folder."""

import base64
import io
import json

import pytest
from PIL import Image

from clip_vae_lora.files.errors import FileFormatError
from clip_vae_lora.files.tensors import open_tensors, write_tensors
from clip_vae_lora.nodes.lora import beside
from clip_vae_lora.nodes.lora.editor import header, preview

from ...support import tiny

NAME = "style/ink.v2.safetensors"


@pytest.fixture
def ink(place):
    path = place.models / "loras" / NAME
    path.parent.mkdir()
    tiny.lora_file(path, ["lora_te_text_model_encoder_layers_0_self_attn_q_proj"])
    return path


def with_header(path, metadata):
    with open_tensors(path) as file:
        tensors = file.read(file.shapes)
    write_tensors(path, tensors, metadata)


def picture(path, colour, size=(600, 900)):
    Image.new("RGB", size, colour).save(path)


def shown(name=NAME) -> Image.Image:
    return Image.open(io.BytesIO(preview(name)[1]()))


def reddish(image) -> bool:
    red, green, blue = image.convert("RGB").getpixel((5, 5))
    return red > 200 and green < 60 and blue < 60


# notes


@pytest.mark.parametrize(
    "ending, note",
    [
        ("civitai.info", {"trainedWords": ["ink, wash", 5, ""], "baseModel": "SD 1.5", "model": {"name": "Ink"}}),
        ("metadata.json", {"civitai": {"trainedWords": ["ink, wash"]}, "base_model": "SD 1.5", "model_name": "Ink"}),
        ("json", {"activation text": "ink, wash", "sd version": "SD 1.5", "model_name": "Ink"}),
    ],
)
def test_the_notes_of_other_programs_name_words_base_model_and_title(ink, ending, note):
    (ink.parent / f"ink.v2.{ending}").write_text(json.dumps(note))
    (ink.parent / f"other.{ending}").write_text(json.dumps({"trainedWords": ["no"]}))
    found = header({"name": NAME})
    assert (found["trigger_words"], found["base_model"], found["title"]) == (["ink", "wash"], "SD 1.5", "Ink")


def test_the_header_comes_before_notes_and_a_short_text_counts_as_words(ink):
    with_header(ink, {"modelspec.trigger_phrase": "sks", "ss_base_model_version": "sd_v1", "ss_output_name": "Mine"})
    (ink.parent / "ink.v2.civitai.info").write_text(json.dumps({"trainedWords": ["ink", "sks"], "baseModel": "SD 1.5"}))
    (ink.parent / "ink.v2.txt").write_text("\ufeffa wash,\nink\n", encoding="utf-8")
    found = header({"name": NAME})
    assert found["trigger_words"] == ["sks", "ink", "a wash"]
    assert (found["base_model"], found["title"], found["text"]) == ("sd_v1", "Mine", "")
    (ink.parent / "ink.v2.txt").write_text("It is best at 0.7. " * 40)
    assert header({"name": NAME})["trigger_words"] == ["sks", "ink"]
    assert header({"name": NAME})["text"].startswith("It is best at 0.7.")


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff\xfe\0", b"[" * 99_999, b'{"trainedWords": {"a": 1}, "model": 3}']
)
def test_a_note_that_is_damaged_counts_as_not_there(ink, content):
    for ending in ("civitai.info", "metadata.json", "json"):
        (ink.parent / f"ink.v2.{ending}").write_bytes(content)
    assert header({"name": NAME})["trigger_words"] == []


# previews


@pytest.mark.parametrize("name", ["ink.v2.png", "ink.v2.preview.png", "ink.v2.jpg", "ink.v2.jpeg", "ink.v2.webp"])
def test_a_picture_beside_the_file_is_its_preview_made_small(ink, name):
    assert preview(NAME) is None and header({"name": NAME})["preview"] == ""
    picture(ink.parent / name, "red")
    assert reddish(shown()) and max(shown().size) <= 320 and shown().format == "JPEG"
    mark = header({"name": NAME})["preview"]
    picture(ink.parent / name, "blue", (610, 900))
    assert mark and preview(NAME)[0] != mark


def test_the_picture_in_the_header_is_the_preview_where_none_lies_beside(ink):
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "PNG")
    coded = base64.b64encode(data.getvalue()).decode()
    with_header(ink, {"modelspec.thumbnail": f"data:image/png;base64,{coded}"})
    assert reddish(shown())
    picture(ink.parent / "ink.v2.preview.png", "blue")
    assert not reddish(shown())


@pytest.mark.parametrize(
    "text", ["data:image/png;base64,!!!", "data:image/png;base64,AAAA", "data:text/html;base64,AA", "x"]
)
def test_a_picture_in_the_header_that_is_none_is_an_error_of_one_sentence_or_none(ink, text):
    with_header(ink, {"modelspec.thumbnail": text})
    found = preview(NAME)
    if found:
        with pytest.raises(FileFormatError, match="ink.v2.safetensors"):
            found[1]()


def test_a_preview_never_comes_from_another_folder(ink, tmp_path):
    picture(tmp_path / "secret.png", "red")
    picture(ink.parent.parent / "ink.v2.png", "red")
    (ink.parent / "ink.v2.png").symlink_to(tmp_path / "secret.png")
    assert preview(NAME) is None
    for name in (
        "../secret",
        str(tmp_path / "secret.png"),
        "style/../style/ink.v2.safetensors",
        "style/ink.v2.png",
        "",
    ):
        with pytest.raises(ValueError, match="in the menu was expected"):
            preview(name)


def test_nothing_of_a_file_is_read_for_the_menu(place, ink, monkeypatch):
    from clip_vae_lora.nodes.lora.editor import check

    monkeypatch.setattr(beside, "open_tensors", lambda path: pytest.fail("read"))
    assert NAME in check({"menu": True, "text": NAME})["menu"]
