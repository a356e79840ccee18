"""The class token of a vision transformer, computed without the work that does not reach it: the last block has one
query, and never makes keys and values.

A head scores token x by q . (K x + b) = (K^T q) . x + a constant, which softmax cancels; its output is
V (sum of a x) + b, since the weights a sum to 1. So the last block costs a few vectors in place of all tokens.

Where layers are plain `torch.nn` in float32 and no gradient is recorded, the other blocks take fewer passes over
memory, too: residual sums and the factors of quick_gelu go into the matrix products. Other layers (a host's, one with
a LoRA or a hook) are called as they are.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import QUICK, Block, activate
from .patches import VisionEmbeddings


def class_token(embeddings: VisionEmbeddings, norm: nn.Module, blocks: Sequence[Block], pixels: Tensor) -> Tensor:
    """The first token of the last block's output. [B, 3, S, S] -> [B, C]"""
    if not _are_plain([*embeddings.modules(), *(part for block in blocks for part in block.modules())], pixels):
        x = norm(embeddings(pixels))
        for block in blocks[:-1]:
            x = block(x)
        return blocks[-1](x, first=1)[:, 0]
    x = norm(_embed(embeddings, pixels))
    for block in blocks[:-1]:
        x = _apply_(block, x)
    return _first_token(blocks[-1], x)


_PLAIN = (nn.Linear, nn.LayerNorm, nn.Conv2d, nn.Embedding)


def _are_plain(modules: Sequence[nn.Module], pixels: Tensor) -> bool:
    """Whether the output of these modules follows from their weights, so that they need not be called."""
    if torch.is_grad_enabled() or pixels.dtype != torch.float32:
        return False
    for part in modules:
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            return False
        is_leaf = next(part.children(), None) is None
        if is_leaf and not (isinstance(part, _PLAIN) and type(part) in _PLAIN and part.weight.dtype == torch.float32):
            return False
    return True


def _embed(embeddings: VisionEmbeddings, pixels: Tensor) -> Tensor:
    """`VisionEmbeddings.forward` as one matrix product. [B, 3, S, S] -> [B, 1 + P, C]"""
    weight = embeddings.patch_embedding.weight  # [C, 3, p, p]
    side, grid = weight.shape[-1], pixels.shape[-1] // weight.shape[-1]
    patches = pixels.unflatten(2, (grid, side)).unflatten(4, (grid, side))  # [B, 3, g, p, g, p]
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [B, P, 3 * p * p]
    positions = embeddings.position_embedding.weight  # [1 + P, C]
    x = pixels.new_empty(len(pixels), *positions.shape)
    x[:, 0] = embeddings.class_embedding + positions[0]
    torch.add(patches @ weight.flatten(1).T, positions[1:], out=x[:, 1:])
    return x


def _apply_(block: Block, x: Tensor) -> Tensor:
    """`Block.forward`, written over x. [B, T, C] -> [B, T, C]"""
    mixing, mlp = block.self_attn, block.mlp
    y = block.layer_norm1(x)
    q, k, v = (
        layer(y).unflatten(-1, (mixing.heads, -1)).transpose(1, 2)  # [B, H, T, C/H]
        for layer in (mixing.q_proj, mixing.k_proj, mixing.v_proj)
    )
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    rows = x.view(-1, x.shape[-1])  # [B * T, C]
    _add_(rows, mixed, mixing.out_proj)
    if mlp.activation == "quick_gelu":  # z sigmoid(1.702 z) = SiLU(1.702 z) / 1.702
        y = torch.addmm(QUICK * mlp.fc1.bias, block.layer_norm2(rows), mlp.fc1.weight.T, alpha=QUICK)
        _add_(rows, F.silu(y, inplace=True), mlp.fc2, 1 / QUICK)
    else:
        _add_(rows, activate(mlp.fc1(block.layer_norm2(rows)), mlp.activation), mlp.fc2)
    return x


def _add_(rows: Tensor, y: Tensor, layer: nn.Linear, factor: float = 1.0) -> None:
    """rows += factor * W y + b. [N, C], [..., D]"""
    rows.add_(layer.bias).addmm_(y.view(len(rows), -1), layer.weight.T, alpha=factor)


def _first_token(block: Block, x: Tensor) -> Tensor:
    """The first token of `Block.forward`. [B, T, C] -> [B, C]"""
    mixing, heads = block.self_attn, block.self_attn.heads
    y = block.layer_norm1(x)
    q = mixing.q_proj(y[:, 0]).unflatten(-1, (heads, -1)).transpose(0, 1)  # [H, B, C/H]
    asked = q @ mixing.k_proj.weight.unflatten(0, (heads, -1)) * q.shape[-1] ** -0.5  # [H, B, C]
    share = (asked.transpose(0, 1) @ y.transpose(1, 2)).softmax(-1)  # [B, H, T]
    taken = (share @ y).transpose(0, 1)  # [H, B, C]
    values = taken @ mixing.v_proj.weight.unflatten(0, (heads, -1)).transpose(1, 2)  # [H, B, C/H]
    x = x[:, 0] + mixing.out_proj(values.transpose(0, 1).flatten(1) + mixing.v_proj.bias)
    return x + block.mlp(block.layer_norm2(x))
