"""A graphics card that is not there, and yet computes: its tensors say that they lie on the card, keep their numbers in
the computer's own memory, and every operation on them is checked, counted and done by the CPU.

    with card() as count:                       # or card("mps"), which has no float64
        network = AutoencoderKL(config).to("cuda")
        count.reset()
        network.decode(z.to("cuda")).cpu()      # the numbers of the CPU
    print(count)

Where `pretended_card` has shapes alone and so takes networks of any size, this one has numbers and so takes whatever
code does with them: whole nodes, `.item()`, `nonzero`, files. It stands for what a card refuses (two devices in one
operation, a CPU generator for a card's numbers, float64 where there is none) and for where it is waited for: numbers
asked for by the CPU, sizes that depend on numbers, and copies that nobody called non_blocking. It does not stand for a
card's speed, rounding or missing kernels, and cannot go backwards (torch's engine wants a driver for that).
"""

import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from .cost import Cost, DeviceMismatch
from .cuda import cuda_that_answers
from .pretended_card import VIEWS

ROOT = Path(__file__).resolve().parents[3]
_COPIES = frozenset({"_to_copy", "copy_", "_copy_from"})
_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})  # take CPU indices too
_SIZED_BY_NUMBERS = frozenset({"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount"})
_RESHAPING = frozenset({"resize_", "set_", "t_", "transpose_", "squeeze_", "unsqueeze_"})
_BELOW = torch.device("cuda", 0)
_WITHOUT_FLOAT64 = frozenset({"mps", "xpu", "privateuseone"})  # of Intel's cards, Arc


class OnCard(torch.Tensor):
    """A tensor of the card; `held` has its numbers. Below Python it is CUDA's, the one device that torch can be told
    not to ask a driver for.
    """

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=_BELOW,
        )

    def __init__(self, held: torch.Tensor, device: torch.device):
        self.held, self.shown = held, device

    @property
    def device(self) -> torch.device:
        return self.shown

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"OnCard({self.held!r}, device={self.device})"

    def tolist(self):
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Reached in threads and after the end, where the mode is not."""
        if _Card.running is None:
            raise RuntimeError(f"{func} on a tensor of a card that is gone")
        return _Card.running.done(func, args, kwargs or {})


class _Card(TorchDispatchMode):
    running: "_Card | None" = None

    def __init__(self, cost: Cost, kind: str, float64: bool):
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # where torch does not look for a driver
        self.cost, self.device, self.float64 = cost, torch.device(kind, 0), float64
        self.pinned = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.done(func, args, kwargs or {})

    def done(self, func, args, kwargs):
        name = func.__name__.split(".")[0]
        if name == "_fused_sdp_choice":
            return 0  # in separate products: the CPU's fused kernels are not the card's
        if name in ("is_pinned", "_pin_memory", "pin_memory"):
            return self._pinning(name, args[0])
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        return self._run(func, name, args, kwargs)

    def _pinning(self, name: str, tensor: torch.Tensor):
        if name == "is_pinned":
            return any(tensor.untyped_storage().data_ptr() == other.data_ptr() for other in self.pinned)
        if isinstance(tensor, OnCard):
            raise RuntimeError(f"cannot pin '{tensor.device}': only dense CPU tensors can be pinned")
        made = tensor.clone()
        self._pin(made)
        return made

    def _pin(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        tensor._storage_kept = storage  # lives as long as the tensor, and is forgotten with it
        self.pinned.add(storage)

    def _run(self, func, name: str, args, kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, OnCard)]
        self._check_devices(func, name, tensors, there)
        device = self._device_of_result(name, args, kwargs, there)
        if self.cost.broken is not None and device.type != "cpu":
            raise self.cost.broken
        self._check_numbers(name, args, kwargs, device)
        self._count_wait(name, args, kwargs, device, bool(there))
        of_normal = name in VIEWS and any(not tensor.is_inference() for tensor in there)  # a view is as its base
        wrappers = {id(tensor.held): tensor for tensor in there}
        pin = kwargs.pop("pin_memory", None) if isinstance(kwargs, dict) else None
        plain = tree_map_only(OnCard, lambda tensor: tensor.held, (args, kwargs))
        if "device" in plain[1] and plain[1]["device"] is not None:
            plain[1]["device"] = torch.device("cpu")
        found = func(*plain[0], **plain[1])

        def given(made):
            if not isinstance(made, torch.Tensor):
                return made
            if id(made) in wrappers:
                return wrappers[id(made)]
            if device.type == "cpu":
                if pin:
                    self._pin(made)
                return made
            with torch.inference_mode(torch.is_inference_mode_enabled() and not of_normal):
                return OnCard(made, device)

        if name in _RESHAPING and there:
            raise NotImplementedError(f"{name} of a tensor on the card: this card's tensors keep their shape")
        results = tree_map(given, found)
        on_card = any(isinstance(leaf, OnCard) for leaf in tree_leaves(results))
        if on_card and name not in VIEWS:
            self.cost.kernels += 1
            self._check_float64(name, tree_leaves(results))
        return results

    def _check_devices(self, func, name: str, tensors, there) -> None:
        if not there or name in _COPIES:
            return
        others = [tensor for tensor in tensors if not isinstance(tensor, OnCard) and tensor.device.type != "meta"]
        if name in _INDEXED and isinstance(tensors[0], OnCard):
            for index in others:  # a card takes them, and copies them over each time
                self._moved(index)
                self._wait("indices from the CPU")
            return
        if wide := [tensor for tensor in others if tensor.ndim]:
            raise DeviceMismatch(
                f"{func}: a tensor of shape {list(wide[0].shape)} on the cpu met one on {there[0].device}"
            )

    def _device_of_result(self, name: str, args, kwargs, there) -> torch.device:
        if name == "copy_":
            on_card = isinstance(args[0], OnCard)
        elif kwargs.get("device") is not None:
            on_card = torch.device(kwargs["device"]).type == _BELOW.type
        else:
            on_card = bool(there)
        return self.device if on_card else torch.device("cpu")

    def _check_numbers(self, name: str, args, kwargs, device: torch.device) -> None:
        generator = next((leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)), None)
        if generator is not None and device.type != "cpu":
            raise RuntimeError(f"{name}: expected a '{device.type}' generator but found one of the cpu")
        if kwargs.get("dtype") == torch.float64 and name == "_to_copy" and isinstance(args[0], OnCard):
            self._refuse_float64(name)  # a copy to the CPU is converted before it is sent

    def _check_float64(self, name: str, made) -> None:
        if any(isinstance(leaf, OnCard) and leaf.dtype in (torch.float64, torch.complex128) for leaf in made):
            self._refuse_float64(name)

    def _refuse_float64(self, name: str) -> None:
        if not self.float64:
            raise TypeError(f"{name}: cannot convert a tensor on {self.device.type} to float64, which it lacks")

    def _count_wait(self, name: str, args, kwargs, device: torch.device, card_in: bool) -> None:
        if name in _COPIES:
            source = args[1] if name == "copy_" else args[0]
            if isinstance(source, OnCard) == (device.type != "cpu"):
                return
            self._moved(source)
            if not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False)):
                self._wait("copy")
            elif name == "copy_" and device.type == "cpu" and not args[0].is_pinned():
                self._wait("copy to ordinary memory")
        elif card_in and name == "_local_scalar_dense":
            self._wait("number")
        elif card_in and (name in _SIZED_BY_NUMBERS or self._sized_by(name, args, kwargs)):
            self._wait(name)

    @staticmethod
    def _sized_by(name: str, args, kwargs) -> bool:
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None
        if name in _INDEXED:
            return any(
                leaf.dtype in (torch.bool, torch.uint8)
                for leaf in tree_leaves(args[1])
                if isinstance(leaf, torch.Tensor)
            )
        return False

    def _moved(self, tensor: torch.Tensor) -> None:
        self.cost.moves += 1
        self.cost.moved_bytes += tensor.numel() * tensor.element_size()

    def _wait(self, what: str) -> None:
        frame = sys._getframe(1)
        while frame is not None and not _is_ours(frame.f_code.co_filename):
            frame = frame.f_back
        place = (
            f"{Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()}:{frame.f_lineno}" if frame else "elsewhere"
        )
        self.cost.waits.append(f"{place} {what}")


class _Renamed(TorchFunctionMode):
    """Whoever asks torch for "mps" gets the card that is CUDA's below Python."""

    def __init__(self, device: torch.device):
        super().__init__()
        self.names = (device.type, str(device), torch.device(device.type), device)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        placed = [_BELOW if self._is_meant(argument) else argument for argument in args]
        named = {name: _BELOW if self._is_meant(value) else value for name, value in (kwargs or {}).items()}
        return func(*placed, **named)

    def _is_meant(self, argument) -> bool:
        return isinstance(argument, (str, torch.device)) and argument in self.names


@cache
def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(ROOT) and not {"support", ".venv"} & set(path.parts)


@contextmanager
def card(kind: str = "cuda", *, free_bytes: int = 22 << 30, float64: bool | None = None) -> Iterator[Cost]:
    """While this is open, `kind` is a device with so much free memory; yields what it is asked for."""
    cost = Cost()
    mode = _Card(cost, kind, kind not in _WITHOUT_FLOAT64 if float64 is None else float64)
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._ensureCUDADeviceGuardSet()
    with ExitStack() as stack:
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) makes it on the CPU, and moves it
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        if kind == "cuda":
            answers = cuda_that_answers(free_bytes, lambda: mode._wait("synchronize"))
            stack.enter_context(patch.multiple(torch.cuda, **answers))
        else:
            stack.enter_context(_Renamed(mode.device))
        if kind == "xpu":
            properties = SimpleNamespace(has_fp64=mode.float64, total_memory=free_bytes + (2 << 30))
            stack.enter_context(patch.object(torch.xpu, "get_device_properties", lambda device=None: properties))
        stack.enter_context(patch.object(_Card, "running", mode))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its kernels have no namesakes on the CPU
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # there is no thread for this card
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        stack.enter_context(mode)
        yield cost
