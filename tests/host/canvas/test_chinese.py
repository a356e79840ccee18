"""With the front end in Chinese nothing of ours is English: reports, notes, errors, rows, popups, menus."""

import json
import re

import pytest

from clip_vae_lora.tests.support.servers.canvas import load, open_workflow, placed, playwright, run, speak
from clip_vae_lora.tests.support.servers.reports import close_dialogs, expect_red, report, two_pictures
from clip_vae_lora.tests.support.servers.serving import ROOT
from clip_vae_lora.tests.support.words.chinese_names import english_words

WAIT_MS = 120_000
QUOTED = re.compile(r"“[^”]*”|`[^`]*`|\"[^\"]*\"|'[^']*'|\([a-z]+:[\d.]+\)")  # what somebody wrote, or is to write
TEXTS = """() => {
  const said = [], stock = app.graph._nodes.filter(({ type }) => !type.startsWith("CVL_"));
  const theirs = [...stock.flatMap(({ widgets }) => (widgets ?? []).map((one) => one.element ?? one.inputEl)),
    ...stock.map(({ id }) => document.querySelector(`[data-node-id="${id}"]`))].filter(Boolean);
  for (const root of document.querySelectorAll("[class^='cvl-'], [class*=' cvl-'], textarea")) {
    if (theirs.some((one) => one.contains(root))) continue; // a stock node has words of its own
    for (const name of ["title", "placeholder", "aria-label"]) said.push(root.getAttribute(name) ?? "");
    for (const child of root.childNodes) if (child.nodeType === Node.TEXT_NODE) said.push(child.data);
  }
  return [...new Set(said.map((text) => text.trim()).filter(Boolean))];
}"""
TYPED = "() => app.graph._nodes.flatMap(({ widgets }) => (widgets ?? []).map(({ value }) => String(value)))"


@pytest.fixture
def chinese(opened):
    """The canvas with its language set to Chinese, and English again behind the test."""
    speak(opened, "zh")
    yield opened
    speak(opened, "en")


# what users and files say themselves: labels as a template makes them, and a LoRA's own title
WRITTEN = {"a photo of a striped heart", "a photo of a plain heart", "stripes for the bundled CLIP"}
SCORED = re.compile(r"(?:\d+\. |#\d+: )?(.+?)(?:: |, )([\d.]+%.*)")  # a label with its score, and what follows


def english(page) -> list[str]:
    """What of ours on the page has an English word that is no name."""
    typed = [*page.evaluate(TYPED), *WRITTEN]  # labels and prompts are the user's own, wherever they are shown again
    own = {label.strip() for text in typed for label in re.split(r"[\n,]", text)}
    texts = [text for text in page.evaluate(TEXTS) if _has_english(_without_label(text, own))]
    return [text for text in texts if not any(text in one for one in typed)]


def _without_label(text: str, own: set[str]) -> str:
    scored = SCORED.fullmatch(text)
    return scored[2] if scored and scored[1] in own else text


def _has_english(text: str) -> bool:
    return bool(english_words(text, QUOTED))


def test_english_is_seen_where_it_stands():
    assert _has_english("3 of its modules were not used") and _has_english("权重：no such file here")
    assert _has_english("第 3 行：missing") and _has_english("（nearest：猫）")
    assert not _has_english("bundled/tiny_clip.safetensors：使用 24 个模块中的 24 个")
    assert not _has_english("CLIP 0.5 token") and not _has_english("没有“a cat”")


def test_reports_of_an_example_are_chinese(chinese):
    for name in ("prompt_and_lora", "zero_shot"):
        graph = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        chinese.evaluate("graph => app.loadGraphData(graph)", graph)
        chinese.evaluate("() => app.queuePrompt(0, 1)")
        playwright.expect(chinese.locator(".cvl-report-line").first).to_be_attached(timeout=WAIT_MS)
        chinese.wait_for_timeout(8000)
        lines = chinese.locator(".cvl-report-line").all_text_contents()
        assert lines and any(re.search("[一-鿿]", line) for line in lines)
        assert not english(chinese)


def test_the_token_line_and_its_panel_are_chinese(chinese):
    load(chinese, "CVL_TextEncode")
    field = chinese.locator("textarea:visible").first
    field.fill("[a cat] (dog:1.5 <lora:x:1> embedding:nothing_here AND {red|blue} // note")
    line = chinese.locator(".cvl-prompt-count").first
    playwright.expect(line).to_contain_text("⚠", timeout=WAIT_MS)
    line.click()
    playwright.expect(chinese.locator(".cvl-prompt-panel").first).to_contain_text("第 1 段", timeout=WAIT_MS)
    assert not [text for text in english(chinese) if text != field.input_value()]


def test_rows_of_loras_and_what_is_wrong_with_them_are_chinese(chinese):
    text = "bundled/tiny_clip_stripes_lora.safetensors : 0.8\nno_such_file : 1.0\nx : y : z"
    load(chinese, "CVL_LoRAStack", widgets_values=[text, False, False])
    playwright.expect(chinese.locator(".cvl-problem").nth(1)).to_contain_text("没有", timeout=WAIT_MS)
    assert not english(chinese)
    chinese.locator(".cvl-name").first.click()
    chinese.wait_for_timeout(1500)
    assert not english(chinese)


def test_an_error_is_chinese_on_its_node(chinese):
    chinese.evaluate("""async () => {
      await app.loadGraphData({ version: 0.4, nodes: [], links: [], groups: [], config: {}, extra: {},
        last_node_id: 0, last_link_id: 0 });
      const make = (type, at) => {
        const node = LiteGraph.createNode(type); node.pos = at; app.graph.add(node); return node; };
      const picture = make("CVL_ExampleImage", [50, 100]), model = make("CVL_LoadCLIPModel", [50, 400]);
      const judge = make("CVL_ZeroShotClassify", [500, 100]);
      picture.connect(0, judge, judge.inputs.findIndex(({ name }) => name === "image"));
      model.connect(0, judge, judge.inputs.findIndex(({ name }) => name === "clip_model"));
      judge.widgets.find(({ name }) => name === "labels").value = "";
      await app.queuePrompt(0, 1);
    }""")
    playwright.expect(chinese.locator(".cvl-report").last).to_contain_text("没有标签", timeout=WAIT_MS)
    assert not english(chinese)
    assert "没有标签" in chinese.evaluate("() => app.lastExecutionError.exception_message")  # of panels and dialogs
    close_dialogs(chinese)


def test_a_refused_prompt_is_chinese_on_its_node(chinese):
    (example, compared), links = two_pictures()
    compared["inputs"][1]["link"] = None
    example["outputs"][0]["links"] = [links[0][0]]
    open_workflow(chinese, [example, compared], links[:1])
    assert run(chinese).startswith("refused: ")
    expect_red(chinese)
    close_dialogs(chinese)
    assert report(chinese) == "缺少必需的输入：第二张图像"


def test_menus_and_empty_fields_are_chinese(chinese):
    load(chinese, "CVL_RankImages")
    chinese.wait_for_timeout(500)
    shown = chinese.evaluate("""() => app.graph._nodes[0].widgets.filter(({ type }) => type === "combo")
      .map(({ options, value }) => [value, options.getOptionLabel?.(value)])""")
    assert ["keep the best one", "保留最好的一张"] in shown
    drawn = chinese.evaluate("() => app.graph._nodes[0].widgets.map(({ _displayValue }) => _displayValue)")
    assert "保留最好的一张" in drawn
    assert not {"prompt", "negative"} & set(chinese.evaluate(TEXTS))


ENTRIES = """() => app.graph._nodes.flatMap((node) => app.extensions.flatMap((one) =>
  (one.name.startsWith("clip-vae-lora.") && one.getNodeMenuItems?.(node) || []).map(({ content }) => content)))"""


def test_what_a_right_click_opens_is_chinese(chinese):
    nodes, links = two_pictures()
    open_workflow(chinese, [*nodes, placed("CVL_TrainLoRA", 21, (900, 60), size=[380, 400])], links)
    entries = chinese.evaluate(ENTRIES)
    assert len(entries) >= 4 and not [text for text in entries if _has_english(text)]  # Doctor's, and a training's
    load(chinese, "CVL_LoRAStack", widgets_values=["bundled/tiny_clip_stripes_lora.safetensors : 0.8", False, False])
    chinese.locator(".cvl-name").first.click(button="right")
    playwright.expect(chinese.locator(".cvl-action").first).to_be_visible(timeout=WAIT_MS)
    assert not english(chinese)
    chinese.keyboard.press("Escape")


MIDDLE = """() => {
  const [node] = app.graph._nodes, widget = node.widgets.find(({ value }) => value === "keep the best one");
  const place = app.canvas.canvas.getBoundingClientRect(), [x, y] = node.pos;
  return [place.x + x + node.size[0] / 2, place.y + y + (widget.last_y ?? widget.y) + 10];
}"""


def test_a_classic_menu_opens_in_chinese_and_keeps_its_values(chinese):
    if chinese.vue:
        pytest.skip("Vue nodes have a menu of the page, which asks for the same words")
    load(chinese, "CVL_RankImages")
    chinese.wait_for_timeout(500)
    chinese.mouse.click(*chinese.evaluate(MIDDLE))
    entries = chinese.locator(".litemenu-entry:visible")
    playwright.expect(entries).to_have_text(["保留最好的一张", "报错停止", "不传递任何图像"], timeout=WAIT_MS)
    entries.nth(1).click()
    chinese.wait_for_timeout(300)
    found = chinese.evaluate(
        "() => app.graph._nodes[0].widgets.map(({ value, _displayValue }) => [value, _displayValue])"
    )
    assert ["stop with an error", "报错停止"] in found


SAID = """() => ({
  notes: app.graph._nodes.filter(({ type }) => type === "MarkdownNote").map(({ widgets }) => widgets[0].value),
  titles: app.graph._nodes.map((node) => node.getTitle()), groups: app.graph._groups.map(({ title }) => title),
  changed: app.extensionManager.workflow.activeWorkflow.isModified,
  values: app.graph.serialize().nodes.filter(({ type }) => type !== "MarkdownNote")
    .map(({ id, type, widgets_values }) => [String(id), type, widgets_values ?? []]).sort() })"""


def test_an_example_opens_in_chinese_and_counts_as_unchanged(opened):
    def said(name: str) -> dict:
        graph = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        opened.evaluate("graph => app.loadGraphData(graph)", graph)
        opened.wait_for_timeout(1000)
        return opened.evaluate(SAID)

    names = [path.stem for path in sorted((ROOT / "example_workflows").glob("*.json"))]
    english = {name: said(name) for name in names}
    speak(opened, "zh")
    for name in names:
        there = said(name)
        for text in [*there["notes"], *there["titles"], *there["groups"]]:
            assert re.search("[一-鿿]", text), text
        assert there["values"] == english[name]["values"] and not there["changed"]
    speak(opened, "en")
