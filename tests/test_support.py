"""The tests' own measures measure."""

import pytest

from .support.growth import check_linear
from .support.source.circles import circles


@pytest.mark.parametrize("size", [100, 10_000, 300_000])
def test_linear_work_passes_as_short_or_long_as_it_is(size):
    check_linear(lambda size: [str(number) for number in range(size)], size)


@pytest.mark.slow
def test_quadratic_work_does_not_pass():
    with pytest.raises(AssertionError, match="times as long"):
        check_linear(lambda size: [sum(range(number)) for number in range(size)], 10_000)


def test_circles_of_any_length_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set(), "f": {"f"}, "g": {"h"}, "h": {"g", "a"}}
    assert circles(graph) == {frozenset("abc"), frozenset("f"), frozenset("gh")}
