"""What torch.cuda answers on a machine with one card, for machines that have none."""

from types import SimpleNamespace


class _Stream:
    """One queue after another: nothing is done at the same time here."""

    cuda_stream, device = 0, None

    def __init__(self, *_, **__):
        pass

    def _nothing(self, *_, **__):
        return None

    synchronize = wait_stream = wait_event = record = wait = _nothing

    def record_event(self, event=None):
        return event or _Stream()

    def query(self) -> bool:
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def cuda_that_answers(free_bytes: int, synchronise=lambda: None) -> dict:
    """What code asks torch.cuda, answered as a machine with one card does."""
    properties = SimpleNamespace(
        name="a card that is not there",
        major=8,
        minor=6,
        total_memory=free_bytes + (2 << 30),
        gcnArchName="",
        multi_processor_count=80,
        warp_size=32,
    )
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "is_initialized": lambda: True,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "mem_get_info": lambda device=None: (free_bytes, free_bytes + (2 << 30)),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "memory_stats": lambda device=None: {"active_bytes.all.current": 0, "reserved_bytes.all.current": 0},
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (8, 6),
        "is_bf16_supported": lambda *_, **__: True,
        "synchronize": lambda device=None: synchronise(),
        "Stream": _Stream,
        "Event": _Stream,
        "current_stream": lambda device=None: _Stream(),
        "default_stream": lambda device=None: _Stream(),
        "stream": lambda stream: stream or _Stream(),
        "device": lambda device: _Stream(),
    }
