"""ComfyUI's progress bar and its cancel button, as the one callback that all long work takes; and its blocker."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management as management
import comfy.utils


def progress(total: int) -> Callable[[int, int], None]:
    bar = comfy.utils.ProgressBar(total)

    def on_step(done: int, total: int) -> None:
        management.throw_exception_if_processing_interrupted()  # the newer host's bar does not look each time
        bar.update_absolute(done, total)

    return on_step


def absent(why: str | None) -> object:
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(why)
