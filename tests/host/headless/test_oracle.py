"""The conversion against the front end itself: graphToPrompt in a real browser, on every canvas that the host ships.

The canvases are those of the host's blueprints and of its comfyui_workflow_templates packages, read where they are
installed. COMFYUI_CANVASES names a further folder of them; COMFYUI_CANVASES_EVERY=7 takes every seventh canvas.
"""

import json
import os
import random
import subprocess
import sys
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest

from clip_vae_lora.headless.workflow.canvas import class_names, front_end_of, to_api
from clip_vae_lora.headless.workflow.canvas.kinds import NO_SCENE, SCENE
from clip_vae_lora.headless.workflow.canvas.widgets import inputs_with_options
from clip_vae_lora.headless.workflow.graph import WorkflowError, server_spec

from ...support.servers.canvas import canvas, chromium
from ...support.servers.serving import served

NOW = datetime(2026, 11, 28, 13, 7, 9)
ASK = """async text => {
  await app.loadGraphData(JSON.parse(text), true, true, null).catch(() => {});  // 1.58 fails behind it, in its tabs
  await new Promise(done => setTimeout(done, 60));
  const chance = Math.random;
  Math.random = () => 0;  // the first of {a|b}, as below
  try { return JSON.stringify((await app.graphToPrompt()).output); }
  catch { return null; }
  finally { Math.random = chance; }
}"""
WHERE = "import site; print('\\n'.join([*site.getsitepackages(), site.getusersitepackages()]))"
BROWSERS_OWN = ("viewport_state",)  # the camera of a 3-D view
PAGE_LASTS = 60  # canvases; a page keeps what it has loaded
QUIET = {
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Workflow.ShowMissingNodesWarning": False,
    "Comfy.Validation.Workflows": False,
}


def canvases(comfyui_path):
    """The files of the host's own canvases."""
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    sites = subprocess.run([python, "-c", WHERE], capture_output=True, text=True, check=True).stdout.split("\n")
    folders = [
        comfyui_path / "blueprints",
        *(Path(os.environ[key]) for key in ("COMFYUI_CANVASES",) if key in os.environ),
    ]
    folders += [found for site in sites if site for found in Path(site).glob("comfyui_workflow_templates*")]
    for folder in folders:
        for path in sorted(folder.rglob("*.json")):
            text = path.read_text(encoding="utf-8-sig")
            document = json.loads(text)
            if isinstance(document, dict) and isinstance(document.get("nodes"), list):
                yield path, text, document


def same(ours, theirs):
    """Equal as JavaScript's numbers are; null from the front end is a value that is not there."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return float(ours) == float(theirs)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs


def fits(value, declared):
    """Whether a value is one that the host takes for the input."""
    if declared.choices is not None:
        return value in declared.choices
    if declared.kind in ("INT", "FLOAT"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is not None


def is_unseen(value, node, theirs, specs):
    """Whether a 3-D view's pictures are empty ones and the front end's prompt takes nothing but the file from it."""
    kinds = specs(theirs[node]["class_type"]).outputs
    links = [value for found in theirs.values() for value in found["inputs"].values() if isinstance(value, list)]
    taken = [kinds[link[1]] for link in links if link[:1] == [node]]
    return value["image"] == NO_SCENE and all(kind.startswith(("STRING", "FILE_3D")) for kind in taken)


def differences(ours, theirs, specs):
    """What differs in nodes, classes and inputs that the classes declare; other inputs are the browser's own.

    Where the front end sends what its own server refuses and the conversion what it takes, nothing is wrong with this,
    nor with the node's other inputs, whose values stand in the wrong places, too.
    """
    found = [f"only one has {node}" for node in ours.keys() ^ theirs.keys()]
    for node in ours.keys() & theirs.keys():
        one, other = ours[node]["inputs"], theirs[node]["inputs"]
        if ours[node]["class_type"] != theirs[node]["class_type"]:
            found.append(f"{node} has two classes")
            continue
        known = inputs_with_options(specs(ours[node]["class_type"]), one)
        taken = {name for name, declared in known.items() if name in one and fits(one[name], declared)}
        refused = any(not fits(other.get(name), known[name]) for name in taken)
        for name in one.keys() | other.keys():
            if name in BROWSERS_OWN or name.split(".")[0] not in known or same(one.get(name), other.get(name)):
                continue
            declared = known.get(name)
            if declared and declared.kind == SCENE and is_unseen(one.get(name), node, theirs, specs):
                continue
            if refused and (name in taken or name not in one):
                continue
            found.append(f"{node} {ours[node]['class_type']}.{name}: {one.get(name)!r} {other.get(name)!r}"[:300])
    return found


def is_true(refusal, document, specs):
    """Whether the reason of a refusal is one that the host's own files confirm."""
    if "not known here" in refusal:
        return any(specs(name) is None for name in class_names(document))
    if "picture of a 3-D scene" in refusal:
        return any(declared.kind == SCENE for name in class_names(document) for declared in specs(name).inputs.values())
    return "another version of this class" in refusal


def asked(browser, server, canvases):
    """(path, document, the front end's prompt or None) of every canvas."""
    settings = urllib.request.Request(
        f"{server}/settings", json.dumps(QUIET).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(settings)
    page = None
    for number, (path, text, document) in enumerate(canvases):
        if number % PAGE_LASTS == 0:
            if page is not None:
                page.close()
            page = canvas(browser, server, "KSampler")
            page.clock.set_fixed_time(NOW)
        said = page.evaluate(ASK, text)
        yield path, document, None if said is None else json.loads(said)


@pytest.fixture(scope="module")
def answers(comfyui_path, tmp_path_factory):
    """What the front end says to the canvases, the specs of the host's classes, and the front end's version."""
    every = int(os.environ.get("COMFYUI_CANVASES_EVERY", "1"))
    with served(comfyui_path, tmp_path_factory.mktemp("oracle"), api_nodes=True) as server, chromium() as browser:
        info = json.load(urllib.request.urlopen(f"{server}/object_info"))
        version = front_end_of(json.load(urllib.request.urlopen(f"{server}/system_stats")))
        found = list(asked(browser, server, list(canvases(comfyui_path))[::every]))
    specs = {name: server_spec(one) for name, one in info.items()}
    return found, specs.get, version


def test_every_canvas_of_the_host_is_sent_as_the_front_end_sends_it(answers, monkeypatch):
    monkeypatch.setattr(random, "choice", lambda options: options[0])
    found, specs, version = answers
    wrong, refused, untrue, equal = {}, {}, {}, 0
    for path, document, theirs in found:
        try:
            ours, _ = to_api(document, specs, NOW, version)
        except WorkflowError as error:
            (refused if is_true(str(error), document, specs) else untrue)[path.name] = str(error)
            continue
        told = ["the front end throws"] if theirs is None else differences(ours, theirs, specs)
        if told:
            wrong[path.name] = told[:5]
        equal += not told
    counted = f"{len(found)} canvases: {equal} equal; refused {refused}; refused wrongly {untrue}; different {wrong}"
    assert found and not wrong and not untrue, counted
    assert len(refused) <= 1 + 0.02 * len(found), counted
