"""ComfyUI's progress bar and its cancel button, as the one callback that all long work takes; and its blocker."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management as management
import comfy.utils
from torch import Tensor

from ....drawing.paper import within_square


def progress(total: int) -> Callable[..., None]:
    bar = comfy.utils.ProgressBar(total)

    def on_step(done: int, total: int, picture: Tensor | None = None) -> None:
        management.throw_exception_if_processing_interrupted()  # the newer host's bar does not look each time
        shown = None if picture is None else ("PNG", within_square(picture, max(picture.shape[1:3])), None)
        bar.update_absolute(done, total, shown)

    return on_step


def absent(why: str | None) -> object:
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(why)
