"""The dtype that a loader is asked for is the dtype of every parameter, whatever the file has, streamed or not."""

import contextlib
import importlib
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from clip_vae_lora.clip_core.config import TextConfig
from clip_vae_lora.clip_core.networks.text import CLIPText
from clip_vae_lora.files.tensors import write_tensors

from ..support import models, small_clips
from ..support.cards.dynamic_vram import dynamic_vram

BUNDLED = Path(__file__).resolve().parents[2] / "models"
NAMES = {"text": "load_text_encoder", "clip": "load_clip_model", "vae": "load_vae"}
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SMALL = TextConfig(64, 2, 1, 256, 64, activation="quick_gelu")


@pytest.fixture(scope="module")
def load(comfyui):
    """The loaders' functions by theme: text, clip and vae."""

    def of(theme: str):
        return getattr(importlib.import_module(f"{comfyui.ours.__name__}.nodes.{theme}.load"), NAMES[theme])

    return of


@pytest.fixture(scope="module")
def mixed(comfyui):
    """A text encoder whose file has every type: fp8 tables, fp16 norms, bf16 projections, the rest fp32."""
    state = models.seeded(lambda: CLIPText(SMALL), seed=3)
    for name, tensor in state.items():
        kinds = {"embedding": torch.float8_e4m3fn, "norm": torch.float16, "_proj": torch.bfloat16}
        state[name] = tensor.to(next((dtype for part, dtype in kinds.items() if part in name), torch.float32))
    path = comfyui.models / "text_encoders" / "mixed.safetensors"
    write_tensors(path, state, {})
    return path


@pytest.fixture(scope="module")
def stock_state(comfyui):
    return small_clips.stock_clip("sd1").cond_stage_model.clip_l.transformer.state_dict()


@pytest.fixture(params=[False, True], ids=["ordinary", "dynamic VRAM"])
def mode(comfyui, request):
    with dynamic_vram() if request.param else contextlib.nullcontext():
        yield request.param


def types_of(network: torch.nn.Module, names: int) -> set[torch.dtype]:
    """Of every parameter, of which there are as many as expected: none is missing."""
    parameters = dict(network.named_parameters())
    assert len(parameters) == names
    return {parameter.dtype for parameter in parameters.values()}


@pytest.mark.parametrize("dtype", [*TYPES, "auto"])
def test_a_text_encoder_is_of_the_type_asked_for(comfyui, load, mixed, mode, dtype):
    clip = load("text")([mixed], "sd1", dtype)[0]
    names = len(CLIPText(SMALL).state_dict())
    assert types_of(clip.cond_stage_model, names) == {TYPES.get(dtype, torch.float16)}  # what the host chooses
    clip.load_model()
    assert types_of(clip.cond_stage_model, names) == {TYPES.get(dtype, torch.float16)}
    state = {name: tensor.float() for name, tensor in CLIPText(SMALL).state_dict().items()}
    clip.load_sd(state)
    assert types_of(clip.cond_stage_model, names) == {TYPES.get(dtype, torch.float16)}


@pytest.mark.parametrize("dtype", [*TYPES, "auto"])
def test_the_bundled_clip_is_of_the_type_asked_for(comfyui, load, mode, dtype):
    """Its token table is kept in fp8 in the file."""
    model = load("clip")(BUNDLED / "tiny_clip.safetensors", "auto", dtype)[0]
    network = model.patcher.model
    names = len([name for name, _ in type(network)(model.config).named_parameters()])
    assert types_of(network, names) == {TYPES.get(dtype, torch.float32)}
    labels = comfyui.nodes["CVL_ZeroShotClassify"]().classify(model, torch.rand(1, 64, 64, 3), "cat\ndog", "a {label}")
    assert labels and types_of(network, names) == {TYPES.get(dtype, torch.float32)}


@pytest.mark.parametrize("dtype", [*TYPES, "auto"])
def test_a_vae_is_of_the_type_asked_for(comfyui, load, mode, dtype):
    vae = load("vae")(BUNDLED / "tiny_vae.safetensors", dtype, "auto")[0]
    names = len(dict(type(vae.first_stage_model)(vae.first_stage_model.config).named_parameters()))
    assert types_of(vae.first_stage_model, names) == {vae.vae_dtype if dtype == "auto" else TYPES[dtype]}


class NoFP8Index(TorchFunctionMode):
    """torch for a card that has no look-up in a table of fp8."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        looks = func in (torch.nn.functional.embedding, torch.embedding, torch.index_select, torch.Tensor.__getitem__)
        for value in args if looks else ():
            if isinstance(value, torch.Tensor) and value.dtype.is_floating_point and value.dtype.itemsize == 1:
                raise NotImplementedError('"index_select_cuda" not implemented for Float8_e4m3fn')
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("whose", ["stock", "ours"])
def test_no_prompt_and_no_text_looks_up_in_fp8(comfyui, load, mixed, stock_state, mode, whose, monkeypatch):
    """What `--fp8_e4m3fn-text-enc` makes: every weight fp8. The same numbers as of the table in float32."""
    import comfy.model_management as management

    core = importlib.import_module(f"{comfyui.ours.__name__}.clip_core.features.texts")
    if whose == "stock":
        clip = small_clips.stock_clip("sd1", stock_state)
    else:
        monkeypatch.setattr(management, "text_encoder_dtype", lambda device=None: torch.float8_e4m3fn)
        clip = load("text")([mixed], "sd1", "auto")[0]
    network = clip.cond_stage_model.clip_l.transformer
    embeddings = network.text_model.embeddings

    def found():
        prompt = comfyui.nodes["CVL_TextEncode"]().encode(clip=clip, text="a (red:1.3) fox")["result"][0][0][0]
        clip.load_model()
        device = clip.patcher.load_device
        texts = core.text_features(network, core.Tokenizer(), ["a fox"], device=device, table_device=device)
        return prompt, texts.features

    for table in (embeddings.token_embedding, embeddings.position_embedding):
        table.weight = torch.nn.Parameter(table.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    with NoFP8Index():
        eight = found()
    clip.patcher.patches_uuid = None  # other weights: nothing kept is theirs
    management.unload_all_models()
    for table in (embeddings.token_embedding, embeddings.position_embedding):
        table.weight = torch.nn.Parameter(table.weight.detach().float(), requires_grad=False)
    assert all(torch.equal(first, second) for first, second in zip(eight, found()))
