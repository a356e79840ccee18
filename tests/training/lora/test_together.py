"""Two processes train one LoRA: equal to one process to rounding; one that is lost ends both, with the state saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ..processes import run_together

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")


def _train(folder: Path, count: int, *more: str) -> tuple[list[int], str]:
    """Run the worker in so many processes, as torchrun starts them; exit codes, and what was said on stderr."""
    codes, said = run_together(Path(__file__).with_name("worker.py"), count, folder / "state", folder / "made", *more)
    return codes, "\n".join(said)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, torch.Tensor]:
    """What one process makes of the plan."""
    folder = tmp_path_factory.mktemp("alone")
    codes, said = _train(folder, 1)
    assert codes == [0], said
    return load_file(folder / "made")


def _far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).norm() / (1e-12 + other[name].norm())) for name in other)


def test_two_processes_make_what_one_makes(tmp_path, alone):
    codes, said = _train(tmp_path, 2)
    assert codes == [0, 0], said
    together = load_file(tmp_path / "made")
    assert _far(together, alone) <= 1e-5 and len(together["losses"]) == 6


def test_a_lost_process_ends_the_others_with_the_state_saved(tmp_path, alone):
    codes, said = _train(tmp_path, 2, "3")
    assert codes[1] == 9 and codes[0] not in (0, 9) and "another of the processes is gone" in said
    assert len(load_file(tmp_path / "state")["losses"]) == 3
    codes, said = _train(tmp_path, 2)
    assert codes == [0, 0], said
    assert _far(load_file(tmp_path / "made"), alone) <= 1e-5
