"""What a training shows while it goes on, and after it: the losses, what the validation says, samples, and the time
that a step takes. The canvas draws it, in its own language.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...drawing.course_plot import running_mean
from ...training.loop import StopAndKeep
from ...training.samples import decoded, sampled
from ..reports import as_chart

if TYPE_CHECKING:
    from ...training.clip.blending import Sweep
    from ...training.clip.judging import Measured as JudgedCLIP
    from ...training.lora.course import Course, Measured
    from ..host.interface import Tensor

_MOST_POINTS = 240  # of a curve: a node has fewer pixels than that in a step
_MOST_SAMPLES = 8  # of more, the first and the newest
_EVERY_S = 1.0  # between two messages
_asked: set[str] = set()  # nodes whose training is to end with what it has


def stop_and_keep(question: object) -> dict:
    """Answer the canvas, which asks that a node's training ends with what it has learned.

    Raises:
        ValueError: the question does not name a node.
    """
    node = question.get("node") if isinstance(question, dict) else None
    if not isinstance(node, str) or not node:
        raise ValueError('{"node": "12"} was expected, the id of the node that trains')
    _asked.add(node)
    return {"stopping": node}


class Shown:
    """What a training shows on its node, and the callback for its steps.

    save: a picture -> where the canvas finds it. on_step: the bar. tell: what the node shows meanwhile, as `ui` has it.
    """

    prompt = ""

    def __init__(
        self,
        node: str,
        save: Callable[[Tensor], list[dict[str, str]]],
        *,
        on_step: Callable[[int, int], None],
        tell: Callable[[Mapping[str, list]], None],
    ):
        self.node = node
        self.samples: dict[int, dict[str, str]] = {}
        self._losses: list[float] = []
        self._validation: list[dict[str, object]] = []
        self._save, self._on_step, self._tell = save, on_step, tell
        self._begun, self._told, self._first, self._total = time.monotonic(), -math.inf, 1, 0
        self._each_s: float | None = None
        _asked.discard(node)

    def take(self, step: int, bands: Sequence[float], make: Callable[[], Mapping[int, Tensor]]) -> None:
        """Take a validation and the samples that `make` makes, by their steps, and tell the canvas."""
        before = time.monotonic()
        self._validation.append({"step": step, "bands": [_finite(band) for band in bands]})
        self.samples |= {place: self._save(picture)[0] for place, picture in make().items()}
        self._tell_chart()
        self._begun += time.monotonic() - before

    def step(self, done: int, total: int, loss: float) -> None:
        """Tell the canvas. Raises StopAndKeep where the user has asked for it."""
        if not self._losses:
            self._begun, self._first, self._total = time.monotonic(), done, total
        elif done > self._first:
            self._each_s = (time.monotonic() - self._begun) / (done - self._first)
        self._losses.append(loss)
        self._on_step(done, total)
        if time.monotonic() - self._told >= _EVERY_S:
            self._tell_chart()
        if found := {asked for asked in _asked if self.node == asked or self.node.endswith(f":{asked}")}:
            _asked.difference_update(found)  # within a subgraph the canvas knows the last part of its name
            raise StopAndKeep

    def chart(self) -> dict[str, object]:
        """What there is to draw: {losses, smoothed: [step, loss] each; validation; samples; and how far it is}."""
        return {
            "first": self._first,
            "step": self._first + len(self._losses) - 1,
            "steps": self._total,
            "seconds_a_step": None if self._each_s is None else _finite(self._each_s),
            "losses": self._points(self._losses),
            "smoothed": self._points(running_mean(self._losses)) if self._losses else [],
            "validation": self._validation,
            "prompt": self.prompt,
            "samples": self._chosen(),
        }

    def _tell_chart(self) -> None:
        self._tell(as_chart(self.chart()))
        self._told = time.monotonic()

    def _points(self, values: Sequence[float]) -> list[list[float | None]]:
        every = max(1, math.ceil(len(values) / _MOST_POINTS))
        return [[self._first + place, _finite(values[place])] for place in range(0, len(values), every)]

    def _chosen(self) -> list[dict[str, object]]:
        samples = [{"step": step, **place} for step, place in self.samples.items()]
        return samples if len(samples) <= _MOST_SAMPLES else [samples[0], *samples[1 - _MOST_SAMPLES :]]


class Live(Shown):
    """A watcher of a LoRA's training. decode: raw latent -> picture [1, H, W, 3]."""

    def __init__(
        self,
        node: str,
        prompt: str,
        guidance: float,
        decode: Callable[[Tensor], Tensor],
        save: Callable[[Tensor], list[dict[str, str]]],
        *,
        on_step: Callable[[int, int], None],
        tell: Callable[[Mapping[str, list]], None],
    ):
        super().__init__(node, save, on_step=on_step, tell=tell)
        self.prompt, self.guidance, self._decode = prompt, guidance, decode
        self.texts: Sequence[str] = (prompt, "") if prompt else ()

    def look(self, measured: Measured, course: Course) -> None:
        """Take a sample, and tell the canvas."""

        def make() -> Mapping[int, Tensor]:
            return {measured.step: decoded(self._decode, self._sample(course))} if self.prompt else {}

        self.take(measured.step, measured.bands, make)

    def _sample(self, course: Course) -> Tensor:
        noise = course.fixed_noise()
        with course.resting():
            told, empty = course.prompts.of(self.texts, [noise, noise])
            return sampled(course.trainee, told, empty, noise, guidance=self.guidance)


class LiveCLIP(Shown):
    """A watcher of a CLIP's training. sweep: the way from before to after, once it is known."""

    sweep: Sweep | None = None

    def __init__(
        self,
        node: str,
        *,
        on_step: Callable[[int, int], None],
        tell: Callable[[Mapping[str, list]], None],
    ):
        super().__init__(node, lambda picture: [], on_step=on_step, tell=tell)
        self._judged: list[dict[str, object]] = []

    def look(self, measured: JudgedCLIP) -> None:
        """Take a validation, and tell the canvas."""
        self._judged.append(_shares_of(measured))
        self.take(measured.step, (measured.loss,), dict)

    def chart(self) -> dict[str, object]:
        """As `Shown.chart`, with judged: the shares of right choices by step, and sweep: the same by the share of the
        way, and which is the best.
        """
        told = {**super().chart(), "judged": self._judged}
        if self.sweep is not None:
            points = [
                {"share": share, "loss": _finite(found.loss), **_shares_of(found)}
                for share, found in zip(self.sweep.shares, self.sweep.measured)
            ]
            told["sweep"] = {"best": self.sweep.shares[self.sweep.best], "points": points}
        return told


def _shares_of(found: JudgedCLIP) -> dict[str, object]:
    """What a validation says in shares, each None where there is nothing to say."""
    to_text, to_picture = found.found or (None, None)
    return {"step": found.step, "right": found.accuracy, "to_text": to_text, "to_picture": to_picture}


def _finite(value: float) -> float | None:
    """The number to six places, None for one that no chart has room for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
