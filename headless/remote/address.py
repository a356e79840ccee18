"""Where a server is and who we are to it: the address as a user writes it, taken apart.

`http://user:password@host:8188/prefix?token=abc` is a base address, a header and a query that goes with every request.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from ..workflow.graph import WorkflowError

HEADERS_VARIABLE = "CVL_HEADERS"  # "Name: value", one a line
TOKEN_VARIABLE = "CVL_TOKEN"  # sent as Authorization: Bearer
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


@dataclass(frozen=True)
class Address:
    """A server's base address without a secret in it, and the secrets that go with every request."""

    url: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def moved(self, url: str) -> Address:
        """The same for another base address of the same server."""
        return replace(self, url=url.rstrip("/"))


def read_address(text: str, headers: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Address:
    """The address of `--server`; the scheme may be missing. Given headers come before the environment's, and both
    before a name and password in the address.

    Raises:
        WorkflowError: it is no address, or a header is none; what may be a secret is not repeated.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        good = False
    if not good:
        raise WorkflowError(f"--server {_shown(text)!r} is no address; expected one like http://127.0.0.1:8188")
    place = parts.netloc.rpartition("@")[2]
    base = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    known = _login(parts.username, parts.password) | _of_environment(environment or {})
    return Address(base, dict(parse_qsl(parts.query)), known | dict(map(_header, headers)))


def _shown(text: str) -> str:
    """What somebody gave as an address without a name, a password or a query in it."""
    scheme, between, rest = text.rpartition("://")
    place, mark, _ = rest.rpartition("@")[2].partition("?")
    return f"{scheme}{between}{'...@' if '@' in rest else ''}{place}{'?...' if mark else ''}"


def _login(name: str | None, password: str | None) -> dict[str, str]:
    if name is None:
        return {}
    pair = f"{unquote(name)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    token = environment.get(TOKEN_VARIABLE, "").strip()
    lines = [line for line in environment.get(HEADERS_VARIABLE, "").splitlines() if line.strip()]
    return ({"Authorization": f"Bearer {token}"} if token else {}) | dict(map(_header, lines))


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _NAME.match(name) or not value.isprintable():
        shown = name if colon and _NAME.match(name) else "that was given"
        raise WorkflowError(f'the header {shown} is none; expected "Name: value", such as "Authorization: Bearer abc"')
    return name.title() if name.lower() == "authorization" else name, value
