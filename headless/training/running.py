"""What the commands that train have in common: their options, their exit codes, several processes, and Ctrl+C."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from ...files.errors import FileFormatError
from ...training.device import NoSuchDevice
from ...training.distributed import ProcessGroup, join_group
from ..command import DONE, FAILED, INTERRUPTED, WRONG
from ..report import missing_package
from ..workflow.graph import NodeFailure, WorkflowError
from .interruption import Stoppable, finishing_the_step

T = TypeVar("T")
EXIT_CODES = "exit codes: 0 done, 1 the training failed, 2 wrong usage, plan or input, 130 interrupted"
_BROKEN_OFF = "interrupted; the same command with --resume goes on from here"


def add_options(parser: argparse.ArgumentParser, plan: str) -> None:
    """Add what every command that trains can be told; `plan` says what its first word is."""
    parser.add_argument("plan", type=Path, metavar="PLAN.toml", help=plan)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted training of this plan")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="instead of the plan's pictures")
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="a models folder as ComfyUI has it")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quiet", action="store_true", help="say nothing of progress")


def exit_code(run: Callable[[], object], failed: Callable[[object, int], int]) -> int:
    """Run a command; the exit code is DONE, or what `failed` makes of an error and its code."""
    try:
        run()
        return DONE
    except (WorkflowError, FileFormatError, NoSuchDevice) as error:
        return failed(error, WRONG)
    except (NodeFailure, ValueError, FileNotFoundError) as error:
        return failed(error, FAILED)
    except ModuleNotFoundError as error:
        return failed(missing_package(error), WRONG)
    except KeyboardInterrupt:
        return failed(_BROKEN_OFF, INTERRUPTED)


def in_processes(options: argparse.Namespace, device: torch.device, run: Callable[[Stoppable, ProcessGroup], T]) -> T:
    """Run a training as one of the processes that torchrun started, or alone; Ctrl+C waits for its step."""
    with join_group(device) as group:
        progress = Stoppable(sys.stderr, quiet=options.quiet or options.json or not group.first)
        try:
            with finishing_the_step(progress):
                return run(progress, group)
        finally:
            progress.close()
