"""What a card was asked for, counted, and the error of two devices in one operation."""

from dataclasses import dataclass, field


class DeviceMismatch(RuntimeError):
    """Two devices met in one operation."""


@dataclass
class Cost:
    """What the card was asked for since `reset`."""

    kernels: int = 0
    moved_bytes: int = 0
    moves: int = 0
    waits: list[str] = field(default_factory=list)  # "folder/file.py:line what", one for each
    broken: Exception | None = None  # while there is one, every operation on the card raises it

    def reset(self) -> None:
        self.kernels = self.moved_bytes = self.moves = 0
        self.waits.clear()

    def __str__(self) -> str:
        places = ", ".join(f"{place} x{self.waits.count(place)}" for place in dict.fromkeys(self.waits))
        return (
            f"{self.kernels} kernels, {self.moved_bytes / 1e6:.3f} MB over the bus in {self.moves} moves, "
            f"{len(self.waits)} waits{': ' + places if places else ''}"
        )
