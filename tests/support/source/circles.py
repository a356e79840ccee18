"""Circles in a graph of imports."""


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The largest groups in which each leads to every other, and whatever leads to itself."""

    def led_to(start: str) -> set[str]:
        found, waiting = set(), [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    leads = {name: led_to(name) for name in graph}
    return {frozenset(other for other in leads[name] if name in leads[other]) for name in graph if name in leads[name]}
