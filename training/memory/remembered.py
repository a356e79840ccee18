"""What an optimiser remembers of each parameter, by the parameters' names, however it is shared out among processes.

So a state on disk is the same whether the memory was whole or shared out, and among how many processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ..distributed import own_part, whole_state
from ..optimisers import ON_THE_CPU

Memory = Mapping[str, Mapping[str, Tensor]]  # a parameter's name -> part of its memory -> numbers


def is_shared_out(optimizer: Optimizer) -> bool:
    """Whether this process remembers some of the parameters alone."""
    return own_part(optimizer) is not optimizer


def remembered(optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> Memory:
    """The memory of all parameters; where it is shared out, all processes must call this and only the first is told."""
    if not is_shared_out(optimizer):
        return {name: _numbers(optimizer.state.get(one, {})) for name, one in parameters.items()}
    whole = whole_state(optimizer)
    if whole is None:
        return {}
    ordered = [one for group in optimizer.param_groups for one in group["params"]]
    names = {one: name for name, one in parameters.items()}
    return {names[one]: _numbers(whole.get(number, {})) for number, one in enumerate(ordered)}


def own_names(optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> list[str]:
    """The names of the parameters whose memory this process keeps."""
    own = {one for group in own_part(optimizer).param_groups for one in group["params"]}
    return [name for name, one in parameters.items() if one in own]


def remember_(optimizer: Optimizer, parameters: Mapping[str, Parameter], memory: Memory) -> None:
    """Let the optimiser remember this of its own parameters, and of the others nothing."""
    part = own_part(optimizer)
    for name in own_names(optimizer, parameters):
        if name in memory:
            one = parameters[name]
            part.state[one] = {
                key: tensor if key in ON_THE_CPU else tensor.to(one.device) for key, tensor in memory[name].items()
            }


def _numbers(memory: Mapping[str, object]) -> dict[str, Tensor]:
    return {key: value for key, value in memory.items() if isinstance(value, Tensor)}
