"""The websocket of a client, kept up: pinged, opened anew when it is cut, its messages handed on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from .connection import Connection

OnMessage = Callable[[str, dict], None]  # a message's type and data


class Listener:
    """Hears what the server says to one client. What it misses while it is cut off, the history tells."""

    def __init__(self, connection: Connection, client_id: str, on_message: OnMessage):
        self._connection, self._client_id, self._on_message = connection, client_id, on_message
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self.is_up = False
        self.cuts = 0

    async def start(self) -> None:
        """Begin to listen; returns when the socket is open, or when it is clear that it does not open now.

        Before a prompt is sent: a fast one is over before a later listener hears of it.
        """
        if self._task is None:
            self._opened = asyncio.ensure_future(self._tried.wait())
            self._task = asyncio.ensure_future(self._listen())
        await asyncio.wait([self._opened], timeout=self._connection.timing.connect_s)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._opened.cancel()
            await asyncio.gather(self._task, self._opened, return_exceptions=True)

    async def _listen(self) -> None:
        pauses = self._connection.timing.growing(self._connection.timing.backoff_s)
        while True:
            try:
                if await self._hear_to_the_end():
                    pauses = self._connection.timing.growing(self._connection.timing.backoff_s)
            except self._connection.cut:
                pass  # a server that is away is the business of whoever looks into its history
            finally:
                self.is_up = False
                self._tried.set()
            await asyncio.sleep(next(pauses))

    async def _hear_to_the_end(self) -> bool:
        """Hand on messages until the socket is cut; whether any came."""
        heard = False
        async with self._connection.websocket(self._client_id) as socket:
            self.is_up = True
            self._tried.set()
            try:
                async for message in socket:
                    heard = True
                    if isinstance(message.data, str):
                        self._read(message.data)
            finally:
                self.cuts += 1
        return heard

    def _read(self, text: str) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            return  # half a message, from a proxy that was cut off itself
        if isinstance(message, dict) and isinstance(message.get("data"), dict):
            self._on_message(str(message.get("type")), message["data"])
