"""The node that trains a VAE, without ComfyUI: what it gives, writes and says, and what it refuses."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clip_vae_lora.files.images import write_png
from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS as NODES
from clip_vae_lora.nodes.host import host
from clip_vae_lora.nodes.host.alone.vae import make_vae, trainable_vae
from clip_vae_lora.nodes.training.live import stop_and_keep
from clip_vae_lora.nodes.vae.load import load_vae
from clip_vae_lora.vae_core.networks.kl import AutoencoderKL
from clip_vae_lora.vae_core.networks.wan import AutoencoderWan
from clip_vae_lora.vae_core.networks.wan_config import WanConfig
from clip_vae_lora.vae_core.tiling.work import Tiling

from ...support.vaes import learning


def _set(place: Path, on_step=lambda *_: None) -> None:
    folders = {"output": place / "out", "inputs": [place / "in"]}
    host.set_place(models=None, temp=place / "temp", on_step=on_step, **folders)


@pytest.fixture
def place(tmp_path: Path):
    """A run's folders, below which pictures lie."""
    (tmp_path / "in" / "some").mkdir(parents=True)
    for number in range(4):
        write_png(tmp_path / "in" / "some" / f"p{number}.png", learning.smooth(32, 36, number).float() / 255, {})
    _set(tmp_path)
    yield tmp_path
    host.set_place(models=None, temp=tmp_path / "temp", on_step=lambda *_: None)


def _vae(state: dict | None = None):
    return make_vae(partial(AutoencoderKL, learning.CONFIG), learning.state() if state is None else state, "fp32")


def _train(vae=None, **more) -> tuple[object, str, dict, dict]:
    """Run the node as a host does; its results, its report, and its answer."""
    given = {
        "vae": vae or _vae(), "folder": "input", "subfolder": "some", "steps": 3, "crop": 16, "learning_rate": 1e-3,
        "seed": 1, "filename_prefix": "vae/made", "batch": 2, **more,
    }  # fmt: skip
    with torch.inference_mode():
        answer = NODES["CVL_TrainVAE"]().train(**given)
    made, path, report = answer["result"]
    return made, path, json.loads(report), answer


def test_the_file_is_the_vae_that_comes_out_and_holds_its_encoder_bit_for_bit(place):
    vae = _vae()
    made, path, report, answer = _train(vae)
    came, written = learning.state(), load_file(path)
    assert written.keys() == came.keys()
    same = {name for name, tensor in written.items() if torch.equal(tensor, came[name])}
    encoder = {name for name in came if name.startswith(("encoder.", "quant_conv."))}
    assert same - {"decoder.mid.attn_1.k.bias"} == encoder  # which softmax cancels: no gradient reaches it
    image = torch.rand(1, 32, 32, 3)
    read, *_ = load_vae(Path(path), "fp32", "auto")
    latents = [host.encode_image(one, image, None, Tiling()).result for one in (vae, made, read)]
    assert torch.equal(latents[0], latents[1]) and torch.equal(latents[0], latents[2])
    before, after, again = (host.decode_latent(one, latents[0], Tiling()).result for one in (vae, made, read))
    assert torch.equal(after, again) and not torch.equal(after, before)
    assert report["encoder"]["unchanged"] and report["latents"]["equal"] and report["file"] == path
    chart = json.loads(answer["ui"]["cvl_chart"][0])
    assert [one["step"] for one in chart["samples"]] == [-1, 0, 1, 2, 3] and len(answer["ui"]["images"]) == 5
    assert [one["step"] for one in chart["validation"]] == [0, 1, 2, 3] and len(chart["losses"]) == 3


def test_the_report_tells_whole_pictures_before_and_after_and_what_was_not_used(place):
    (place / "in" / "some" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    write_png(place / "in" / "some" / "tiny.png", torch.rand(8, 40, 3), {})
    _, _, report, answer = _train()
    assert (
        report["pictures"] == 4 and len(report["held_out"]) == 1 and set(report["unused"]) == {"broken.png", "tiny.png"}
    )
    assert report["unused"]["tiny.png"] == "40 x 8 px, smaller than the crop of 16 px"
    for when in ("before", "after"):
        assert {"psnr_db", "ssim", "edges", "details", "colour_shift", "worst_tile"} <= set(report[when])
        assert list(report[when]["pictures"]) == report["held_out"]
    assert len(report["losses"]) == len(report["errors"]) == 3
    said = "\n".join(answer["ui"]["text"])
    assert "⚠ 2 files were not used" in said and "1 held-out pictures: PSNR in dB" in said
    assert "latents are as before, bit for bit" in said


def test_an_image_is_learned_from_in_place_of_the_folder(place):
    _, _, report, answer = _train(image=torch.rand(2, 24, 32, 3), subfolder="not there")
    assert (
        report["pictures"] == 2
        and report["held_out"] == []
        and list(report["before"]["pictures"]) == ["image 1", "image 2"]
    )
    assert "2 pictures of the training, for none is held out" in "\n".join(answer["ui"]["text"])


def test_the_same_seed_gives_the_same_file_and_each_run_its_own(place):
    first, second, other = _train()[1], _train()[1], _train(seed=2)[1]
    assert len({first, second, other}) == 3
    one, again, another = (load_file(path) for path in (first, second, other))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], another[name]) for name in one)


def test_the_header_and_the_files_beside_tell_how_it_was_made(place):
    _, path, *_ = _train()
    with safe_open(path, "pt") as file:
        told = file.metadata()
    assert json.loads(told["cvl.plan"])["steps"] == "3" and told["cvl.steps"] == "3"
    state = place / "out" / "cvl_training"
    lines = [json.loads(line) for line in (state / "made.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3]
    assert all(set(line["errors"]) == {"absolute", "squared", "scales", "edges"} for line in lines if "loss" in line)
    assert [line["step"] for line in lines if "bands" in line] == [0, 1, 2, 3]
    assert (state / "made.course.png").is_file() and not (state / "made.state.safetensors").exists()
    assert str(place / "in" / "some") in (state / "made.plan.toml").read_text()
    assert str(place) not in told.get("cvl.plan_file", "")  # others are not told where the pictures lay


def test_cancel_leaves_a_file_and_resume_ends_in_the_same_bits(place):
    whole = load_file(_train()[1])
    stopped = []

    def stop(done, total):
        if total == 3 and done == 2:
            stopped.append(done)
            raise KeyboardInterrupt

    _set(place, stop)
    with pytest.raises(KeyboardInterrupt):
        _train(filename_prefix="vae/broken")
    assert stopped
    broken = sorted((place / "out" / "vae").glob("broken*.safetensors"))
    assert len(broken) == 1 and load_vae(broken[0], "fp32", "auto")
    host.set_place(
        models=None, temp=place / "temp", on_step=lambda *_: None, output=place / "out", inputs=[place / "in"]
    )
    resumed = load_file(_train(filename_prefix="vae/broken", resume=True)[1])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_training_that_is_told_to_stop_keeps_what_it_has(place):
    class Asks:
        asked = False

    def ask(done, total):
        if total == 3 and done == 1 and not Asks.asked:
            Asks.asked = True
            stop_and_keep({"node": "7"})

    _set(place, ask)
    _, _, report, _ = _train(unique_id="7")
    assert report["stopped_early"] and report["steps"] == 1


def test_an_encoder_that_was_trained_is_warned_of(place):
    _, _, report, answer = _train(part="decoder and encoder", encoder_rate=1.0)
    assert not report["encoder"]["unchanged"] and not report["latents"]["equal"]
    assert report["latents"]["moved_in_deviations"] > 0
    assert "⚠ the encoder was trained: latents moved by" in answer["ui"]["text"][0]


def test_a_decoder_that_has_become_worse_is_warned_of_and_one_that_has_not_is_not(place):
    _, _, report, answer = _train(learning_rate=1.0)
    assert report["after"]["psnr_db"] < report["before"]["psnr_db"]
    assert "\n⚠ pictures come back worse than before" in answer["ui"]["text"][0]
    _, _, report, answer = _train(steps=20, learning_rate=1e-3)
    assert report["after"]["psnr_db"] > report["before"]["psnr_db"] and "worse" not in "".join(answer["ui"]["text"])


def test_the_bundled_clip_looks_at_the_pictures_and_is_said_to_rest_where_its_weight_is_0(place):
    with torch.inference_mode():
        clip = NODES["CVL_LoadCLIPModel"]().load("bundled/tiny_clip.safetensors")["result"][0]
    _, _, report, _ = _train(clip_model=clip, perceptual=0.5, steps=1)
    assert report["errors"][0]["perceptual"] > 0
    _, _, report, answer = _train(clip_model=clip, steps=1)
    assert "perceptual" not in report["errors"][0]
    assert "the CLIP looks at nothing, for the weight of its loss is 0" in answer["ui"]["text"][0]
    with pytest.raises(ValueError, match="the perceptual loss needs a CLIP"):
        _train(perceptual=0.5)


def test_the_weights_of_a_vae_are_told_as_they_are_stored_and_as_copies():
    vae = _vae(learning.state())
    told = trainable_vae(vae)
    assert told.dtype == "fp32" and told.state.keys() == learning.state().keys()
    told.state["decoder.conv_in.bias"].zero_()
    assert float(vae.network.decoder.conv_in.bias.abs().sum()) > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop": 64}, "the largest has room for 32 px: set a smaller crop"),
        ({"crop": 17}, "a cell of this VAE spans 2 px"),
        ({"subfolder": "nowhere"}, "nowhere"),
        ({"subfolder": ""}, None),
        ({"absolute": 0.0, "squared": 0.0, "scales": 0.0, "edges": 0.0}, "the weights of the losses are"),
        ({"image": torch.full((1, 32, 32, 3), torch.nan)}, "this IMAGE"),
        ({"image": torch.rand(32, 32)}, "IMAGE"),
    ],
)
def test_what_cannot_be_learned_from_is_one_sentence(place, change, words):
    if words is None:
        assert _train(**change)[2]["pictures"] == 4  # the folder above finds the pictures in it
        return
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        _train(**change)
    assert "\n" not in str(error.value)


def test_an_empty_folder_and_one_of_broken_pictures_are_one_sentence(place):
    (place / "in" / "empty").mkdir()
    with pytest.raises(ValueError, match="pictures were expected"):
        _train(subfolder="empty")
    (place / "in" / "empty" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(ValueError, match="none of the pictures in empty can be used"):
        _train(subfolder="empty")


def test_one_picture_is_enough(place):
    _, _, report, _ = _train(image=torch.rand(1, 20, 20, 3))
    assert report["pictures"] == 1 and list(report["after"]["pictures"]) == ["image 1"]


def test_half_a_vae_is_refused(place):
    state = {name: one for name, one in learning.state().items() if not name.startswith(("encoder.", "quant_conv."))}
    half = make_vae(partial(AutoencoderKL, learning.CONFIG, encoder=False), state, "fp32")
    with pytest.raises(ValueError, match="this VAE has no encoder"):
        _train(half)


def test_a_vae_for_videos_is_refused(place):
    config = WanConfig(4, (4, 6), (4, 8), 2, 3, (True,))
    state = AutoencoderWan(config).state_dict()
    with pytest.raises(ValueError, match="is for videos, which is not trained here"):
        _train(make_vae(partial(AutoencoderWan, config), state, "fp32"))
