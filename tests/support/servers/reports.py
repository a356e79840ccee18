"""What tests of a node's report on the canvas do and look at."""

from clip_vae_lora.tests.support.servers.canvas import (
    linked,
    open_workflow,
    placed,
    run,
)

EQUAL = "the pictures are equal"  # how the report on two_pictures() begins


def two_pictures(picture: str = "red circle", second: int = 0) -> tuple[list[dict], list[list]]:
    """A picture compared with itself, or with an empty one of this size."""
    example = placed("CVL_ExampleImage", 11, (60, 120), picture)
    compared = placed("CVL_CompareImages", 12, (500, 120), 4.0)
    nodes, links = [example, compared], [(1, "IMAGE", example, compared, "image", "first")]
    if second:
        empty = placed("EmptyImage", 13, (60, 620), second, second, 1, 0)
        nodes.append(empty)
        links.append((2, "IMAGE", empty, compared, "IMAGE", "second"))
    else:
        links.append((2, "IMAGE", example, compared, "image", "second"))
    return nodes, linked(*links)


def report(page, number: int = 12) -> str | None:
    """The report that the open graph's node of this id shows; None without."""
    return page.evaluate(
        """number => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const element = node?.widgets?.find(widget => widget.name === "cvl_report")?.element;
      const lines = element && [...element.querySelectorAll(".cvl-report-line")].map(line => line.textContent);
      return lines ? lines.join("\\n") : null;
    }""",
        number,
    )


def expect_report(page, start: str | None, number: int = 12) -> None:
    page.wait_for_function(
        """([number, start]) => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const widget = node?.widgets?.find(widget => widget.name === "cvl_report");
      if (start === null) return node && !widget;
      const element = widget?.element;
      const shown = element?.isConnected && element.getBoundingClientRect().height > 0;
      const lines = [...element?.querySelectorAll(".cvl-report-line") ?? []].map(line => line.textContent);
      return shown && lines.join("\\n").startsWith(start);
    }""",
        arg=[number, start],
        timeout=15_000,
    )


def expect_red(page, number: int = 12) -> None:
    """Waits until what stopped the node of this id stands on it."""
    page.wait_for_function(
        """number => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const root = node?.widgets?.find(widget => widget.name === "cvl_report")?.element;
      return root?.isConnected && root.offsetParent && root.dataset.mark === "error";
    }""",
        arg=number,
    )


def says(page, number: int, lines: list[str], **ui: object) -> None:
    """A node's message, as the server would send it."""
    output = {"text": ["\n".join(lines)], **ui}
    page.evaluate(
        "detail => window.comfyAPI.api.api.dispatchEvent(new CustomEvent('executed', {detail}))",
        {"node": str(number), "display_node": str(number), "output": output, "prompt_id": "of this test"},
    )
    page.wait_for_timeout(500)


def fails(page, number: int, kind: str, sentence: str) -> None:
    """What stopped a node, as the server would tell it."""
    detail = {"node_id": str(number), "node_type": kind, "exception_message": sentence, "exception_type": "ValueError"}
    detail |= {"prompt_id": "of this test", "executed": [], "traceback": []}
    page.evaluate(
        "detail => window.comfyAPI.api.api.dispatchEvent(new CustomEvent('execution_error', {detail}))", detail
    )
    expect_red(page, number)
    close_dialogs(page)


def box(page, number: int = 12) -> dict:
    """Where the report of a node and the node itself lie, in canvas units, and how much of the text is hidden."""
    return page.evaluate(
        """number => {
      const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));
      const root = node.widgets.find(widget => widget.name === "cvl_report").element;
      const body = root.querySelector(".cvl-report-body"), at = root.getBoundingClientRect();
      const drawn = document.querySelector(`[data-node-id="${number}"]`), title = LiteGraph.NODE_TITLE_HEIGHT;
      const height = drawn && LiteGraph.vueNodesMode ? drawn.offsetHeight - title : node.size[1];
      const canvas = app.canvas.canvas.getBoundingClientRect();
      const {scale, offset} = app.canvas.ds;
      const [x, y] = [(at.x - canvas.x) / scale - offset[0], (at.y - canvas.y) / scale - offset[1]];
      return {top: y, bottom: y + root.offsetHeight, left: x, right: x + root.offsetWidth, height: root.offsetHeight,
              hidden: body.scrollHeight - body.clientHeight, wide: body.scrollWidth - body.clientWidth,
              inside: root.scrollHeight - root.clientHeight,
              node: [node.pos[0], node.pos[1], node.size[0], height]};
    }""",
        number,
    )


def history(page) -> dict:
    return page.evaluate("""() => {
      const workflow = app.extensionManager.workflow.activeWorkflow, {undoQueue, redoQueue} = workflow.changeTracker;
      return {undo: undoQueue.length, redo: redoQueue.length, modified: workflow.isModified};
    }""")


BESIDE = """() => {
  const {canvas, ds, graph} = app.canvas, {x, y} = canvas.getBoundingClientRect();
  const isFree = ([left, top]) => document.elementFromPoint(left, top) === canvas
    && !graph.getNodeOnPos((left - x) / ds.scale - ds.offset[0], (top - y) / ds.scale - ds.offset[1]);
  const places = [[1250, 700]];
  for (let top = 150; top < 900; top += 25) for (let left = 1300; left > 150; left -= 25) places.push([left, top]);
  return places.find(isFree);
}"""


def click_beside(page) -> None:
    """A click on the empty canvas, after which the front end looks for changes. On a node it could change a value."""
    page.mouse.click(*page.evaluate(BESIDE))
    page.wait_for_timeout(400)


def move(page, number: int = 12) -> None:
    page.evaluate(
        "number => { const node = app.canvas.graph._nodes.find(node => String(node.id) === String(number));"
        "node.pos = [node.pos[0] + 40, node.pos[1] + 10] }",
        number,
    )
    click_beside(page)


def press(page, keys: str) -> None:
    page.keyboard.press(keys)
    page.wait_for_timeout(1000)


def other_tab(page, step: str) -> None:
    page.evaluate("step => app.extensionManager.command.execute(`Workspace.${step}OpenedWorkflow`)", step)
    page.wait_for_timeout(1000)


def opened_and_run(page, *what) -> None:
    open_workflow(page, *two_pictures(*what))
    click_beside(page)
    assert run(page) == "execution_success"
    expect_report(page, EQUAL)


def close_dialogs(page) -> None:
    for _ in range(2):
        page.keyboard.press("Escape")
        page.wait_for_timeout(200)
