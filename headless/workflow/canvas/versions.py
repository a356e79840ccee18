"""Where front ends differ from each other, and where the canvas and what it sends differ: said, never passed over.

From ComfyUI_frontend 1.27.10 and 1.49.6, and its pull requests 9787 (muted subgraphs, 1.39.3), 9510 (ids, 1.41) and
12931 (group nodes become subgraphs; instances hold the values that they show; 1.47).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .graphs import BYPASSED, MUTED, Document, Node

FrontEnd = tuple[int, ...]
NEWEST: FrontEnd = (1 << 16,)
UNIQUE_IDS: FrontEnd = (1, 41)  # since this one, ids are unique over all subgraphs
GROUPS_AS_SUBGRAPHS: FrontEnd = (1, 47)
_MUTED_INSIDE: FrontEnd = (1, 39, 3)
_HOST_VALUES: FrontEnd = (1, 47)
_ALL_MARKS: FrontEnd = (1, 49)
_OLD_SAVING = frozenset(  # the classes whose filename_prefix had its marks replaced in 1.27
    (
        "SaveImage SaveAnimatedWEBP SaveWEBM SaveAudio SaveGLB SaveAnimatedPNG CLIPSave VAESave ModelSave LoraSave "
        "SaveLatent"
    ).split()
)


def front_end_of(stats: Mapping) -> FrontEnd | None:
    """The version of a server's front end, from its /system_stats; None where that does not tell it."""
    system = stats.get("system")
    system = system if isinstance(system, Mapping) else {}
    words = system.get("argv")
    if isinstance(words, list) and any(str(word).startswith("--front-end-") for word in words):
        return None
    packages = system.get("comfy_package_versions")
    installed = [
        package.get("installed")
        for package in (packages if isinstance(packages, list) else ())
        if isinstance(package, Mapping) and package.get("name") == "comfyui-frontend-package"
    ]
    told = next((str(one) for one in (*installed, system.get("required_frontend_version")) if one), "")
    found = re.match(r"\d+(\.\d+)+", told)
    return tuple(map(int, found[0].split("."))) if found else None


def notes_on(document: Document, group_nodes: list[str], front_end: FrontEnd) -> Iterator[str]:
    """Sentences on what the server's own front end would send otherwise."""
    version = ".".join(map(str, front_end))
    for label in group_nodes:
        yield (
            f"node {label} is an old group node and was taken apart, muted or bypassed with all that is in it; front "
            "ends lose some of its links and values, and run what is in a muted one"
        )
    for node in document.root.nodes.values():
        if node.kind in document.subgraphs and node.mode in (MUTED, BYPASSED) and front_end < _MUTED_INSIDE:
            yield (
                f"node {node.label} is a muted or bypassed subgraph and was left out; the server's front end "
                f"({version}) runs what is in it all the same"
            )
    for graph in (document.root, *document.subgraphs.values()):
        for node in graph.nodes.values():
            if node.kind in document.subgraphs and front_end < _HOST_VALUES and _shows_values(node):
                yield (
                    f"node {node.label}: the values that the subgraph shows were taken; the server's front end "
                    f"({version}) takes those of the nodes inside"
                )


def note_on_marks(node: Node, before: str, after: str, front_end: FrontEnd) -> Iterator[str]:
    """A sentence where the server's own front end would not replace the marks in a file name."""
    if before != after and node.kind not in _OLD_SAVING and front_end < _ALL_MARKS:
        yield (
            f"node {node.label}: the marks in its filename_prefix were replaced; the server's front end "
            f"({'.'.join(map(str, front_end))}) may leave them as they are"
        )


def _shows_values(node: Node) -> bool:
    """Whether an instance keeps values beside `proxyWidgets`."""
    return bool(node.properties.get("proxyWidgets")) and isinstance(node.values, list) and bool(node.values)
