"""Against PEFT and diffusers themselves: the same change of every weight, files in both directions."""

import json

import pytest
import torch
from torch import nn

from clip_vae_lora.lora.formats.read import read, write
from clip_vae_lora.lora.models.match import match
from clip_vae_lora.lora.models.names import spellings
from clip_vae_lora.lora.weights import inject as injection

peft = pytest.importorskip("peft", exc_type=ImportError)
safetensors = pytest.importorskip("safetensors.torch")

CONFIGS = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "alpha_pattern": {"r": 4, "lora_alpha": 8, "alpha_pattern": {"block.fc1": 2, "conv": 5}},
    "rank_pattern": {"r": 4, "lora_alpha": 8, "rank_pattern": {"fc1": 2}},
    "both with rslora": {
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {r".*fc\d": 2, "conv": 3},
        "alpha_pattern": {"^conv": 1, "^fc1": 100, "fc2": 3},
        "use_rslora": True,
    },
}


def net():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(4, 6, 3),
            "point": nn.Conv2d(6, 5, 1),
            "block": nn.ModuleDict({"fc1": nn.Linear(5, 7), "fc2": nn.Linear(7, 3, bias=False)}),
        }
    )


def trained(config):
    model = peft.get_peft_model(net(), peft.LoraConfig(**config, target_modules=["conv", "point", "fc1", "fc2"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("where", ["folder", "unsaved"])
def test_base_plus_delta_is_pefts_merged_weight(config, where, tmp_path):
    model, base = trained(CONFIGS[config]), net()
    if where == "folder":
        model.save_pretrained(tmp_path)
        tensors = safetensors.load_file(tmp_path / "adapter_model.safetensors")
        described = json.loads((tmp_path / "adapter_config.json").read_text())
    else:
        tensors = {name: value for name, value in model.state_dict().items() if "lora_" in name}
        described = model.peft_config["default"].to_dict()
    file = read(tensors, {}, described)
    assert file.dialect == "peft" and not file.unread
    result = match(file, {key: value.shape for key, value in base.state_dict().items()})
    assert len(result.found) == 4 and not result.homeless and not result.misfit
    merged = model.merge_and_unload().state_dict()
    for key, weight in base.state_dict().items():
        weight = weight + result.found[key].delta(weight.shape) if key in result.found else weight
        torch.testing.assert_close(weight, merged[key], rtol=0, atol=1e-6)


def all_merged(model, base, config):
    """The base's state dict with the adapters of a PEFT model, as we apply what it would save."""
    tensors = {name: value.detach().clone() for name, value in peft.get_peft_model_state_dict(model).items()}
    file = read(tensors, {}, config)
    assert not file.unread and not file.notes, (file.unread, file.notes)
    weights = base.state_dict()
    result = match(file, {key: value.shape for key, value in weights.items()})
    assert result.found and not result.homeless and not result.misfit
    return {
        key: value + result.found[key].delta(value) if key in result.found else value for key, value in weights.items()
    }


def randomized(model, *names):
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            nn.init.normal_(parameter, std=0.3)
            if "magnitude" in name:
                parameter.data.abs_().add_(0.5)
    return model


def with_bias():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"conv": nn.Conv2d(4, 8, 3), "fc1": nn.Linear(12, 8), "fc2": nn.Linear(8, 12), "table": nn.Embedding(6, 4)}
    )


KINDS = {
    "DoRA": lambda: peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=["conv", "fc1", "fc2"]),
    "lora_bias": lambda: peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True, target_modules=["conv", "fc1", "fc2"]),
    "embedding": lambda: peft.LoraConfig(r=2, lora_alpha=6, target_modules=["table", "fc1"]),
    "modules_to_save": lambda: peft.LoraConfig(r=2, lora_alpha=6, target_modules=["fc1"], modules_to_save=["fc2"]),
    "OFT, Neumann": lambda: peft.OFTConfig(r=0, oft_block_size=4, target_modules=["conv", "fc1", "fc2"]),
    "OFT, 7 terms": lambda: peft.OFTConfig(
        r=0, oft_block_size=4, num_cayley_neumann_terms=7, target_modules=["conv", "fc1"]
    ),
    "OFT, 2 terms": lambda: peft.OFTConfig(r=0, oft_block_size=4, num_cayley_neumann_terms=2, target_modules=["fc1"]),
    "OFT, exact": lambda: peft.OFTConfig(
        r=0, oft_block_size=4, use_cayley_neumann=False, target_modules=["conv", "fc1"]
    ),
    "OFT, shared": lambda: peft.OFTConfig(r=0, oft_block_size=4, block_share=True, target_modules=["conv", "fc1"]),
    "(IA)^3": lambda: peft.IA3Config(target_modules=["conv", "fc1", "fc2"], feedforward_modules=["fc2"]),
    "(IA)^3, conv inputs": lambda: peft.IA3Config(target_modules=["conv", "fc1"], feedforward_modules=["conv"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_peft_changes_the_weights_as_peft_merges_them(kind):
    model = peft.get_peft_model(with_bias(), KINDS[kind]())
    model = randomized(model, "lora_", "oft_R", "ia3_l", "modules_to_save")
    base = with_bias()
    ours = all_merged(model, base, model.peft_config["default"].to_dict())
    merged = model.merge_and_unload().state_dict()
    for key, weight in ours.items():
        torch.testing.assert_close(weight, merged[key], rtol=1e-5, atol=1e-5)
    assert any(not torch.equal(ours[key], value) for key, value in base.state_dict().items())


def test_a_magnitude_vector_that_was_lost_is_noticed_by_the_configuration():
    model = trained({"r": 4, "lora_alpha": 8, "use_dora": True})
    tensors = {name: value for name, value in model.state_dict().items() if "lora_A" in name or "lora_B" in name}
    assert not read(tensors, {}, model.peft_config["default"].to_dict()).adapters


def test_peft_loads_what_we_trained(tmp_path):
    ours = net()
    ours["block"]["conv"] = nn.Linear(2, 2)  # its name ends like another one's: the patterns must be exact
    base = {key: value.clone() for key, value in ours.state_dict().items()}
    injection.inject(ours, ["conv", "block.fc*"], 2, alpha=3.0)
    for parameter in injection.parameters(ours):
        nn.init.normal_(parameter, std=0.3)
    adapters = injection.collect(ours)
    injection.eject(ours)
    adapters["block.fc1"] = type(adapters["conv"])(torch.randn(7, 3), torch.randn(3, 5), 1.5)
    names = spellings(base, "peft")
    tensors, header = write({names[f"{module}.weight"]: lora for module, lora in adapters.items()}, "peft")
    safetensors.save_file(tensors, tmp_path / "adapter_model.safetensors", header)
    (tmp_path / "adapter_config.json").write_text(header["adapter_config"])
    merged = peft.PeftModel.from_pretrained(ours, tmp_path).merge_and_unload().state_dict()
    for key, weight in base.items():
        module = key.removesuffix(".weight")
        expected = weight + adapters[module].delta(weight.shape) if module in adapters else weight
        torch.testing.assert_close(merged[key], expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def tiny_unet():
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


def test_a_file_that_diffusers_wrote_is_read_with_its_scale(tiny_unet, tmp_path):
    tiny_unet.add_adapter(peft.LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_out.0", "proj_in"]))
    for name, parameter in tiny_unet.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    tiny_unet.save_lora_adapter(tmp_path, weight_name="x.safetensors")
    with safetensors.safe_open(tmp_path / "x.safetensors", "pt") as handle:
        file = read({key: handle.get_tensor(key) for key in handle.keys()}, handle.metadata())
    base = {name.replace(".base_layer", ""): value.clone() for name, value in tiny_unet.state_dict().items()}
    tiny_unet.fuse_lora()
    fused = {name.replace(".base_layer", ""): value for name, value in tiny_unet.state_dict().items()}
    assert file.adapters and not file.unread
    for name, lora in file.adapters.items():
        weight = base[f"{name}.weight"]
        torch.testing.assert_close(weight + lora.delta(weight.shape), fused[f"{name}.weight"], rtol=1e-6, atol=1e-5)
