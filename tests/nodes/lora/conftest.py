"""web/lora_lines.mjs, for tests of it: in `node`, or in a Chromium that playwright can start."""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

MODULE = Path(__file__).resolve().parents[3] / "web" / "lora_lines.mjs"


@pytest.fixture(scope="module")
def js():
    """Runs an arrow function of (L, data) as a string, where L is the module; data and result as JSON has them."""
    if shutil.which("node"):
        yield _in_node
        return
    playwright = pytest.importorskip("playwright.sync_api", reason="needs node, or playwright and a Chromium")
    with playwright.sync_playwright() as running:
        try:
            browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"needs node, or a Chromium that playwright can start: {str(error).splitlines()[0]}")
        yield partial(_in_page, browser.new_page())
        browser.close()


def _in_node(function: str, data):
    code = f"""import * as L from {json.dumps(MODULE.as_uri())};
      let text = ""; for await (const piece of process.stdin.setEncoding("utf8")) text += piece;
      process.stdout.write(JSON.stringify(({function})(L, JSON.parse(text))));"""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", code], input=json.dumps(data), text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _in_page(page, function: str, data):
    source = json.dumps(MODULE.read_text(encoding="utf-8"))
    return page.evaluate(
        f"""async data => {{
      const url = URL.createObjectURL(new Blob([{source}], {{type: "text/javascript"}}));
      return JSON.parse(JSON.stringify(({function})(await import(url), data)));
    }}""",
        data,
    )
