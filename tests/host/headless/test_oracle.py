"""The conversion against the front end itself: graphToPrompt in a real browser, on every canvas that the host ships.

The canvases are those of the host's blueprints and of its comfyui_workflow_templates packages, read where they are
installed. COMFYUI_CANVASES names a further folder of them.
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

from clip_vae_lora.headless.workflow.canvas import to_api
from clip_vae_lora.headless.workflow.graph import WorkflowError, server_spec

from ...support.servers.canvas import canvas, chromium
from ...support.servers.serving import served

NOW = datetime(2026, 11, 28, 13, 7, 9)
ASK = """async text => {
  await app.loadGraphData(JSON.parse(text), true, true, null);
  await new Promise(done => setTimeout(done, 60));
  const chance = Math.random;
  Math.random = () => 0;  // the first of {a|b}, as below
  try { return JSON.stringify((await app.graphToPrompt()).output); }
  catch { return null; }
  finally { Math.random = chance; }
}"""
WHERE = "import site; print('\\n'.join([*site.getsitepackages(), site.getusersitepackages()]))"
BROWSERS_OWN = ("viewport_state",)  # the camera of a 3-D view


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


def differences(ours, theirs, specs):
    """What differs in nodes, classes and inputs that the classes declare; other inputs are the browser's own."""
    found = [f"only one has {node}" for node in ours.keys() ^ theirs.keys()]
    for node in ours.keys() & theirs.keys():
        one, other = ours[node], theirs[node]
        known = specs(one["class_type"]).inputs
        for name in one["inputs"].keys() | other["inputs"].keys():
            if name.split(".")[0] in known and name not in BROWSERS_OWN and other["inputs"].get(name, "") is not None:
                if not same(one["inputs"].get(name), other["inputs"].get(name)):
                    found.append(f"{node} {one['class_type']}.{name}")
    return found


@pytest.fixture(scope="module")
def answers(comfyui_path, tmp_path_factory):
    """(path, document, the front end's prompt or None) of every canvas, and the specs of the host's classes."""
    with served(comfyui_path, tmp_path_factory.mktemp("oracle"), api_nodes=True) as server, chromium() as browser:
        info = json.load(urllib.request.urlopen(f"{server}/object_info"))
        page = canvas(browser, server, "KSampler")
        page.clock.set_fixed_time(NOW)
        found = []
        for path, text, document in canvases(comfyui_path):
            said = page.evaluate(ASK, text)
            found.append((path, document, None if said is None else json.loads(said)))
    specs = {name: server_spec(one) for name, one in info.items()}
    return found, specs.get


def test_every_canvas_of_the_host_is_sent_as_the_front_end_sends_it(answers, monkeypatch, record_property):
    monkeypatch.setattr(random, "choice", lambda options: options[0])
    found, specs = answers
    wrong, refused, equal = {}, {}, 0
    for path, document, theirs in found:
        try:
            ours, _ = to_api(document, specs, NOW)
        except WorkflowError as error:
            refused[path.name] = str(error)
            continue
        told = ["the front end throws"] if theirs is None else differences(ours, theirs, specs)
        if told:
            wrong[path.name] = told[:5]
        equal += not told
    for name, value in {"canvases": len(found), "equal": equal, "refused": refused, "differ": wrong}.items():
        record_property(name, value)
    assert len(found) > 100 and equal >= 0.99 * (equal + len(wrong)), wrong
    assert len(refused) <= 0.02 * len(found), refused
