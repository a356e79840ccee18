"""The saved face of every node: what old workflows rely on. To bring schema.json up to date:

    python tests/nodes/write_schema.py

Run it after adding a node, an input or an output. It refuses a change that would break a saved workflow; `breaks` says
which those are. The canvas saves widget values and output links by position, the API by name.
"""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
SCHEMA_FILE = Path(__file__).with_name("schema.json")
GROUPS = ("required", "optional")

Face = dict[str, list]  # "inputs": [{"name", "type", "group", "options" of a menu}], "outputs": [type]


def faces() -> dict[str, Face]:
    """Every registered node's face, by id; the menus as on a machine without any model files or saved data."""
    from clip_vae_lora.nodes import NODE_CLASS_MAPPINGS, catalog

    nothing = {"folder_names": lambda folder: [], "data_names": lambda suffix: []}
    with patch.multiple(catalog.host, **nothing):
        return {name: face(node) for name, node in NODE_CLASS_MAPPINGS.items()}


def face(node: type) -> Face:
    """A node class's inputs in the order a workflow saves them, and its outputs."""
    groups = node.INPUT_TYPES()
    inputs = [(name, spec[0], group) for group in GROUPS for name, spec in groups.get(group, {}).items()]
    return {"inputs": [_input(*entry) for entry in inputs], "outputs": list(node.RETURN_TYPES)}


def _input(name: str, kind: str | list[str], group: str) -> dict:
    if isinstance(kind, str):
        return {"name": name, "type": kind, "group": group}
    return {"name": name, "type": "COMBO", "group": group, "options": list(kind)}


def breaks(saved: Face, now: Face) -> list[str]:
    """What of a face has changed so that a workflow saved with it would break; empty: only allowed things were added.

    Allowed are new optional inputs behind all others, new outputs behind all others, new menu entries, and
    further types that an input takes.
    """
    found = []
    there = {entry["name"] for entry in now["inputs"]}
    for place, old in enumerate(saved["inputs"]):
        new = now["inputs"][place] if place < len(now["inputs"]) else None
        if new is None or new["name"] != old["name"]:
            what = "has moved" if old["name"] in there else "is gone"
            found.append(f"input {old['name']} was number {place + 1} and {what}")
            continue
        if not set(old["type"].split(",")) <= set(new["type"].split(",")):  # "A,B" takes both
            found.append(f"input {old['name']} was {old['type']} and is {new['type']}")
        if new["group"] != old["group"]:
            found.append(f"input {old['name']} was {old['group']} and is {new['group']}")
        lost = [option for option in old.get("options", []) if option not in new.get("options", [])]
        found += [f"input {old['name']} has lost its option {option!r}" for option in lost if new["type"] == "COMBO"]
    before = {entry["name"] for entry in saved["inputs"]}
    found += [
        f"input {entry['name']} is new and required: stored prompts do not have it"
        for entry in now["inputs"]
        if entry["name"] not in before and entry["group"] == "required"
    ]
    kept = now["outputs"][: len(saved["outputs"])]
    if kept != saved["outputs"]:
        found.append(f"the outputs were {', '.join(saved['outputs'])} and now begin with {', '.join(kept) or 'none'}")
    return found


def all_breaks(saved: Mapping[str, Face], now: Mapping[str, Face]) -> dict[str, list[str]]:
    """What is broken, by node id; an id that is gone is broken too, a new one is not."""
    found = {name: breaks(old, now[name]) if name in now else ["the node is gone"] for name, old in saved.items()}
    return {name: what for name, what in found.items() if what}


def saved_faces() -> dict[str, Face]:
    """The faces in schema.json; none if it is not there yet."""
    return json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) if SCHEMA_FILE.exists() else {}


def as_text(schema: Mapping[str, Face]) -> str:
    """The file's text: one input a line, so that a change reads well in a diff."""
    nodes = []
    for name, shown in schema.items():
        inputs = ",\n   ".join(json.dumps(entry) for entry in shown["inputs"])
        outputs = json.dumps(shown["outputs"])
        nodes.append(f' {json.dumps(name)}: {{\n  "inputs": [\n   {inputs}\n  ],\n  "outputs": {outputs}\n }}')
    return "{\n" + ",\n".join(nodes) + "\n}\n"


def main() -> int:
    now = faces()
    if broken := all_breaks(saved_faces(), now):
        lines = [f"{name}: {sentence}" for name, sentences in broken.items() for sentence in sentences]
        sys.stderr.write("schema.json is left as it was, saved workflows would break:\n" + "\n".join(lines) + "\n")
        return 1
    SCHEMA_FILE.write_text(as_text(now), encoding="utf-8")
    return 0


def _bind_the_checkout() -> None:
    spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
    checkout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkout)
    checkout.bind()


if __name__ == "__main__":
    _bind_the_checkout()
    sys.exit(main())
