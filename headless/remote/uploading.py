"""Pictures, sound, video and 3-D files of a workflow that lie here, put into the server's input folder.

The canvas sends all of them to /upload/image (front ends 1.27 to 1.58); the server compares their content, and gives
another name to a file whose name is taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from ..workflow.canvas.kinds import NO_SCENE
from ..workflow.canvas.widgets import inputs_with_options
from ..workflow.folders import Folders
from ..workflow.graph import Input, Prompt, Spec
from .connection import Connection
from .errors import ServerError

_MODEL_FOLDER = "3d"  # of the input folder, where Load3D looks
_ELSEWHERE = ("[output]", "[temp]")
_EMPTY_PNG = bytes.fromhex(  # one pixel that shows nothing
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
    "0000000b49444154789c6360000200000500017a5eab3f0000000049454e44ae426082"
)


class Uploads:
    """Files sent to one server; one that has not changed since is not sent again."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._sent: dict[tuple, str] = {}

    async def upload(self, path: Path, subfolder: str) -> str:
        """Put a file into the server's input folder, never over another one; the name it has there.

        Raises:
            ServerError: it is too big, or refused.
        """
        facts = path.stat()
        key = (str(path), facts.st_size, facts.st_mtime_ns, subfolder)
        if key not in self._sent:
            self._sent[key] = await self._send(path.name, subfolder, facts.st_size, lambda: path.open("rb"))
        return self._sent[key]

    async def empty_picture(self) -> str:
        """Put a picture there that shows nothing, for nodes that open one which nothing uses; the name it has there.

        Raises:
            ServerError: it is refused.
        """
        if (NO_SCENE,) not in self._sent:
            subfolder, _, name = NO_SCENE.rpartition("/")
            sent = await self._send(name, subfolder, len(_EMPTY_PNG), lambda: io.BytesIO(_EMPTY_PNG))
            self._sent[NO_SCENE,] = sent
        return self._sent[NO_SCENE,]

    async def _send(self, name: str, subfolder: str, size_bytes: int, read: Callable[[], BinaryIO]) -> str:
        fields = {"type": "input", "subfolder": subfolder}
        with ExitStack() as opened:

            def body() -> object:  # opened for each try: a file that was sent is closed
                return self._connection.form(fields, "image", opened.enter_context(read()), name)

            status, found = await self._connection.json("post", "/upload/image", body)
        if status == 413:
            size_mb = size_bytes / 1e6
            raise ServerError(
                f"{name} has {size_mb:.0f} MB, which is too big for the server or the proxy before it (HTTP 413); "
                "the host's --max-upload-size, or the proxy's, says how big it may be"
            )
        if status != 200 or not isinstance(found, dict) or "name" not in found:
            raise ServerError(f"the server refused the file {name} (HTTP {status})")
        return f"{found['subfolder']}/{found['name']}" if found.get("subfolder") else str(found["name"])


async def upload_inputs(
    uploads: Uploads, prompt: Prompt, specs: Mapping[str, Spec | None], folders: Folders
) -> list[Path]:
    """Send the files that lie here, and name them in the prompt as the server does; the paths that were sent.

    What does not lie here is expected to be on the server already.
    """
    sent: list[Path] = []
    for found in prompt.values():
        known = specs.get(found["class_type"])
        for name, declared in (inputs_with_options(known, found["inputs"]) if known else {}).items():
            value = found["inputs"].get(name)
            if isinstance(value, Mapping) and NO_SCENE in value.values():
                empty = await uploads.empty_picture()
                found["inputs"][name] = {key: empty if one == NO_SCENE else one for key, one in value.items()}
            if not declared.takes_file:
                continue
            if isinstance(value, str):
                found["inputs"][name] = await _uploaded(uploads, declared, value, folders, sent)
            elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
                found["inputs"][name] = [await _uploaded(uploads, declared, one, folders, sent) for one in value]
    return sent


async def _uploaded(uploads: Uploads, declared: Input, value: str, folders: Folders, sent: list[Path]) -> str:
    """The value as the server knows it: the name of the upload, or itself where the file does not lie here."""
    if value.endswith(_ELSEWHERE):
        return value
    is_model = bool(declared.options.get("file_upload"))
    path = folders.find(value)
    if path is None and is_model:
        path = folders.find(value.removeprefix(f"{_MODEL_FOLDER}/"))
    if path is None:
        return value
    plain = value.removesuffix("[input]").rstrip().replace("\\", "/")
    if value in folders.chosen:
        subfolder = _MODEL_FOLDER if is_model else ""
    else:
        subfolder = plain.rpartition("/")[0]
    sent.append(path)
    return await uploads.upload(path, subfolder)
