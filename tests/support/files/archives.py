"""TorchScript archives with the tensors of any state dict, for tests."""

from pathlib import Path

import torch


class Holder(torch.nn.Module):
    """A tree of modules with these tensors under these dotted names."""

    def __init__(self, state: dict[str, torch.Tensor]):
        super().__init__()
        inner: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in state.items():
            first, _, rest = name.partition(".")
            if rest:
                inner.setdefault(first, {})[rest] = tensor
            else:
                self.register_buffer(first, tensor)
        for name, tensors in inner.items():
            self.add_module(name, Holder(tensors))

    def forward(self, x):
        return x


def write_archive(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """As OpenAI's: traced, and with the three numbers that their files hold beside the weights."""
    numbers = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.jit.save(torch.jit.trace(Holder(state | numbers), torch.zeros(1)), path)
    return path
