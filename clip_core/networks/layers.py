"""The transformer block that both encoders share: attention and a two-layer perceptron, each after a norm and added
back.

Names of the modules are Hugging Face's (`self_attn.q_proj`, `mlp.fc1`, ...), because LoRA files are written against
them. Source of the arithmetic: openai/CLIP clip/model.py `ResidualAttentionBlock`.

`operations` is a namespace with Linear, LayerNorm, Embedding and Conv2d: `torch.nn`, or a host's layers that cast
their weights to the input's type at use (its Embedding, whose input are numbers, to the `out_dtype` it is called
with). Weights are therefore only ever used through the `forward` of their layer.
"""

from types import ModuleType, SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import NORM_EPS

QUICK = 1.702  # of quick_gelu

Operations = ModuleType | SimpleNamespace | type


class Unfilled:
    """`torch.nn`'s layers without their first random values, for networks of which only the shapes are wanted."""

    class Linear(nn.Linear):
        def reset_parameters(self) -> None: ...

    class Conv2d(nn.Conv2d):
        def reset_parameters(self) -> None: ...

    class LayerNorm(nn.LayerNorm):
        def reset_parameters(self) -> None: ...

    class Embedding(nn.Embedding):
        def reset_parameters(self) -> None: ...


def activate(x: Tensor, activation: str) -> Tensor:
    """`gelu` (the exact one, with erf) or `quick_gelu`, OpenAI's x * sigmoid(1.702 x)."""
    if activation != "quick_gelu":
        return F.gelu(x)
    gate = (QUICK * x).sigmoid_()
    return x * gate if torch.is_grad_enabled() else gate.mul_(x)


def activation_dtype(layer: nn.Module) -> torch.dtype:
    """The type that activations are to have in the network of this norm or convolution: float32 where layers cast their
    weights to their input's type (a host's layers), the weights' own type with plain `torch.nn`, which cannot mix them.
    """
    return layer.weight.dtype if type(layer) in (nn.LayerNorm, nn.Conv2d) else torch.float32


def looked_up(table: nn.Module, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Rows of an embedding table as `dtype`, looked up where `ids` are.

    No table of one-byte floats is indexed as such: not every build of torch for CUDA can. A host's layer is told the
    type and casts first; of plain `torch.nn` the same bytes are looked up as integers, which all devices index.

    [...] ids -> [..., C]
    """
    if type(table).forward is not nn.Embedding.forward:  # a host's layer
        return table(ids, out_dtype=dtype).to(dtype)
    if table.weight.dtype.itemsize > 1:
        return table(ids).to(dtype)
    return F.embedding(ids, table.weight.view(torch.uint8)).view(table.weight.dtype).to(dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(C) + causal mask) v, as three plain steps. Over the 77 tokens of a text that is as quick
    on a CPU as the fused kernel, and in this order of additions a prompt's encoding has the very bits of ComfyUI's
    on its CPU.

    three times [B, H, T, C], [B, T] bool -> [B, H, T, C]
    """
    batch, heads, tokens, width = q.shape
    q, k, v = (x.reshape(batch * heads, tokens, width) for x in (q, k, v))
    mask = torch.full((tokens, tokens), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if seen is not None:
        mask = mask.masked_fill(~seen[:, None], -torch.inf).repeat_interleave(heads, 0)  # [B * H, T, T]
    near = torch.bmm(q, k.transpose(1, 2)) * width**-0.5 + mask  # [B * H, T, T]
    return torch.bmm(near.softmax(-1), v).view(batch, heads, tokens, width)


class Attention(nn.Module):
    """Self-attention over all tokens, or, if `causal`, over the tokens up to one's own; and of those only over the
    ones that may be `seen`.
    """

    def __init__(self, width: int, heads: int, *, causal: bool, operations: Operations, device, dtype):
        super().__init__()
        self.heads, self.causal = heads, causal
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, operations.Linear(width, width, device=device, dtype=dtype))

    def forward(self, x: Tensor, seen: Tensor | None = None, first: int | None = None) -> Tensor:
        """[B, T, C], [B, T] bool -> [B, T, C], or of the `first` tokens alone, where it is not causal"""
        q = self._by_head(self.q_proj(x[:, :first]))  # [B, H, T or first, C/H]
        k, v = (self._by_head(project(x)) for project in (self.k_proj, self.v_proj))  # [B, H, T, C/H]
        if self.causal and x.device.type == "cpu":
            mixed = causal_attention(q, k, v, seen)
        elif seen is None:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._allowed(seen))
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def _allowed(self, seen: Tensor) -> Tensor:
        """Which keys each place may look at. [B, T] bool -> [B, 1, 1 or T, T] bool"""
        allowed = seen[:, None, None]
        if self.causal:
            tokens = seen.shape[1]
            allowed = allowed & torch.ones(tokens, tokens, dtype=torch.bool, device=seen.device).tril()
        return allowed


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, activation: str, *, operations: Operations, device, dtype):
        super().__init__()
        self.activation = activation
        self.fc1 = operations.Linear(width, hidden, device=device, dtype=dtype)
        self.fc2 = operations.Linear(hidden, width, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]"""
        return self.fc2(activate(self.fc1(x), self.activation))


class Block(nn.Module):
    def __init__(
        self, width: int, heads: int, mlp: int, activation: str, *, causal: bool, operations: Operations, device, dtype
    ):
        super().__init__()
        placed = {"operations": operations, "device": device, "dtype": dtype}
        self.self_attn = Attention(width, heads, causal=causal, **placed)
        self.layer_norm1 = operations.LayerNorm(width, eps=NORM_EPS, device=device, dtype=dtype)
        self.mlp = MLP(width, mlp, activation, **placed)
        self.layer_norm2 = operations.LayerNorm(width, eps=NORM_EPS, device=device, dtype=dtype)

    def forward(self, x: Tensor, seen: Tensor | None = None, first: int | None = None) -> Tensor:
        """[B, T, C], [B, T] bool -> [B, T, C], or of the `first` tokens alone, where it is not causal"""
        x = x[:, :first] + self.self_attn(self.layer_norm1(x), seen, first)
        return x + self.mlp(self.layer_norm2(x))


class Stack(nn.Module):
    """The blocks in a row."""

    def __init__(
        self,
        layers: int,
        width: int,
        heads: int,
        mlp: int,
        activation: str,
        *,
        causal: bool,
        operations: Operations,
        device,
        dtype,
    ):
        super().__init__()
        placed = {"operations": operations, "device": device, "dtype": dtype}
        sizes = (width, heads, mlp, activation)
        self.layers = nn.ModuleList(Block(*sizes, causal=causal, **placed) for _ in range(layers))

    def forward(self, x: Tensor, layer: int | None = None, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output of the last block, and of block `layer` (see `block_number`), which is the same tensor for None.
        `seen` False: nobody's attention goes to that token, in any block.

        [B, T, C], [B, T] bool -> [B, T, C], [B, T, C]
        """
        wanted = block_number(layer, len(self.layers))
        chosen = x
        for number, block in enumerate(self.layers, 1):
            x = block(x, seen)
            if number == wanted:
                chosen = x
        return x, chosen


def block_number(layer: int | None, layers: int) -> int:
    """How many blocks have been passed at `layer`, which counts as HF's `hidden_states` do: 0 is what goes into the
    first block, 1 its output, -1 (and None) the output of the last block, -2 that of the last but one.

    Raises:
        ValueError: there is no such layer.
    """
    if layer is None:
        return layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(f"layer {layer} was asked for, but this encoder has layers {-layers - 1} to {layers}")
    return layer if layer >= 0 else layers + 1 + layer
