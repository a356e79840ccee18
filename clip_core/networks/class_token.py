"""The class token of a vision transformer, without the work that does not reach it: of the last block only its own
query, and there keys and values are never made.

A head's score of token x is q . (K x + b) = (K^T q) . x + a constant that softmax takes away, and what it collects is
V (sum of a x) + b, since its shares a sum to 1. So the last block costs a few vectors in place of all tokens.

Where layers are plain `torch.nn` in float32 and nothing is to be differentiated, the other blocks run in fewer passes
over memory, too: the residual sums and the factors of quick_gelu go into the matrix products. Layers that are
something else (a host's, one that carries a LoRA or a hook) are called as they are.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import QUICK, Block


def class_token(embeddings: nn.Module, norm: nn.Module, blocks: Sequence[Block], pixels: Tensor) -> Tensor:
    """The last block's first token. [B, 3, S, S] -> [B, C]"""
    if not _plain([*embeddings.modules(), *(part for block in blocks for part in block.modules())], pixels):
        x = norm(embeddings(pixels))
        for block in blocks[:-1]:
            x = block(x)
        return blocks[-1](x, first=1)[:, 0]
    x = norm(_embedded(embeddings, pixels))
    for block in blocks[:-1]:
        x = _through_(block, x)
    return _first(blocks[-1], x)


_PLAIN = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.Embedding)


def _plain(modules: Sequence[nn.Module], pixels: Tensor) -> bool:
    """Whether these can be computed from their weights, without calling them."""
    if torch.is_grad_enabled() or pixels.dtype != torch.float32:
        return False
    for part in modules:
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            return False
        leaf = next(part.children(), None) is None
        if leaf and (type(part) not in _PLAIN or part.weight.dtype != torch.float32):
            return False
    return True


def _embedded(embeddings: nn.Module, pixels: Tensor) -> Tensor:
    """`VisionEmbeddings.forward`, the patches by one matrix product. [B, 3, S, S] -> [B, 1 + P, C]"""
    weight = embeddings.patch_embedding.weight  # [C, 3, p, p]
    side, grid = weight.shape[-1], pixels.shape[-1] // weight.shape[-1]
    patches = pixels.unflatten(2, (grid, side)).unflatten(4, (grid, side))  # [B, 3, g, p, g, p]
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [B, P, 3 * p * p]
    places = embeddings.position_embedding.weight  # [1 + P, C]
    x = pixels.new_empty(len(pixels), *places.shape)
    x[:, 0] = embeddings.class_embedding + places[0]
    torch.add(patches @ weight.flatten(1).T, places[1:], out=x[:, 1:])
    return x


def _through_(block: Block, x: Tensor) -> Tensor:
    """`Block.forward`, into x itself. [B, T, C] -> [B, T, C]"""
    mixing, mlp = block.self_attn, block.mlp
    y = block.layer_norm1(x)
    q, k, v = (
        layer(y).unflatten(-1, (mixing.heads, -1)).transpose(1, 2)  # [B, H, T, C/H]
        for layer in (mixing.q_proj, mixing.k_proj, mixing.v_proj)
    )
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    rows = x.view(-1, x.shape[-1])  # [B * T, C]
    _add_(rows, mixed, mixing.out_proj)
    if mlp.activation == "quick_gelu":  # 1.702 z sigmoid(1.702 z), which is SiLU of 1.702 z, and 1 / 1.702 behind it
        y = torch.addmm(QUICK * mlp.fc1.bias, block.layer_norm2(rows), mlp.fc1.weight.T, alpha=QUICK)
        _add_(rows, F.silu(y, inplace=True), mlp.fc2, 1 / QUICK)
    else:
        _add_(rows, F.gelu(mlp.fc1(block.layer_norm2(rows))), mlp.fc2)
    return x


def _add_(rows: Tensor, y: Tensor, layer: nn.Linear, factor: float = 1.0) -> None:
    """rows += factor * W y + b. [N, C], [..., D]"""
    rows.add_(layer.bias).addmm_(y.view(len(rows), -1), layer.weight.T, alpha=factor)


def _first(block: Block, x: Tensor) -> Tensor:
    """`Block.forward` at the first token. [B, T, C] -> [B, C]"""
    mixing, heads = block.self_attn, block.self_attn.heads
    y = block.layer_norm1(x)
    q = mixing.q_proj(y[:, 0]).unflatten(-1, (heads, -1)).transpose(0, 1)  # [H, B, C/H]
    asked = q @ mixing.k_proj.weight.unflatten(0, (heads, -1)) * q.shape[-1] ** -0.5  # [H, B, C]
    share = (asked.transpose(0, 1) @ y.transpose(1, 2)).softmax(-1)  # [B, H, T]
    taken = (share @ y).transpose(0, 1)  # [H, B, C]
    values = taken @ mixing.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)  # [H, B, C/H]
    x = x[:, 0] + mixing.out_proj(values.transpose(0, 1).flatten(1) + mixing.v_proj.bias)
    return x + block.mlp(block.layer_norm2(x))
