"""Train LoRA with its text encoder in a real ComfyUI: the file in the stock loader, and every family's gradient."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_vae_lora.files.images import write_png

from ...support import models, small_clips
from ...support.diffusion import small_diffusion
from ...support.diffusion import trained_families as families

SETTINGS = {
    "folder": "input",
    "subfolder": "captioned",
    "steps": 3,
    "rank": 4,
    "learning_rate": 1e-2,
    "resolution": 64,
    "trigger": "sks",
    "seed": 7,
    "batch": 2,
    "text_encoder_rate": 0.5,
}


@pytest.fixture(scope="module")
def train(comfyui):
    """train(MODEL, CLIP, name, **inputs) -> what the node gives."""
    import folder_paths

    generator = torch.Generator().manual_seed(5)
    folder = Path(folder_paths.get_input_directory()) / "captioned"
    folder.mkdir(parents=True)
    for number in range(4):
        write_png(folder / f"p{number}.png", torch.rand(64, 64, 3, generator=generator), {})
        (folder / f"p{number}.txt").write_text(f"picture {number}")
    vae = comfyui.nodes["CVL_LoadVAE"]().load("bundled/tiny_vae.safetensors")["result"][0]

    def train(model, clip, name: str, **more):
        given = SETTINGS | {"filename_prefix": f"loras/{name}"} | more
        return comfyui.nodes["CVL_TrainLoRA"]().train(model, clip, vae, **given)["result"]

    return train


def _clip(comfyui, kind: str):
    if kind != "own":
        return small_clips.stock_clip(kind)
    return comfyui.nodes["CVL_LoadTextEncoder"]().load("bundled/tiny_clip.safetensors")["result"][0]


def _encoded(comfyui, clip) -> tuple[torch.Tensor, torch.Tensor]:
    ((hidden, told),) = comfyui.nodes["CLIPTextEncode"]().encode(clip, "sks, a red circle")[0]
    return hidden, told["pooled_output"]


def _sampled(comfyui, clip, model) -> torch.Tensor:
    prompt = comfyui.nodes["CLIPTextEncode"]().encode(clip, "sks, a red circle")[0]
    latent = {"samples": torch.zeros(1, 4, 16, 16)}
    return comfyui.nodes["KSampler"]().sample(model, 5, 2, 1.0, "euler", "normal", prompt, prompt, latent)[0]["samples"]


@pytest.mark.parametrize(
    ("kind", "width", "fronts", "more"),
    [
        ("sd1", 768, ("lora_te_",), {}),
        ("sdxl", 2048, ("lora_te1_", "lora_te2_"), {"checkpointing": "on", "drop_caption": 0.5, "keep_base": 0.5}),
        ("own", 64, ("lora_te_",), {"kind": "LoKr", "class_word": "thing", "keep_base": 1.0}),
    ],
)
def test_the_file_in_the_stock_loader_is_our_model_and_our_clip(comfyui, train, kind, width, fronts, more):
    from safetensors import safe_open

    model, clip = models.sd15_model(context_dim=width), _clip(comfyui, kind)
    before = _encoded(comfyui, clip)
    changed, path, report, said = train(model, clip, kind, **more)
    assert all(torch.equal(one, other) for one, other in zip(before, _encoded(comfyui, clip)))  # as it was
    with safe_open(path, "pt") as file:
        names, header = list(file.keys()), file.metadata()
    assert {name.partition("text_model")[0] for name in names if "_te" in name} == set(fronts)
    assert any(name.startswith("lora_unet_") for name in names)
    modules = {name.partition(".")[0] for name in names}
    counted = json.loads(header["cvl.modules"])
    assert counted["text encoder"] == sum(name.startswith("lora_te") for name in modules) > 0
    assert counted["model"] + counted["text encoder"] == len(modules)
    assert float(header["ss_text_encoder_lr"]) == pytest.approx(0.5e-2)
    data = json.loads(report)
    assert data["layers_of_text_encoder"] == counted["text encoder"] and not data["without_name"]
    shutil.copy(path, comfyui.models / "loras" / f"te_{kind}.safetensors")
    stock = comfyui.nodes["LoraLoader"]().load_lora(model, clip, f"te_{kind}.safetensors", 1.0, 1.0)
    ours, theirs = _encoded(comfyui, said), _encoded(comfyui, stock[1])
    assert (ours[0] - before[0]).norm() > 1e-4 * before[0].norm()
    for one, other in zip(ours, theirs):
        assert (one - other).norm() <= 1e-6 * other.norm()  # float32
    drawn, expected = _sampled(comfyui, said, changed), _sampled(comfyui, stock[1], stock[0])
    assert (drawn - expected).norm() <= 1e-6 * expected.norm()


def test_a_cancelled_training_goes_on_to_the_same_bits(comfyui, train, monkeypatch):
    import comfy.model_management as management
    from safetensors.torch import load_file

    model, clip = _small_model(comfyui, 768), _clip(comfyui, "sd1")
    more = {"dropout": 0.2, "accumulate": 2, "sample_prompt": "sks", "average": 0.9}
    whole = train(model, clip, "te_whole", **more)[1]
    course, steps = comfyui.ours.training.lora.course.Course, []
    loss = course.loss
    monkeypatch.setattr(course, "loss", lambda *given: steps.append(1) or loss(*given))

    def interrupted() -> None:
        if len(steps) == 5:  # the first batch is made twice, for ComfyUI's CLIP writes over its values; then step 2
            raise management.InterruptProcessingException()

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", interrupted)
    with pytest.raises(management.InterruptProcessingException):
        train(model, clip, "te_again", **more)
    monkeypatch.undo()
    assert (Path(whole).parents[1] / "cvl_training" / "te_again.state.safetensors").exists()
    (early,) = Path(whole).parent.glob("te_again_*.safetensors")
    assert any(name.startswith("lora_te_") for name in load_file(early))
    path = train(model, clip, "te_again", resume=True, **more)[1]
    first, second = load_file(whole), load_file(path)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl", "sd3", "flux", "own"])
def test_the_gradient_is_what_the_encoding_does(comfyui, kind):
    """Of every family with a CLIP in it: hidden states and pooled vector, with checkpointing and without."""
    clip, generator = _clip(comfyui, kind), torch.Generator().manual_seed(1)
    encode = comfyui.nodes["CVL_TextEncode"]().encode
    with _learning(comfyui, _small_model(comfyui, 64), clip) as (ready, own):
        shares: list[torch.Tensor] = []

        def value() -> torch.Tensor:
            ((hidden, told),) = encode(clip, "a red (circle:1.3) on grey")["result"][0]
            made = [hidden, told["pooled_output"]]
            if not shares:
                shares.extend(torch.randn(one.shape, generator=generator) for one in made)
            return sum((one * share).sum() for one, share in zip(made, shares))

        _check_slope(comfyui, ready, own, value)


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        ("sd1", families.Case("SD 1", text=768)),
        ("sdxl", families.Case("SDXL", text=2048, sizes={"adm_in_channels": 1280 + 6 * 256})),
    ],
)
def test_the_gradient_is_what_the_loss_does(comfyui, kind, case):
    """Through the model, by its cross-attention and its pooled vector, and with the base's own answers kept."""
    lora, generator = comfyui.ours.training.lora, torch.Generator().manual_seed(2)
    clip, encode = _clip(comfyui, kind), comfyui.nodes["CVL_TextEncode"]().encode
    pictures = [lora.course.Picture(f"p{n}", torch.randn(case.latent, generator=generator), f"no {n}") for n in "12"]
    plan = lora.plan.LoRAPlan(steps=1, batch=2, keep=0.5, class_word="thing", text_encoder_rate=1.0)
    with _learning(comfyui, families.patcher(case), clip) as (ready, own):
        course = lora.course.Course(ready, pictures, lambda text: encode(clip, text)["result"][0], plan)
        _check_slope(comfyui, ready, own, lambda: course.loss(0, torch.Generator().manual_seed(3)))


@contextmanager
def _learning(comfyui, model, clip):
    """The model and the CLIP as they are trained, with adapters in the CLIP that change something; and what learns."""
    injecting, targets = comfyui.ours.lora.weights.inject, comfyui.ours.training.lora.targets
    generator = torch.Generator().manual_seed(1)
    with comfyui.ours.nodes.host.host.trainee(model, clip) as ready, torch.enable_grad():
        layers = targets.chosen_of_both(ready.network, ready.text, "linear", "", 4)[1]
        own = injecting.learned(
            ready.text.network, injecting.inject(ready.text.network, list(layers), 4, generator=generator).names
        )
        with torch.no_grad():
            for one in own.values():
                one += 0.02 * torch.randn(one.shape, generator=generator)
        try:
            yield ready, list(own.values())
        finally:
            injecting.eject(ready.text.network)


def _check_slope(comfyui, ready, own: list[torch.Tensor], value) -> None:
    """The gradient is the slope of the value, and the same with checkpointing on."""

    def gradients(is_on: bool) -> list[torch.Tensor]:
        recomputing = comfyui.ours.training.memory.recomputing.Recomputing(is_on, False, ready.relief)
        with recomputing.over(ready.network), recomputing.over(ready.text.network):
            while True:
                for one in own:
                    one.grad = None
                try:
                    with recomputing.around_step():
                        value().backward()
                    return [torch.zeros_like(one) if one.grad is None else one.grad for one in own]
                except RuntimeError as error:
                    if not recomputing.relieve(error):
                        raise

    plain, again = gradients(False), gradients(True)
    length = torch.cat([one.flatten() for one in plain]).norm()

    def moved(by: float) -> float:
        with torch.no_grad():
            for one, gradient in zip(own, plain):
                one.add_(gradient, alpha=by / float(length))
        return float(value().detach())

    slope = (moved(0.05) - moved(-0.1)) / 0.1
    far = torch.cat([(one - other).flatten() for one, other in zip(plain, again)]).norm()
    assert float(length) > 0 and far <= 1e-5 * length  # float32, sums in another order
    assert slope == pytest.approx(float(length), rel=0.02)  # float32, and a step that is not nothing


def _small_model(comfyui, width: int):
    """A small MODEL of our own kind for text states of this width."""
    config = replace(small_diffusion.CONFIG, text=width)
    return comfyui.ours.nodes.host.host.make_model(config, small_diffusion.state(config=config), "fp32")


@pytest.mark.parametrize(
    ("kind", "words"), [("t5", "only CLIP text encoders can learn, and this CLIP has none of them .t5xxl.")]
)
def test_what_cannot_learn_is_a_sentence(comfyui, train, kind, words):
    with pytest.raises(ValueError, match=words):
        train(models.sd15_model(context_dim=64), _clip(comfyui, kind), "odd")
