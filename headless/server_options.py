"""The options that say which server, who we are to it, and how long it is waited for."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace

from .remote.address import HEADERS_VARIABLE, TOKEN_VARIABLE, read_address
from .remote.remote import Server
from .remote.timing import Timing
from .workflow.graph import WorkflowError


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add --server, --header, --timeout and --retry."""
    parser.add_argument(
        "--server",
        action="append",
        metavar="URL",
        dest="servers",
        help="run on this ComfyUI, http://127.0.0.1:8188 for example; user:password@ and ?token= are sent along; with "
        "--batch or --vary it can be given several times",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar='"NAME: VALUE"',
        dest="headers",
        help=f"send this with every request to the server; can be given several times. Also: the variable "
        f"{HEADERS_VARIABLE}, one a line, and {TOKEN_VARIABLE} for Authorization: Bearer",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="stop the job when the server has not done it after so long; in a batch the time counts from when the job "
        "begins (default: wait for ever)",
    )
    parser.add_argument(
        "--retry",
        type=_seconds,
        metavar="SECONDS",
        help="how long a server is tried that does not answer (default: 10 at first, 120 once it has answered)",
    )


def wanted_server(options: argparse.Namespace) -> Server | None:
    """The server of these options, None where the run is in this process.

    Raises:
        WorkflowError: no address, no header, or several servers.
    """
    servers = wanted_servers(options)
    if len(servers) > 1:
        raise WorkflowError(f"--server is given {len(servers)} times, and one job goes to one server; see --batch")
    return servers[0] if servers else None


def wanted_servers(options: argparse.Namespace) -> list[Server]:
    """The servers of these options, each once.

    Raises:
        WorkflowError: no address, or no header.
    """
    timing = Timing()
    if options.retry is not None:
        timing = replace(timing, first_s=options.retry, retry_s=options.retry)
    addresses = [read_address(text, options.headers, os.environ) for text in options.servers or ()]
    return [Server(one, timing, options.timeout) for one in {one.url: one for one in addresses}.values()]


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return number
