"""Against LyCORIS itself: what its modules save is read, and changes the weight as its own merge does."""

import copy
import itertools

import pytest
import torch
from torch import nn

from clip_vae_lora.lora.formats.read import read
from clip_vae_lora.lora.models.match import match

modules = pytest.importorskip("lycoris.modules", exc_type=ImportError)

LAYERS = {
    "linear": lambda: nn.Linear(12, 32),
    "wide": lambda: nn.Linear(24, 16, bias=False),
    "conv": lambda: nn.Conv2d(12, 32, 3),
    "point": lambda: nn.Conv2d(8, 16, 1),
}
INPUTS = {"linear": (5, 12), "wide": (5, 24), "conv": (2, 12, 5, 5), "point": (2, 8, 5, 5)}


def options(**choices):
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


SCALES = {"alpha": [1, 3, 0], "rs_lora": [False, True]}
DORA = [{}, {"weight_decompose": True, "wd_on_out": True}, {"weight_decompose": True, "wd_on_out": False}]
KINDS = {
    "LoConModule": [a | b for a in options(**SCALES, use_tucker=[False, True], use_scalar=[False, True]) for b in DORA],
    "LohaModule": [a | b for a in options(**SCALES, use_tucker=[False, True], use_scalar=[False, True]) for b in DORA],
    "LokrModule": [
        a | b
        for a in options(
            alpha=[1, 3],
            use_tucker=[False, True],
            decompose_both=[False, True],
            full_matrix=[False, True],
            factor=[-1, 2],
            unbalanced_factorization=[False, True],
        )
        for b in DORA
    ],
    "GLoRAModule": options(alpha=[1, 3], rs_lora=[False]),
    "DiagOFTModule": options(constraint=[0, 0.001, 0.3], rescaled=[False, True]),
    "ButterflyOFTModule": options(constraint=[0, 0.001, 0.3], rescaled=[False, True]),
    "IA3Module": options(train_on_input=[False, True]),
    "FullModule": [{}],
}


def trained(kind, layer, choice):
    rank = {"DiagOFTModule": 4, "ButterflyOFTModule": 4}.get(kind, 2)
    module = getattr(modules, kind)("lora_x", layer, 1.0, lora_dim=rank, **choice)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.startswith("org_module"):
                parameter.copy_(torch.randn_like(parameter) * 0.2 + (1.0 if "rescale" in name else 0.0))
                if name == "dora_scale":
                    parameter.abs_().add_(0.5)
    return module


def saved(module):
    own = module.custom_state_dict() or module.state_dict()
    return {f"lora_x.{name}": value.detach().clone() for name, value in own.items() if "org_" not in name}


def merged_by_us(tensors, layer, strength=1.0):
    weights = {f"x.{name}": value for name, value in layer.state_dict().items()}
    file = read(tensors)
    assert not file.unread, file.unread
    result = match(file, {key: value.shape for key, value in weights.items()})
    assert result.found and not result.homeless and not result.misfit, result
    return {
        key.removeprefix("x."): value + (result.found[key].delta(value, strength) if key in result.found else 0)
        for key, value in weights.items()
    }


def outputs(kind, layer, choice, strength, seed=0):
    """What the layer gives with LyCORIS' module inside, and what its weights give as we change them.

    The forward pass is the law that was trained; the merge of LyCORIS 4.1.3 applies the scale of LoHa and LoKr twice.
    """
    torch.manual_seed(seed)
    base, x = LAYERS[layer](), torch.randn(INPUTS[layer])
    plain, module = copy.deepcopy(base), trained(kind, base, choice)
    module.multiplier = strength
    module.apply_to()
    changed = merged_by_us(saved(module), plain, strength)
    theirs = base(x)
    plain.load_state_dict(changed)
    return theirs.detach(), plain(x).detach()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_does_what_lycoris_does(kind, layer):
    for seed, choice in enumerate(KINDS[kind]):
        theirs, ours = outputs(kind, layer, choice, 1.0, seed)
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-5), (choice, (ours - theirs).abs().max())


@pytest.mark.parametrize(
    "kind",
    ["LoConModule", "LohaModule", "LokrModule", "GLoRAModule", "DiagOFTModule", "ButterflyOFTModule", "IA3Module"],
)
@pytest.mark.parametrize("strength", [0.0, 0.4, -0.5, 1.7])
def test_other_strengths_mean_what_lycoris_means(kind, strength):
    """Without DoRA and without rescaling, whose strength in LyCORIS is not 0 = nothing."""
    theirs, ours = outputs(kind, "conv", {}, strength)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_norm_layer():
    torch.manual_seed(0)
    norm = nn.LayerNorm(8)
    module = modules.NormModule("lora_x", norm, 1.0)
    with torch.no_grad():
        module.w_norm.normal_()
        module.b_norm.normal_()
    weight, bias = module.get_merged_weight(1.0, norm.weight.shape)
    ours = merged_by_us({"lora_x.w_norm": module.w_norm.detach(), "lora_x.b_norm": module.b_norm.detach()}, norm)
    assert torch.equal(ours["weight"], weight.detach()) and torch.equal(ours["bias"], bias.detach())
