"""Pictures, sound, video and 3-D files of a workflow that lie here, put into the server's input folder.

The canvas sends all of them to /upload/image (front ends 1.27 to 1.58); the server compares their content, and gives
another name to a file whose name is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from ..workflow.canvas.widgets import inputs_with_options
from ..workflow.folders import Folders
from ..workflow.graph import Input, Prompt, Spec
from .connection import Connection
from .errors import ServerError

_MODEL_FOLDER = "3d"  # of the input folder, where Load3D looks
_ELSEWHERE = ("[output]", "[temp]")


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
            self._sent[key] = await self._send(path, subfolder)
        return self._sent[key]

    async def _send(self, path: Path, subfolder: str) -> str:
        fields = {"type": "input", "subfolder": subfolder}
        with ExitStack() as opened:

            def body() -> object:  # opened for each try: a file that was sent is closed
                return self._connection.form(fields, "image", opened.enter_context(path.open("rb")), path.name)

            status, found = await self._connection.json("post", "/upload/image", body)
        if status == 413:
            size_mb = path.stat().st_size / 1e6
            raise ServerError(
                f"{path.name} has {size_mb:.0f} MB, which is too big for the server or the proxy before it (HTTP 413); "
                "the host's --max-upload-size, or the proxy's, says how big it may be"
            )
        if status != 200 or not isinstance(found, dict) or "name" not in found:
            raise ServerError(f"the server refused the file {path.name} (HTTP {status})")
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
            if not declared.takes_file:
                continue
            value = found["inputs"].get(name)
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
