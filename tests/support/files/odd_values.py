"""Odd values for every type of link, and who is called with what."""

import inspect

import torch

COLOURS = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
CELLS = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
TOKENS = torch.rand(1, 77, 64, generator=torch.Generator().manual_seed(2))
WIDGETS = {"STRING", "INT", "FLOAT", "BOOLEAN", "COMBO"}
TYPES = {
    "uint8": lambda x: (x * 255).byte(),
    "int64": torch.Tensor.long,
    "fp8": lambda x: x.to(torch.float8_e4m3fn),
    "fp16": torch.Tensor.half,
    "bf16": torch.Tensor.bfloat16,
    "fp64": torch.Tensor.double,
    "bool": lambda x: x > 0.5,
    "complex": lambda x: x.to(torch.complex64),
    "NaN": lambda x: x * float("nan"),
    "infinite": lambda x: x + float("inf"),
    "1e30": lambda x: x * 1e30,
    "0..255": lambda x: x * 255,
    "sparse": torch.Tensor.to_sparse,
    "meta": lambda x: x.to("meta"),
    "nested": lambda x: torch.nested.nested_tensor([x[0], x[0][:1]]),
    "numpy": torch.Tensor.numpy,
    "without a batch": lambda x: x[0],
    "one axis more": lambda x: x[None],
    "an empty batch": lambda x: x[:0],
    "an empty axis": lambda x: x[:, :0],
    "expanded": lambda x: x[:1].expand(3, *x.shape[1:]),
    "strided": lambda x: x[:, ::2],
    "one channel": lambda x: x[..., :1],
    "a single number": lambda x: torch.tensor(0.5),
    "a list": lambda x: [x],
    "a text": lambda x: "x",
}
OTHERS = {"nothing": None, "an object": object(), "a table": {}, "a list": [1], "a tensor": CELLS, "a number": 5}


def odd(kind):
    """What may come over a link of this type instead of what it wants, by name."""
    if kind in ("IMAGE", "MASK"):
        whole = COLOURS if kind == "IMAGE" else COLOURS[..., 0]
        return {name: make(whole) for name, make in TYPES.items()} | OTHERS
    if kind == "LATENT":
        return {name: {"samples": make(CELLS)} for name, make in TYPES.items()} | OTHERS | _odd_latents()
    if kind == "CONDITIONING":
        pooled = {"pooled_output": TOKENS[:, 0]}
        return {name: [[make(TOKENS), pooled]] for name, make in TYPES.items()} | OTHERS | _odd_prompts()
    return OTHERS


def _odd_latents():
    more = {"noise_mask": "x"}, {"noise_mask": None}, {"batch_index": "x"}, {"cvl_size_px": "x"}, {"type": "audio"}
    return {str(entry): {"samples": CELLS, **entry} for entry in more} | {"none inside": {"samples": None}}


def _odd_prompts():
    more = {"pooled_output": None}, {"pooled_output": "x"}, {"pooled_output": TOKENS}, {5: 1}, {"x": object()}
    return {str(entry): [[TOKENS, entry]] for entry in more} | {"empty": [], "no table": [[TOKENS]], "2": [[None, {}]]}


class Listener:
    """A node that tells what it is called with."""

    def __init__(self, node):
        self._node, self.given = node, {}

    def __getattr__(self, name):
        found = getattr(self._node, name)
        if name != self._node.FUNCTION:
            return found

        def call(*given, **named):
            bound = inspect.signature(found).bind(*given, **named)
            self.given = dict(bound.arguments)
            return found(*given, **named)

        return call


def links(node):
    groups = node.INPUT_TYPES()
    kinds = {key: spec[0] for group in ("required", "optional") for key, spec in groups.get(group, {}).items()}
    return {key: kind.split(",")[0] for key, kind in kinds.items() if isinstance(kind, str) and kind not in WIDGETS}
