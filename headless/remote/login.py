"""What an answer is that is not the one we asked for: a login page, a busy proxy, or no ComfyUI at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from .errors import LoginNeeded, NotComfyUI, ServerError

BUSY = frozenset({429, 502, 503, 504, 520, 521, 522, 523, 524})  # 52x: Cloudflare's, of a server behind it
MOVED = frozenset({301, 302, 303, 307, 308})
_LOGIN_WORDS = ('type="password"', "type='password'", "type=password", "login", "log in", "sign in", "signin")
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers, and the text of a body that is one."""

    status: int
    headers: Mapping[str, str]
    text: str = ""

    @property
    def is_page(self) -> bool:
        """Whether it is for people."""
        return "html" in self.headers.get("Content-Type", "").lower() or self.text.lstrip()[:1] == "<"

    @property
    def wait_s(self) -> float:
        """How long the server wants to be left alone."""
        wanted = self.headers.get("Retry-After", "")
        return min(float(wanted), _LONGEST_WAIT_S) if wanted.isdecimal() else 0.0


def refusal(url: str, route: str, answer: Answer) -> ServerError | None:
    """The error for an answer that comes from somebody else than ComfyUI, None for one that may be its own."""
    if answer.status in (401, 407):
        return _wants_login(url, f"HTTP {answer.status}")
    if answer.status == 403:
        return _wants_login(url, "HTTP 403, this one is not let in")
    if answer.status in MOVED:
        place = _place(url, route, answer)
        if place.endswith(route):
            return ServerError(
                f"the server at {url} sends on to {place.removesuffix(route)}, another one; give that to --server if "
                "you trust it"
            )
        return _wants_login(url, f"it sends on to {place}")
    if answer.status == 200 and answer.is_page:
        page = answer.text.lower()
        if any(word in page for word in _LOGIN_WORDS):
            return _wants_login(url, "it answers with a page to log in")
        return not_comfyui(url, f"it answers {route} with a page")
    return None


def not_comfyui(url: str, why: str) -> NotComfyUI:
    return NotComfyUI(f"what answers at {url} is no ComfyUI ({why}); check host, port and path of the address")


def new_base(url: str, route: str, answer: Answer) -> str | None:
    """Where the same server has this route, when it sends on from http to https or to another path of itself; never
    from https to http, where everybody could read what is sent along.
    """
    if answer.status not in MOVED:
        return None
    place = _place(url, route, answer)
    here, there = urlsplit(url), urlsplit(place)
    safe = there.scheme == "https" or there.scheme == here.scheme == "http"
    if there.hostname != here.hostname or not place.endswith(route) or not safe:
        return None
    return place.removesuffix(route)


def _place(url: str, route: str, answer: Answer) -> str:
    """Where an answer sends on to, without a name, a password or a query."""
    there = urlsplit(urljoin(url + route, answer.headers.get("Location", "")))
    return f"{there.scheme}://{there.netloc.rpartition('@')[2]}{there.path.rstrip('/')}"


def _wants_login(url: str, how: str) -> LoginNeeded:
    return LoginNeeded(
        f'the server at {url} wants a login ({how}); give it with --header "Authorization: Bearer TOKEN", the variable '
        "CVL_TOKEN, or user:password@ or ?token= in the address"
    )
