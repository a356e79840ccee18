"""The table of results in the help page of Load LoRA and its Chinese twin, written between two headings."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .pairs import Pair

PAGES = Path(__file__).resolve().parents[3] / "web" / "docs"
ENGLISH = (
    "CVL_LoadLoRA.md",
    "## Families of models",
    "## The report",
    "What the project's own test measures with ComfyUI {version}: small models of every family, through ComfyUI's own\n"
    "classes, and files with all of their modules under the model's names and under diffusers', in {dialects} ways of\n"
    "writing them (kohya, diffusers, PEFT, LyCORIS, OneTrainer, with and without prefix). Equal: the same places\n"
    "as ComfyUI's own loader, with the same values. More: places that it leaves out.",
    "| Model | Files that load | Equal / more / less |",
    "Text encoder: {name}",
)
CHINESE = (
    "CVL_LoadLoRA/zh.md",
    "## 模型系列",
    "## 报告",
    "本项目的测试在 ComfyUI {version} 上测得：用 ComfyUI 自己的类建立每个系列的小模型，文件包含其全部模块，"
    "名称既有模型自己的，也有 diffusers 的，共 {dialects} 种写法"
    "（kohya、diffusers、PEFT、LyCORIS、OneTrainer，有前缀和没有前缀）。"
    "相同：与 ComfyUI 自己的加载节点位置相同、数值相同。更多：还包括它漏掉的位置。",
    "| 模型 | 能加载的文件 | 相同 / 更多 / 更少 |",
    "{name} 的文本编码器",
)


def write(found: Sequence[Pair], version: str) -> None:
    """Writes the section of both pages anew, from pairs of a whole run."""
    for name, heading, following, words, columns, encoder in (ENGLISH, CHINESE):
        path = PAGES / name
        page = path.read_text(encoding="utf-8")
        before, _, after = page.partition(f"{following}\n")
        before = before.partition(f"{heading}\n")[0]
        dialects = len({(pair.dialect) for pair in found if not pair.family.startswith("TE ")})
        section = (
            f"{heading}\n\n{words.format(version=version, dialects=dialects)}\n\n{_table(found, columns, encoder)}\n\n"
        )
        path.write_text(before + section + f"{following}\n" + after, encoding="utf-8")


def _table(found: Sequence[Pair], columns: str, encoder: str) -> str:
    rows = [columns, "|---|---|---|"]
    for family in dict.fromkeys(pair.family for pair in found):
        counts = Counter(pair.verdict for pair in found if pair.family == family)
        loaded = sum(counts.values()) - counts["neither"]
        name = encoder.format(name=family[3:]) if family.startswith("TE ") else family
        less = counts["worse"] + counts["values"]
        rows.append(f"| {name} | {loaded} | {counts['equal']} / {counts['better']} / {less} |")
    return "\n".join(rows)
