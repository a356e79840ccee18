"""The edge between a node and the program that runs it: an error leaves it as a kind that everybody knows.

ComfyUI shows the kind of an error before its sentence, with the module it comes from unless it is built in
(execution.py `full_type_name`, 0.33.0). Inside, errors have kinds of our own (`FileFormatError`), which say more to
code than to the person at the screen.
"""

from __future__ import annotations

from functools import wraps

_OURS = f"{__package__.rpartition('.')[0]}."


def at_the_edge(node: type) -> type:
    """The node as it is registered: its function raises no kinds of our own. The class itself stays as it is."""
    function = getattr(node, node.FUNCTION)

    @wraps(function)
    def run(*given, **named):
        try:
            return function(*given, **named)
        except Exception as error:
            kind = known_kind(type(error))
            if kind is type(error):
                raise
            raise kind(str(error)).with_traceback(error.__traceback__) from error.__cause__

    return type(node.__name__, (node,), {"__module__": node.__module__, "__doc__": node.__doc__, node.FUNCTION: run})


def known_kind(kind: type[BaseException]) -> type[BaseException]:
    """The nearest kind, itself or one it is a kind of, that is not ours: ValueError, torch's OutOfMemoryError, ..."""
    return next(each for each in kind.__mro__ if not each.__module__.startswith(_OURS))
