"""What Train LoRA shows while it trains: the course as a plot, samples of one prompt, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...drawing.course_plot import course_plot, with_samples
from ...training.loop import StopAndKeep
from ...training.samples import decoded, sampled

if TYPE_CHECKING:
    from ...training.lora.course import Course, Measured
    from ..host.interface import Tensor

_PLOT_PX = (512, 400)
_MOST_SAMPLES = 8  # in one row; of more, the first and the newest
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


class Live:
    """A watcher of a training, and the callback for its steps.

    decode: raw latent -> picture [1, H, W, 3]. show: (done, all, picture or None) to the canvas.
    """

    def __init__(
        self,
        node: str,
        title: str,
        prompt: str,
        guidance: float,
        decode: Callable[[Tensor], Tensor],
        show: Callable[..., None],
    ):
        self.node, self.title, self.prompt, self.guidance = node, title, prompt, guidance
        self.texts: Sequence[str] = (prompt, "") if prompt else ()
        self.samples: dict[int, Tensor] = {}
        self._losses: list[float] = []
        self._validation: list[tuple[int, Sequence[float]]] = []
        self._decode, self._show, self._begun, self._first = decode, show, time.monotonic(), 0
        self._waiting: Tensor | None = None
        _asked.discard(node)

    def look(self, measured: Measured, course: Course) -> None:
        """Take a sample and draw the course anew."""
        self._validation.append((measured.step, measured.bands))
        if self.prompt:
            self.samples[measured.step] = decoded(self._decode, self._sample(course))
        self._waiting = self.picture()

    def step(self, done: int, total: int, loss: float) -> None:
        """Tell the canvas. Raises StopAndKeep where the user has asked for it."""
        if not self._losses:
            self._begun, self._first = time.monotonic(), done
        self._losses.append(loss)
        self._show(done, total, self._waiting)
        self._waiting = None
        if found := {asked for asked in _asked if self.node == asked or self.node.endswith(f":{asked}")}:
            _asked.difference_update(found)  # within a subgraph the canvas knows the last part of its name
            raise StopAndKeep

    def picture(self) -> Tensor:
        """The plot, and below it the samples in a row. -> [1, H, W, 3] in 0..1"""
        width, height = _PLOT_PX
        plot = course_plot(self._losses, self._validation, self._heading(), width_px=width, height_px=height)
        return with_samples(plot, self._chosen())

    def _chosen(self) -> list[Tensor]:
        samples = list(self.samples.values())
        return samples if len(samples) <= _MOST_SAMPLES else [samples[0], *samples[1 - _MOST_SAMPLES :]]

    def _heading(self) -> str:
        done = len(self._losses) - 1
        if done < 1:
            return self.title
        each = (time.monotonic() - self._begun) / done
        return f"{self.title}: step {self._first + done}, {each:.2f} s a step"

    def _sample(self, course: Course) -> Tensor:
        noise = course.fixed_noise()
        told, empty = (course.prompts.of(text, noise) for text in self.texts)
        with course.resting():
            return sampled(course.trainee, told, empty, noise, guidance=self.guidance)
