"""The rows of LoRA Stack's list on a canvas: a list, the files' headers, and how rows are found. Needs playwright."""

import json

from ..servers.canvas import load, playwright

WAIT_MS = 15_000
TAG = "<img src=x onerror=alert(1)>"
HEADERS = {
    "style.safetensors": {"modelspec.title": f"Ink {TAG}", "modelspec.trigger_phrase": f"sks, {TAG}"},
    "people/anna.safetensors": {"ss_tag_frequency": json.dumps({"10_anna": {"anna woman": 9, TAG: 5}})},
    "old/anna.safetensors": {},
    "zebra stripes.safetensors": {},
}
LIST = "# people\npeople/anna : 0.8 # mine\n\noff style.safetensors : 0.65 : 0.3 : attn2: 0.5\nzebra stripes : much"


def show(page, text: str) -> None:
    load(page, "CVL_LoRAStack", widgets_values=[text, False, False], size=[400, 420])
    playwright.expect(page.locator(".cvl-loras:visible .cvl-row")).to_have_count(len(text.splitlines()))


def row(page, place: int):
    return page.locator(f'.cvl-loras:visible [data-place="{place}"]')


def part(page, place: int, field: str):
    return row(page, place).locator(f'[data-field="{field}"]')


def value(page) -> str:
    return page.evaluate("app.graph._nodes[0].widgets.find(w => w.name === 'loras').value")


def expect_list(page, text: str) -> None:
    page.wait_for_function(
        """wanted => app.graph._nodes[0]?.widgets.find(w => w.name === 'loras').value === wanted""",
        arg=text,
        timeout=WAIT_MS,
    )


def with_line(place: int, written: str) -> str:
    lines = LIST.split("\n")
    lines[place] = written
    return "\n".join(lines)
