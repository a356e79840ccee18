"""What leaves a node when it stops: a built-in exception with the sentence alone.

The front end prints the whole name of any other class before the sentence (`full_type_name` in ComfyUI's execution.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def plain_errors(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
    """The function, with every kind of ValueError of ours raised as a ValueError."""

    @wraps(function)
    def call(*values: Given.args, **named: Given.kwargs) -> Answer:
        try:
            return function(*values, **named)
        except ValueError as error:
            if type(error) is ValueError:
                raise
            raise ValueError(str(error)) from error

    return call
