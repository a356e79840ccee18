"""LoRA files of every kind and dialect for the tiny CLIP, and the damage that files come to: all of it seeded."""

import json
import random
from pathlib import Path

import torch
from safetensors.torch import save

QUERY, MLP, OTHER = "text_model.encoder.layers.0.self_attn.q_proj", "text_model.encoder.layers.1.mlp.fc1", "nowhere.x"
UNET = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
SIZES = {QUERY: (64, 64), MLP: (128, 64), OTHER: (64, 64)}
KINDS = {  # suffix: shape, of a weight [out, in]
    "LoRA": lambda o, i: {"lora_up.weight": (o, 2), "lora_down.weight": (2, i)},
    "LoCon": lambda o, i: {
        "lora_up.weight": (o, 2, 1, 1),
        "lora_down.weight": (2, i, 1, 1),
        "lora_mid.weight": (2, 2, 1, 1),
    },
    "LoHa": lambda o, i: {"hada_w1_a": (o, 2), "hada_w1_b": (2, i), "hada_w2_a": (o, 2), "hada_w2_b": (2, i)},
    "LoKr": lambda o, i: {"lokr_w1": (2, 2), "lokr_w2_a": (o // 2, 2), "lokr_w2_b": (2, i // 2)},
    "OFT": lambda o, i: {"oft_blocks": (4, o // 4, o // 4)},
    "BOFT": lambda o, i: {"oft_blocks": (2, o // 4, 4, 4), "rescale": (o, 1)},
    "OFT of inputs": lambda o, i: {"oft_R.weight": (i // 4, 6)},
    "GLoRA": lambda o, i: {"a1.weight": (i, 2), "a2.weight": (2, i), "b1.weight": (o, 2), "b2.weight": (2, i)},
    "(IA)^3": lambda o, i: {"weight": (o,), "on_input": ()},
    "PEFT (IA)^3": lambda o, i: {"ia3_l": (o, 1)},
    "DoRA": lambda o, i: {"lora_up.weight": (o, 2), "lora_down.weight": (2, i), "dora_scale": (o, 1)},
    "diffusers": lambda o, i: {"lora_A.weight": (2, i), "lora_B.weight": (o, 2)},
    "old diffusers": lambda o, i: {"lora.down.weight": (2, i), "lora.up.weight": (o, 2)},
    "DoRA of PEFT": lambda o, i: {"lora_A.weight": (2, i), "lora_B.weight": (o, 2), "lora_magnitude_vector": (o,)},
    "with bias": lambda o, i: {"lora_A.weight": (2, i), "lora_B.weight": (o, 2), "lora_B.bias": (o,)},
    "full": lambda o, i: {"diff": (o, i), "diff_b": (o,)},
    "set": lambda o, i: {"set_weight": (o, i)},
}
NAMES = (
    lambda path: "lora_te_" + path.replace(".", "_"),
    lambda path: path,
    lambda path: f"text_encoder.{path}",
    lambda path: f"base_model.model.{path}",
    lambda path: "lora_te1_" + path.replace(".", "_"),
)
ODD = (float("nan"), float("inf"), -float("inf"), 0.0, 1e-30, 3e38, -1e12, 65504.0)
CONFIGS = (
    {"r": 2, "lora_alpha": 4},
    {"r": 3, "lora_alpha": 4},
    {"r": "x"},
    [],
    None,
    {"r": 2, "lora_alpha": 1e300},
    {"r": 2, "lora_alpha": 4, "alpha_pattern": {"(a+)+$": 1}},
    {"r": 2, "lora_alpha": None, "use_dora": True},
)
BLOCKS = ("", "", "", "text: 0.5", "IN07: 0", "layers.0: 0, *: 0.5", "text: much", "1,2,3", ":", "1" + ",0" * 16)


def whole(rng: random.Random) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the header of a sound file of one to four modules."""
    tensors, header = {}, {"ss_network_dim": "2", "modelspec.trigger_phrase": "sks"} if rng.random() < 0.5 else {}
    for path in rng.sample([QUERY, MLP, OTHER], rng.randint(1, 3)):
        module, shapes = rng.choice(NAMES)(path), KINDS[rng.choice([*KINDS])](*SIZES[path])
        for suffix, shape in shapes.items():
            value = torch.rand(shape, generator=torch.Generator().manual_seed(rng.randrange(99))) * 0.1
            tensors[f"{module}.{suffix}"] = torch.tensor(1) if suffix == "on_input" else value
        if rng.random() < 0.6:
            tensors[f"{module}.alpha"] = torch.tensor(rng.choice([1.0, 2.0, 0.5]))
    if rng.random() < 0.2:
        tensors[f"{UNET}.lora_up.weight"], tensors[f"{UNET}.lora_down.weight"] = torch.ones(640, 2), torch.ones(2, 2048)
    if rng.random() < 0.1:
        tensors["<s1>"], header["<s1>"] = torch.ones(64), "<embed>"
    if rng.random() < 0.1:
        header["lora_adapter_metadata"] = json.dumps(rng.choice(CONFIGS))
    dtype = rng.choice([torch.float32, torch.float16, torch.bfloat16])
    return {name: t.to(dtype) if t.is_floating_point() and t.ndim else t for name, t in tensors.items()}, header


def damage_tensors(rng: random.Random, tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
    """One thing that is wrong with what the file says: a name, a shape, a number, a type, a text."""
    name = rng.choice([*tensors])
    tensor, module = tensors[name], name.split(".lora_")[0].split(".hada")[0]
    act = rng.randrange(10)
    if act == 0:
        place = rng.randrange(len(name))
        tensors[name[:place] + rng.choice("._x0é") + name[place + 1 :]] = tensors.pop(name)
    elif act == 1 and len(tensors) > 1:
        del tensors[name]
    elif act == 2:
        tensors[name] = tensor.reshape(-1)[: rng.randrange(tensor.numel() + 1)]
    elif act == 3:
        tensors[name] = torch.ones(rng.choice([(), (0,), (3, 64), (64, 3), (2, 2, 3, 3), (1, 1, 1, 1, 1)]))
    elif act == 4 and tensor.is_floating_point() and tensor.numel():
        tensors[name] = tensor.clone()
        tensors[name].view(-1)[rng.randrange(tensor.numel())] = rng.choice(ODD)
    elif act == 5:
        tensors[name] = tensor.to(rng.choice([torch.int64, torch.bool, torch.float8_e4m3fn, torch.complex64]))
    elif act == 6:
        tensors[f"{module}.alpha"] = torch.tensor(rng.choice([*ODD, -1.0, 1e6]))
    elif act == 7:
        tensors[f"{module}.alpha"] = torch.ones(4)
    elif act == 8:  # a second prefix for the same weight
        bare = name.replace("lora_te_", "lora_te1_") if name.startswith("lora_te_") else f"text_encoder.{name}"
        tensors[bare] = tensor.clone()
    else:
        text = rng.choice(["{", "[" * 5000, "null", "\x1b[31m\u202e", json.dumps({"a": {"b": 10**400}}), "x" * 100_000])
        header[rng.choice(["lora_adapter_metadata", "adapter_config", "ss_tag_frequency", "modelspec.tags"])] = text


def damage_bytes(rng: random.Random, data: bytes) -> bytes:
    """One thing that happens to a file on its way: bits flipped, cut short, enlarged, its header tampered with."""
    act, body = rng.randrange(8), bytearray(data)
    header = int.from_bytes(data[:8], "little") if len(data) > 8 else 0
    if act <= 1:
        for _ in range(rng.randint(1, 40)):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    elif act == 2:  # in the header, or where one would be
        for _ in range(rng.randint(1, 3)):
            body[rng.randrange(8, max(9, min(len(body), header + 8)))] ^= 1 << rng.randrange(8)
    elif act == 3:
        body = body[: rng.randrange(len(body))]
    elif act == 4:
        body += rng.randbytes(rng.randint(1, 64))
    elif act == 5:
        body[:8] = rng.choice([0, 1, 2**63, header - 1, header + 1, 10**9]).to_bytes(8, "little")
    elif act == 6:
        start = rng.randrange(len(body))
        body[start : start + 256] = bytes(len(body[start : start + 256]))
    elif 0 < header < len(body):  # one name twice
        inside = data[8 : 8 + header].rstrip()
        twice = inside[:-1] + b"," + inside[1 : inside.find(b"}") + 1] + b"}"
        body = bytearray(len(twice).to_bytes(8, "little") + twice + data[8 + header :])
    return bytes(body)


def write(rng: random.Random, path: Path, real: list[bytes]) -> None:
    """A damaged file (one in twenty stays whole), sometimes one of the real ones, sometimes with a configuration."""
    if real and rng.random() < 0.1:
        path.write_bytes(damage_bytes(rng, rng.choice(real)))
        return
    tensors, header = whole(rng)
    in_tensors, in_bytes = rng.choice([(1, 0), (1, 0), (2, 0), (4, 0), (0, 1), (0, 1), (1, 1)])
    if rng.random() < 0.05:
        in_tensors = in_bytes = 0
    for _ in range(in_tensors):
        damage_tensors(rng, tensors, header)
    if rng.random() < 0.08:
        torch.save(tensors, path)
        data = path.read_bytes()
    else:
        data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, header or None)
    path.write_bytes(damage_bytes(rng, data) if in_bytes else data)
    beside = path.with_name("adapter_config.json")
    beside.unlink(missing_ok=True)
    if rng.random() < 0.05:
        beside.write_text(rng.choice([json.dumps(rng.choice(CONFIGS)), "{", ""]))
