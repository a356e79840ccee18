"""The methods of learning from few labels, as a table; a method with settings is a candidate for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .heads import Head
from .inductive import cache, nearest_mean, probe, zero_shot
from .task import Task
from .transductive import propagated, transclip


@dataclass(frozen=True)
class Method:
    """A method fits a task; what it gives are the logits of all pictures, None where they are the head's, and a head.

    `settings` are tried by cross-validation; the first is taken where that is not possible.
    """

    fit: Callable[..., tuple[Tensor | None, Head]]
    settings: tuple[tuple[float, ...], ...] = ((),)
    needs_words: bool = False
    worded: tuple[tuple[float, ...], ...] = ()  # the settings where there are texts, if they are others


METHODS = {  # in the order in which they are preferred where nothing tells them apart and there are no texts
    "propagation": Method(propagated, settings=((0.0,),), worded=((0.1,), (0.0,), (0.01,), (1.0,))),
    "TransCLIP": Method(transclip, settings=((0.2,), (0.02,), (0.002,))),
    "probe": Method(lambda task, shrink: (None, probe(task, shrink)), settings=((0.1,), (1.0,), (0.01,), (10.0,))),
    "cache": Method(
        lambda task, alpha, beta: (None, cache(task, alpha, beta)),
        settings=((10.0, 5.5), (10.0, 1.0), (10.0, 20.0)),  # without texts alpha changes nothing but the temperature
        worded=tuple((alpha, beta) for alpha in (10.0, 1.0, 100.0) for beta in (5.5, 1.0, 20.0)),
    ),
    "nearest mean": Method(lambda task: (None, nearest_mean(task))),
    "zero-shot": Method(lambda task: (None, zero_shot(task)), needs_words=True),
}
# With texts: what stays nearest to them first, as a few labels, all found right, say little about what moves far away.
WITH_WORDS = ("probe", "zero-shot", "cache", "TransCLIP", "propagation", "nearest mean")


@dataclass(frozen=True)
class Candidate:
    """A method with a setting."""

    method: str
    setting: tuple[float, ...]

    @property
    def is_wordless(self) -> bool:
        """Whether it never looks at the texts."""
        return self.method == "nearest mean" or (self.method, self.setting) == ("propagation", (0.0,))

    def fit(self, task: Task) -> tuple[Tensor, Head]:
        """Learn the task: the logits of all its pictures, float64 [N, C], and a head for new ones."""
        logits, head = METHODS[self.method].fit(task, *self.setting)
        return (head.logits(task.features) if logits is None else logits).double(), head

    def judge(self, task: Task, places: Tensor) -> Tensor:
        """Learn the task, and give the logits of some of its pictures. -> float64 [n, C]"""
        logits, head = METHODS[self.method].fit(task, *self.setting)
        return (head.logits(task.features[places]) if logits is None else logits[places]).double()


def candidates(task: Task, methods: Sequence[str] = tuple(METHODS)) -> list[Candidate]:
    """The candidates of these methods for a task, the preferred ones first; without texts those that need none."""
    found = []
    for name in METHODS if task.words is None else WITH_WORDS:
        method = METHODS[name]
        if name in methods and (task.words is not None or not method.needs_words):
            settings = method.worded if task.words is not None and method.worded else method.settings
            found += [Candidate(name, setting) for setting in settings]
    return found
