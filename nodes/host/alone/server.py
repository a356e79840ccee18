"""The questions of the front end: none come where there is no server."""

from __future__ import annotations

from collections.abc import Mapping

from ..interface import PictureRoute, Route


def serve(routes: Mapping[str, Route | PictureRoute]) -> None:
    """Nothing to do: there is no server."""


def tell(node: str, output: Mapping[str, list]) -> None:
    """Nobody to tell: there is no server."""
