"""A plan as TOML: what is written is read again, whatever its texts."""

import pytest

try:
    import tomllib  # noqa: F401
except ModuleNotFoundError:  # Python 3.10
    pytest.importorskip("tomli")

from hypothesis import given
from hypothesis import strategies as some

from clip_vae_lora.headless.training.plan import parse_plan
from clip_vae_lora.training.lora.plan_file import PlanFile, plan_text

_TEXTS = some.text(some.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = some.one_of(
    _TEXTS, some.booleans(), some.integers(-(2**63), 2**63 - 1), some.floats(allow_nan=False), some.lists(_TEXTS)
)


@given(some.dictionaries(_TEXTS, _VALUES), some.dictionaries(_TEXTS, some.dictionaries(_TEXTS, _VALUES)))
def test_what_is_written_is_read_again(training, graph):
    plan = PlanFile(training, {"model": ["4", 0]}, {name: {"inputs": inputs} for name, inputs in graph.items()})
    assert parse_plan(plan_text(plan)) == plan


def test_a_part_that_is_no_table_is_said():
    with pytest.raises(ValueError, match=r"\[training\] of the plan is no table"):
        parse_plan("training = 3")
