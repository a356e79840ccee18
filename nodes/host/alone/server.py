"""The questions of the front end: none come where there is no server."""

from __future__ import annotations

from collections.abc import Mapping

from ..interface import Route


def serve(routes: Mapping[str, Route]) -> None:
    """Nothing to do: there is no server."""
