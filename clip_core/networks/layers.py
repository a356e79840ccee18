"""The transformer block that both encoders share: attention and a two-layer perceptron, each after a norm and added
back.

Names of the modules are Hugging Face's (`self_attn.q_proj`, `mlp.fc1`, ...), because LoRA files are written against
them. Source of the arithmetic: openai/CLIP clip/model.py `ResidualAttentionBlock`.

`operations` is a namespace with Linear, LayerNorm, Embedding and Conv2d: `torch.nn`, or a host's layers that cast
their weights to the input's type at use (its Embedding, whose input are numbers, to the `out_dtype` it is called
with). Weights are therefore only ever used through the `forward` of their layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import NORM_EPS

QUICK = 1.702  # of quick_gelu

Device = torch.device | str | None  # of new weights; None: torch's default
Dtype = torch.dtype | None


class Operations(Protocol):
    """The layers that a network is built of, called with the parameters of those of `torch.nn`."""

    @property
    def Linear(self) -> Callable[..., nn.Linear]: ...

    @property
    def Conv2d(self) -> Callable[..., nn.Conv2d]: ...

    @property
    def LayerNorm(self) -> Callable[..., nn.LayerNorm]: ...

    @property
    def Embedding(self) -> Callable[..., nn.Embedding]: ...


@dataclass(frozen=True)
class Layers:
    """Four kinds of layers as `Operations`."""

    Linear: Callable[..., nn.Linear]
    Conv2d: Callable[..., nn.Conv2d]
    LayerNorm: Callable[..., nn.LayerNorm]
    Embedding: Callable[..., nn.Embedding]


class _Linear(nn.Linear):
    def reset_parameters(self) -> None: ...


class _Conv2d(nn.Conv2d):
    def reset_parameters(self) -> None: ...


class _LayerNorm(nn.LayerNorm):
    def reset_parameters(self) -> None: ...


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None: ...


UNFILLED = Layers(_Linear, _Conv2d, _LayerNorm, _Embedding)  # weights stay uninitialised, for a network of mere shapes


def activate(x: Tensor, activation: str) -> Tensor:
    """`gelu` (the exact one, with erf), `gelu_tanh` (its approximation, SigLIP's), or `quick_gelu`, OpenAI's
    x * sigmoid(1.702 x).
    """
    if activation != "quick_gelu":
        return F.gelu(x, approximate="tanh" if activation == "gelu_tanh" else "none")
    gate = (QUICK * x).sigmoid_()
    return x * gate if torch.is_grad_enabled() else gate.mul_(x)


def activation_dtype(norm: nn.LayerNorm) -> torch.dtype:
    """Choose the activations' type by one norm of a network. Plain `torch.nn` layers cannot mix types, so activations
    take the weights' type; a host's layers cast their weights at use, so activations are float32.
    """
    return norm.weight.dtype if type(norm) is nn.LayerNorm else torch.float32


def look_up(table: nn.Embedding, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Look up rows of an embedding table, on the device of `ids`, and convert them to `dtype`.

    Some builds of torch for CUDA cannot index a table of one-byte floats. A host's layer is called with the output's
    type and casts first; a plain `torch.nn` table is viewed as integers, which every device indexes.

    [...] ids -> [..., C]
    """
    if type(table).forward is not nn.Embedding.forward:  # a host's layer
        return table(ids, out_dtype=dtype).to(dtype)
    if table.weight.dtype.itemsize > 1:
        return table(ids).to(dtype)
    return F.embedding(ids, table.weight.view(torch.uint8)).view(table.weight.dtype).to(dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Causal attention, softmax(q k^T / sqrt(C) + mask) v, as three plain steps. `seen` False masks a key, too.

    Over the 77 tokens of a text this is as quick on a CPU as the fused kernel, and its order of additions gives a
    prompt's encoding the very bits of ComfyUI's on its CPU.

    three times [B, H, T, C], [B, T] bool -> [B, H, T, C]
    """
    batch, heads, tokens, width = q.shape
    q, k, v = (x.reshape(batch * heads, tokens, width) for x in (q, k, v))
    mask = torch.full((tokens, tokens), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    if seen is not None:
        mask = mask.masked_fill(~seen[:, None], -torch.inf).repeat_interleave(heads, 0)  # [B * H, T, T]
    scores = torch.bmm(q, k.transpose(1, 2)) * width**-0.5 + mask  # [B * H, T, T]
    return torch.bmm(scores.softmax(-1), v).view(batch, heads, tokens, width)


class Attention(nn.Module):
    """Self-attention over all tokens, or, if `causal`, over those up to the query's own. `seen` masks keys besides."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        self.heads, self.causal = heads, causal
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, operations.Linear(width, width, device=device, dtype=dtype))

    def forward(self, x: Tensor, seen: Tensor | None = None, first: int | None = None) -> Tensor:
        """Mix the tokens of `x`. `first`: of so many tokens the output is computed, at the beginning; None: of all. It
        is for attention that is not causal.

        [B, T, C], [B, T] bool -> [B, T or first, C]
        """
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
        """The mask of keys that each query attends to. [B, T] bool -> [B, 1, 1 or T, T] bool"""
        allowed = seen[:, None, None]
        if self.causal:
            tokens = seen.shape[1]
            allowed = allowed & torch.ones(tokens, tokens, dtype=torch.bool, device=seen.device).tril()
        return allowed


class MLP(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str,
        *,
        operations: Operations,
        device: Device,
        dtype: Dtype,
    ):
        super().__init__()
        self.activation = activation
        self.fc1 = operations.Linear(width, hidden, device=device, dtype=dtype)
        self.fc2 = operations.Linear(hidden, width, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]"""
        return self.fc2(activate(self.fc1(x), self.activation))


class Block(nn.Module):
    """Attention and perceptron, each on a normed copy of its input and added back to it."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp: int,
        activation: str,
        *,
        causal: bool,
        operations: Operations,
        device: Device,
        dtype: Dtype,
        eps: float = NORM_EPS,
    ):
        super().__init__()
        self.self_attn = Attention(width, heads, causal=causal, operations=operations, device=device, dtype=dtype)
        self.layer_norm1 = operations.LayerNorm(width, eps=eps, device=device, dtype=dtype)
        self.mlp = MLP(width, mlp, activation, operations=operations, device=device, dtype=dtype)
        self.layer_norm2 = operations.LayerNorm(width, eps=eps, device=device, dtype=dtype)

    def forward(self, x: Tensor, seen: Tensor | None = None, first: int | None = None) -> Tensor:
        """One block; `seen` and `first` as in `Attention`. [B, T, C], [B, T] bool -> [B, T or first, C]"""
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
        device: Device,
        dtype: Dtype,
        eps: float = NORM_EPS,
    ):
        super().__init__()
        sizes = (width, heads, mlp, activation)
        self.layers = nn.ModuleList(
            Block(*sizes, causal=causal, operations=operations, device=device, dtype=dtype, eps=eps)
            for _ in range(layers)
        )

    def forward(self, x: Tensor, layer: int | None = None, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The output of the last block, and that of `layer` (see `block_number`), which for None is the same tensor.
        `seen` False: no query attends to that token, in any block.

        [B, T, C], [B, T] bool -> [B, T, C], [B, T, C]
        """
        wanted = block_number(layer, len(self.layers))
        chosen = x
        for number, block in enumerate(self.layers, 1):
            x = block(x, seen)
            if number == wanted:
                chosen = x
        return x, chosen


def blocks_of(stack: Stack) -> list[Block]:
    """The blocks as a list. They are typed here alone: a host's own encoders have the same parts under the same
    names.
    """
    return cast("list[Block]", list(stack.layers))


def block_number(layer: int | None, layers: int) -> int:
    """The number of blocks behind the hidden states `layer`, which counts as HF's `hidden_states` do: 0 is the input
    of the first block, 1 its output, -1 (and None) the output of the last block, -2 that of the last but one.

    Raises:
        ValueError: there is no such layer.
    """
    if layer is None:
        return layers
    if not -layers - 1 <= layer <= layers:
        raise ValueError(f"layer {layer} was asked for, but this encoder has layers {-layers - 1} to {layers}")
    return layer if layer >= 0 else layers + 1 + layer
