"""inject, eject, collect, load: nothing but the adapters learns, and nothing is left behind."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clip_vae_lora.lora.kinds.adapters import LoRA, LoRAError
from clip_vae_lora.lora.weights import inject as injection


class Net(nn.Module):
    def __init__(self, **conv):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, **conv)
        self.norm = nn.BatchNorm2d(6)
        self.block = nn.ModuleDict({"fc1": nn.Linear(6, 8), "act": nn.GELU(), "fc2": nn.Linear(8, 5, bias=False)})
        self.norm.weight.requires_grad_(False)
        self.block["act"].eval()

    def forward(self, x):
        x = self.norm(self.conv(x)).mean((2, 3))
        return self.block["fc2"](self.block["act"](self.block["fc1"](x)))


def state(module):
    return (
        {k: v.clone() for k, v in module.state_dict().items()},
        {k: p.requires_grad for k, p in module.named_parameters()},
        {k: m.training for k, m in module.named_modules()},
        {k: (id(m), type(m), len(m._forward_hooks)) for k, m in module.named_modules()},
    )


def same(a, b):
    return a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0]) and a[1:] == b[1:]


def train(module, steps=3):
    torch.manual_seed(1)
    parameters = injection.parameters(module)
    optimizer = torch.optim.AdamW(parameters, lr=0.05)
    for _ in range(steps):
        loss = module(torch.randn(4, 4, 8, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_at_the_start_the_module_computes_the_same_bits():
    net, x = Net().eval(), torch.randn(2, 4, 8, 8)
    before = net(x)
    injection.inject(net, "*", 2)
    assert torch.equal(net(x), before)


def test_only_the_adapters_learn():
    net = Net()
    before = state(net)[0]
    made = injection.inject(net, ["block.*", "conv"], 2, alpha=4)
    assert made.names == ("conv", "block.fc1", "block.fc2")
    assert made.trained == sum(p.numel() for p in injection.parameters(net)) < made.total
    assert {id(p) for p in net.parameters() if p.requires_grad} == {id(p) for p in injection.parameters(net)}
    train(net)
    after = net.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if "running" not in k and "tracked" not in k)
    assert all(p.abs().sum() > 0 for p in injection.parameters(net))


def test_eject_after_inject_and_training_restores_everything():
    net = Net()
    before = state(net)
    injection.inject(net, "*", 2, dropout=0.1)
    train(net)
    net.eval()
    injection.eject(net)
    assert same(before, state(net))
    injection.eject(net)
    assert same(before, state(net))
    assert injection.parameters(net) == [] and injection.collect(net) == {}


@pytest.mark.parametrize(
    "conv",
    [
        {},
        {"groups": 2},
        {"stride": 2, "padding": 1},
        {"dilation": 2, "padding": "same"},
        {"bias": False},
        {"padding": 1, "padding_mode": "reflect"},
        {"groups": 2, "padding": (1, 0), "padding_mode": "circular"},
    ],
)
def test_the_injected_forward_is_the_forward_of_weight_plus_delta(conv):
    torch.manual_seed(0)
    net, x = Net(**conv).eval(), torch.randn(2, 4, 9, 9)
    injection.inject(net, "*", 3, alpha=1.5)
    for parameter in injection.parameters(net):
        nn.init.normal_(parameter)
    injected, adapters = net(x), injection.collect(net)
    injection.eject(net)
    for name, adapter in adapters.items():
        weight = net.get_submodule(name).weight
        weight.data += adapter.delta(weight.shape)
    torch.testing.assert_close(net(x), injected, rtol=1e-5, atol=1e-4)  # values reach some hundreds


def test_a_half_precision_layer_keeps_its_dtype_and_trains_in_fp32():
    layer = nn.Sequential(nn.Linear(4, 4)).bfloat16()
    injection.inject(layer, "0", 2)
    out = layer(torch.randn(3, 4, dtype=torch.bfloat16))
    out.sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 and p.grad is not None for p in injection.parameters(layer))


def test_subclasses_of_linear_are_wrapped():
    class Cast(nn.Linear):
        def forward(self, x):
            return F.linear(x, self.weight.to(x.dtype))

    net = nn.Sequential(Cast(3, 3), nn.ReLU())
    assert injection.inject(net, "*", 1).names == ("0",)


class Packed(nn.Module):
    """A host's layer in a Linear's place: its weight is bytes, which it alone knows the meaning of."""

    def __init__(self):
        super().__init__()
        self.in_features, self.out_features = 8, 12
        self.weight = nn.Parameter(torch.randint(-128, 128, (12, 4), dtype=torch.int8), requires_grad=False)

    def forward(self, x):
        return nn.functional.linear(x, self.weight.float().repeat(1, 2) / 128)


def test_a_layer_of_packed_weights_is_wrapped_by_its_numbers_of_features():
    module, x = nn.ModuleDict({"packed": Packed(), "norm": nn.LayerNorm(8)}), torch.randn(3, 8)
    before = module["packed"](x)
    assert injection.inject(module, "packed", 2).names == ("packed",)
    assert torch.equal(module["packed"](x), before)
    module["packed"](x).square().sum().backward()
    (adapter,) = injection.collect(module).values()
    assert adapter.up.shape == (12, 2) and adapter.down.shape == (2, 8)
    assert all(parameter.grad is not None for parameter in injection.parameters(module))


def test_a_seeded_generator_gives_the_same_start():
    nets = [Net(), Net()]
    for net in nets:
        injection.inject(net, "*", 2, generator=torch.Generator().manual_seed(7))
    first, second = (injection.collect(net) for net in nets)
    assert all(torch.equal(first[k].down, second[k].down) for k in first)


def test_dropout_acts_in_training_mode_only():
    net = nn.Sequential(nn.Linear(64, 8))
    injection.inject(net, "0", 4, dropout=0.5)
    nn.init.normal_(injection.parameters(net)[1])
    x = torch.randn(2, 64)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_an_adapter_starts_in_the_mode_of_its_layer():
    net = Net().eval()
    net.conv.train()
    injection.inject(net, "*", 2, dropout=0.5)
    assert net.conv.low_rank.dropout.training and not net.block["fc1"].low_rank.dropout.training


def test_a_deep_copy_is_independent_and_can_be_ejected():
    net = Net()
    before = state(net)[0]
    injection.inject(net, "*", 2)
    twin = copy.deepcopy(net)
    train(twin)
    assert all(p.abs().sum() == 0 for n, p in net.named_parameters() if n.endswith("low_rank.up"))
    injection.eject(twin)
    assert twin.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())
    assert len(injection.collect(net)) == 3


def test_collected_values_are_copies_and_load_puts_them_back():
    net = Net()
    injection.inject(net, "*", 2)
    train(net)
    kept = injection.collect(net)
    train(net)
    assert not torch.equal(kept["conv"].up, injection.collect(net)["conv"].up)
    injection.load(net, kept)
    assert all(
        torch.equal(kept[k].up, v.up) and torch.equal(kept[k].down, v.down) for k, v in injection.collect(net).items()
    )


def test_load_refuses_other_layers_and_other_ranks():
    net = Net()
    injection.inject(net, "*", 2)
    kept = injection.collect(net)
    with pytest.raises(LoRAError, match="conv"):
        injection.load(net, {k: v for k, v in kept.items() if k != "conv"})
    other = LoRA(torch.zeros(6, 3), torch.zeros(3, 4), 3.0)
    with pytest.raises(LoRAError, match="same numbers"):
        injection.load(net, {**kept, "conv": other})


@pytest.mark.parametrize(
    "patterns, message",
    [
        ("block.fc3", "nearest names are block.fc"),
        ("norm", "BatchNorm2d"),
        ([], "no name pattern"),
        (["conv", "nothing.*"], "nothing"),
        ("block", r"block\.\*"),
    ],
)
def test_a_pattern_that_fits_no_layer_is_an_error_and_changes_nothing(patterns, message):
    net = Net()
    before = state(net)
    with pytest.raises(LoRAError, match=message):
        injection.inject(net, patterns, 2)
    assert same(before, state(net))


@pytest.mark.parametrize("numbers", [(0, None, 0.0), (2, float("nan"), 0.0), (2, 1.0, 1.0)])
def test_numbers_out_of_range_are_refused(numbers):
    rank, alpha, dropout = numbers
    with pytest.raises(LoRAError, match="expected rank"):
        injection.inject(Net(), "*", rank, alpha, dropout=dropout)


def test_injecting_twice_is_an_error_from_outside_and_inside():
    net = Net()
    injection.inject(net, "block.*", 2)
    with pytest.raises(LoRAError, match="already"):
        injection.inject(net, "conv", 2)
    with pytest.raises(LoRAError, match="another module"):
        injection.eject(net.block)
    injection.eject(net)
    injection.inject(net, "conv", 2)


def test_a_layer_that_is_never_called_is_refused_and_can_be_excluded():
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with pytest.raises(LoRAError, match="MultiheadAttention"):
        injection.inject(net, "*", 2)
    made = injection.inject(net, "*", 2, exclude="*.out_proj")
    assert made.names == ("linear1", "linear2")
    with torch.no_grad():  # the fast path of this layer must not bypass the adapter
        x = torch.randn(2, 3, 8)
        before = net(x)
        for parameter in injection.parameters(net):
            nn.init.normal_(parameter)
        assert not torch.allclose(net(x), before)


def test_weights_made_under_inference_mode_are_refused_in_words():
    with torch.inference_mode():
        net = Net()
        with pytest.raises(LoRAError, match="inference_mode"):
            injection.inject(net, "*", 2)
    with pytest.raises(LoRAError, match="inference_mode"):
        injection.inject(net, "*", 2)
