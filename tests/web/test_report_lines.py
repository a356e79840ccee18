"""What a report's box is given to show, as web/report_lines.mjs makes it."""

import json
import shutil
import subprocess

import pytest

from clip_vae_lora.tests.support.sentences import ROOT

SCRIPT = """
  const { stopped } = await import(process.argv[1]);
  process.stdout.write(JSON.stringify(stopped(...JSON.parse(process.argv[2]))));
"""


def stopped(errors: list[dict], report: list[dict], heading: str) -> list[dict]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run web/report_lines.mjs alone")
    module = (ROOT / "web" / "report_lines.mjs").as_uri()
    given = json.dumps([errors, report, heading])
    command = [node, "--input-type=module", "-e", SCRIPT, module, given]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_report_below_an_error_is_said_to_be_an_earlier_one_and_loses_its_marks():
    errors = [{"text": "no such file", "mark": "error"}]
    report = [{"text": "⚠ half of it", "mark": "note"}, {"text": "a.png: 3", "mark": "", "own": ["a.png"]}]
    assert stopped(errors, report, "earlier:") == [
        {"text": "no such file", "mark": "error"},
        {"text": "earlier:", "mark": "", "earlier": True},
        {"text": "⚠ half of it", "mark": "", "earlier": True},
        {"text": "a.png: 3", "mark": "", "own": ["a.png"], "earlier": True},
    ]


def test_a_node_that_has_not_run_yet_says_only_what_stopped_it():
    errors = [{"text": "no such file", "mark": "error"}]
    assert stopped(errors, [], "earlier:") == errors
