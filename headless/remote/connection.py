"""Requests to one server, asked again where that is safe: refused connections, cut answers, busy proxies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO

from ...files.errors import FileFormatError
from ..workflow.canvas import FrontEnd, front_end_of
from ..workflow.graph import WorkflowError
from .address import Address
from .errors import ServerError, Unreachable
from .login import BUSY, Answer, new_base, not_comfyui, refusal
from .timing import Patience, Timing

if TYPE_CHECKING:
    import aiohttp

Body = Callable[[], object]  # makes the body anew for each try: a form can be sent only once
Params = Mapping[str, str] | None
_CHUNK_BYTES = 1 << 20
_HELLO = "/system_stats"


class Connection:
    """A session with the server: its address, secrets, cookies, and patience."""

    def __init__(self, address: Address, timing: Timing):
        try:
            import aiohttp
        except ImportError as error:
            raise WorkflowError("--server needs aiohttp, which is not installed; run pip install aiohttp") from error
        self.address, self.timing = address, timing
        self._aiohttp, self._answered = aiohttp, False
        self.front_end: FrontEnd | None = None  # the version of the server's, once it was greeted
        self._cut = (aiohttp.ClientError, OSError, asyncio.TimeoutError)

    async def open(self) -> None:
        """Greet the server, so that whatever else answers there is named before anything is sent.

        Raises:
            Unreachable, LoginNeeded, NotComfyUI.
        """
        limits = self._aiohttp.ClientTimeout(
            total=None, sock_connect=self.timing.connect_s, sock_read=self.timing.answer_s
        )
        cookies = self._aiohttp.CookieJar(unsafe=True)  # unsafe: from a server named by its number, too
        self._http = self._aiohttp.ClientSession(timeout=limits, cookie_jar=cookies)
        try:
            await self._greet()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._http.close()

    async def _greet(self) -> None:
        patience = Patience(self.timing, self.timing.first_s)
        for _ in range(3):
            answer = await self._patiently("get", _HELLO, None, patience)
            base = new_base(self.address.url, _HELLO, answer)
            if base is None:
                break
            self.address = self.address.moved(base)
        wrong = refusal(self.address.url, _HELLO, answer)
        if wrong is None and answer.status != 200:
            wrong = not_comfyui(self.address.url, f"it answers {_HELLO} with HTTP {answer.status}")
        if wrong:
            raise wrong
        body = self._read(_HELLO, answer)
        if not isinstance(body, dict) or "system" not in body:
            raise not_comfyui(self.address.url, f"its {_HELLO} is another program's")
        self._answered, self.front_end = True, front_end_of(body)

    async def json(
        self, method: str, route: str, body: Body | None = None, *, params: Params = None, json: object = None
    ) -> tuple[int, dict | list]:
        """The status and the JSON of an answer. For what may be asked twice.

        Raises:
            Unreachable: after as many tries as there is patience for. LoginNeeded, NotComfyUI.
        """
        patience = Patience(self.timing, self._patience_s)
        answer = await self._patiently(method, route, body, patience, params, json)
        return answer.status, self._checked(route, answer)

    async def json_once(self, method: str, route: str, body: Body | None = None, *, json: object = None) -> Answer:
        """One try, for what must not be said twice.

        Raises:
            Unreachable: `sent` says whether it may have arrived. LoginNeeded, NotComfyUI.
        """
        answer = await self._ask(method, route, body, json=json)
        if answer.status not in BUSY:
            self._checked(route, answer)
        return answer

    async def download(self, route: str, params: Mapping[str, str], file: BinaryIO) -> int:
        """Write an answer's bytes into an open file; the status. A cut one is begun anew.

        Raises:
            Unreachable, LoginNeeded.
        """
        patience = Patience(self.timing, self._patience_s)
        while True:
            try:
                file.seek(0)
                file.truncate()
                answer = await self._ask("get", route, None, file, params=params)
                if answer.status not in BUSY:
                    break
                error = self._busy(answer)
            except Unreachable as cut:
                answer, error = Answer(0, {}), cut
            await patience.pause(error, answer.wait_s)
        if wrong := refusal(self.address.url, route, answer):
            raise wrong
        return answer.status

    def websocket(self, client_id: str) -> aiohttp.client._WSRequestContextManager:
        """The websocket of this client; an `async with` opens it, and it pings."""
        return self._http.ws_connect(
            f"{self.address.url}/ws",
            params={**self.address.query, "clientId": client_id},
            headers=dict(self.address.headers),
            heartbeat=self.timing.heartbeat_s,
            max_msg_size=0,
        )

    def form(self, fields: Mapping[str, str], name: str, file: BinaryIO, filename: str) -> aiohttp.FormData:
        """A form with a file in it, sent as it is read."""
        form = self._aiohttp.FormData(dict(fields), quote_fields=False)
        form.add_field(name, file, filename=filename, content_type="application/octet-stream")
        return form

    @property
    def cut(self) -> tuple[type[BaseException], ...]:
        """The errors of a connection that broke."""
        return self._cut

    @property
    def _patience_s(self) -> float:
        return self.timing.retry_s if self._answered else self.timing.first_s

    async def _patiently(
        self,
        method: str,
        route: str,
        body: Body | None,
        patience: Patience,
        params: Params = None,
        json: object = None,
    ) -> Answer:
        while True:
            try:
                answer = await self._ask(method, route, body, params=params, json=json)
                if answer.status not in BUSY:
                    return answer
                error = self._busy(answer)
            except Unreachable as cut:
                answer, error = Answer(0, {}), cut
            await patience.pause(error, answer.wait_s)

    async def _ask(
        self,
        method: str,
        route: str,
        body: Body | None,
        into: BinaryIO | None = None,
        *,
        params: Params = None,
        json: object = None,
    ) -> Answer:
        asked = {**self.address.query, **(params or {})}
        data = None if body is None else body()
        url, headers = self.address.url + route, dict(self.address.headers)
        try:
            async with self._http.request(
                method, url, params=asked, headers=headers, allow_redirects=False, data=data, json=json
            ) as answer:
                if into is None or answer.status != 200 or _instead_of_a_file(asked, answer.headers):
                    return Answer(answer.status, answer.headers, (await answer.read()).decode(errors="replace"))
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    _write(into, chunk)
                return Answer(answer.status, answer.headers)
        except self._cut as error:
            raise self._unreachable(error) from error

    def _checked(self, route: str, answer: Answer) -> dict | list:
        """The answer's JSON; {} for an error without one."""
        if wrong := refusal(self.address.url, route, answer):
            raise wrong
        return self._read(route, answer)

    def _read(self, route: str, answer: Answer) -> dict | list:
        try:
            body = json.loads(answer.text) if answer.text.strip() else {}
        except ValueError as error:
            if answer.status == 200:
                raise not_comfyui(self.address.url, f"{route} is not JSON") from error
            body = {}
        return body if isinstance(body, (dict, list)) else {}

    def _busy(self, answer: Answer) -> ServerError:
        return Unreachable(
            f"the server at {self.address.url} cannot answer now (HTTP {answer.status}); try again later", sent=True
        )

    def _unreachable(self, error: BaseException) -> Unreachable:
        url, reason = self.address.url, getattr(error, "strerror", None) or error or type(error).__name__
        if isinstance(error, self._aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or reason
            return Unreachable(
                f"the certificate of {url} is not trusted ({why}); name the file of the one that it is signed with in "
                "the variable SSL_CERT_FILE, or check the address",
                hopeless=True,
            )
        if isinstance(error, self._aiohttp.ClientConnectorSSLError) and "WRONG_VERSION" in str(error):
            return Unreachable(f"what answers at {url} speaks no https ({reason}); try http://", hopeless=True)
        begun = not isinstance(error, self._aiohttp.ClientConnectorError)
        return Unreachable(f"no ComfyUI answers at {url} ({reason}); start it, or check the address", sent=begun)


def _instead_of_a_file(params: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    """Whether a page came where a file was wanted."""
    return "html" in headers.get("Content-Type", "") and not params.get("filename", "").endswith((".html", ".htm"))


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:  # a full disk here, which is no fault of the connection
        raise FileFormatError(file.name, f"cannot be written: {error.strerror or error}") from error
