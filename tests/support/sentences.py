"""The English that a user can see, read from the source: sentences of the Python side, and what web/ says itself.

A sentence is written as a template: "{}" stands for what an f-string fills in. Run as a program it prints, as JSON,
what has no Chinese yet: `python -m clip_vae_lora.tests.support.sentences`, or `python tests/support/sentences.py`.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "nodes",
    "doctor",
    "clip_core",
    "vae_core",
    "lora",
    "diffusion",
    "training/clip",
    "training/lora",
    "training/memory",
    "training/record",
    "training/vae",
    "files",
    "index",
    "drawing",
)
NOT_SHOWN = {  # files whose strings are data: prompts for CLIP, rules of English
    "clip_core/judging/templates.py",
    "clip_core/judging/english.py",
    "clip_core/judging/question_rules.py",
}
IN_LOCALES = {"DESCRIPTION", "SEARCH_ALIASES", "OUTPUT_TOOLTIPS", "RETURN_NAMES", "CATEGORY"}  # or searched, not shown
UNSEEN_NAMES = {  # tables of what is looked for in texts of others, of names, of attributes
    "_OUT_OF_MEMORY",
    "_LOST",
    "_GEOMETRY",
    "_SHORT",
    "_PRESETS",
    "JOINING",
    "TORCH_ZIP",
    "PROMPT",
    "DTYPE_TOOLTIP",
    "TEXTS",
    "MODELS",
    "LORA_KIN",
    "SPACES",
    "_INPUTS",
    "OTHER_PICTURES",
    "_NO_BACKWARD",
    "_WRITTEN_OVER",
    "_FONTS",
}
UNSEEN_KEYS = {"tooltip", "display_name", "default", "loc"}  # nodeDefs.json has the first; a default is the user's text
UNSEEN_CALLS = {"compile", "debug", "info", "warning", "getLogger", "Literal", "TypeVar", "NewType", "cast"}
UNSEEN = {
    "Tensor | str",
    "tuple[str, int] | None",
    "share unread",
    "more strays",
    "sd version",
    "activation text",
    "private, max-age={}",
    "PixArt Alpha",
    "Chroma Radiance",
    "Raw profile type exif",
    "trained by comfyui-clip-vae-lora",
    "{}, cos {}, +{}",
    "cos {}",
    "#{}: {} / {} tokens",
    "||dW - LoRA|| / ||dW||",
    "KL (nats)",
}  # keys, headers, what is drawn on a picture
PICTURES = {"red circle", "blue star", "striped heart"}  # said as values of a menu: in a report they can be labels
_SQL = re.compile(r"(CREATE|SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN)\b")
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_CALL = re.compile(r"(?<![\w.])t\(")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')


def python_sentences(root: Path = ROOT) -> dict[str, str]:
    """Each template of two words or more that can reach a report, a note or an error -> the file it is in."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name not in NOT_SHOWN:
                for template in templates(ast.parse(path.read_text(encoding="utf-8"))):
                    for line in template.split("\n"):
                        if is_sentence(line):
                            found.setdefault(line.strip(), name)
    return found


def is_sentence(template: str) -> bool:
    """Whether a template has a blank and two words, or one beside what is filled in."""
    words = [word for word in _WORD.findall(template.replace("{}", " ")) if len(word) > 1 or word == "a"]
    filled = "{}" in template and any(len(word) > 2 and word.islower() for word in words)
    said = " " in template.strip() and (len(words) >= 2 or filled)
    return said and not _SQL.match(template) and not template.startswith((">>>", '{"')) and template not in UNSEEN


def templates(node: ast.AST) -> Iterator[str]:
    """The strings under a node of the syntax tree that can be shown, f-strings and sums of strings as templates."""
    if _is_unseen(node):
        return
    template = _template(node)
    if template is not None:
        yield template
        yield from _inside(node)
        return
    for child in _children(node):
        yield from templates(child)


def _is_unseen(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        is_type = getattr(getattr(node, "annotation", None), "id", "") == "TypeAlias"
        return is_type or bool(names & (IN_LOCALES | UNSEEN_NAMES))
    if isinstance(node, ast.Call):
        called = node.func
        return (getattr(called, "attr", None) or getattr(called, "id", None)) in UNSEEN_CALLS
    if isinstance(node, ast.keyword):
        return node.arg in UNSEEN_KEYS
    return isinstance(node, ast.Compare)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.FunctionDef) and node.name == "INPUT_TYPES":
        yield from _placeholders(node)
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (part for part in node.body if not _is_docstring(part))  # annotations are not shown
        return
    if isinstance(node, ast.AnnAssign):
        yield from filter(None, [node.value])
        return
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if not (isinstance(key, ast.Constant) and key.value in UNSEEN_KEYS):
                yield from filter(None, [key, value])
        return
    for child in ast.iter_child_nodes(node):
        if not _is_docstring(child):
            yield child


def _placeholders(node: ast.AST) -> Iterator[ast.AST]:
    """The grey words in the empty fields of a node, all that its inputs show and nodeDefs.json does not have."""
    for found in ast.walk(node):
        if isinstance(found, ast.Dict):
            for key, value in zip(found.keys, found.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "placeholder":
                    yield value


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _template(node: ast.AST) -> str | None:
    """The template of a string, an f-string, a sum of strings; None for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [_template(side) for side in (node.left, node.right)]
        if any(sides):
            return "".join("{}" if side is None else side for side in sides)
    return None


def _inside(node: ast.AST) -> Iterator[str]:
    """What an f-string or a sum fills in, where that is written in strings as well."""
    if isinstance(node, ast.JoinedStr):
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from templates(part.value)
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            if _template(side) is None:
                yield from templates(side)
            else:
                yield from _inside(side)


def web_sentences(root: Path = ROOT) -> dict[str, str]:
    """Each sentence that web/ says by `t("...")` or `t(one ? "..." : "...")` -> the file it is in."""
    found = {}
    for path in sorted([*(root / "web").rglob("*.mjs"), *(root / "web").rglob("*.js")]):
        text = path.read_text(encoding="utf-8")
        for call in _CALL.finditer(text):
            for said in _literals(text, call.end()):
                found.setdefault(said, path.relative_to(root).as_posix())
    return found


def _literals(text: str, begin: int) -> Iterator[str]:
    """The strings in the first argument of a call, those that something is compared with left out."""
    place, depth = begin, 0
    while place < len(text):
        literal = _LITERAL.match(text, place)
        if literal:
            if not text[:place].rstrip().endswith("=="):
                yield json.loads(literal.group())
            place = literal.end()
            continue
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth < 0 or (depth == 0 and text[place] == ","):
            return
        place += 1


def chinese(root: Path = ROOT) -> dict[str, str]:
    """The tables of web/zh as one, but for the values of menus and the texts of the examples. Raises ValueError for a
    sentence with two translations.
    """
    found: dict[str, str] = {}
    apart = {root / "web" / "zh" / name for name in ("menus.json", "examples.json")}
    for path in sorted(set((root / "web" / "zh").glob("*.json")) - apart):
        for english, there in json.loads(path.read_text(encoding="utf-8")).items():
            if found.setdefault(english, there) != there:
                raise ValueError(f"{english!r} is {found[english]!r} and, in {path.name}, {there!r}")
    return found


def missing(root: Path = ROOT) -> dict[str, str]:
    """The sentences without Chinese -> the file each is in."""
    known = chinese(ROOT).keys() | (PICTURES & _menus().keys())
    return {line: file for line, file in {**python_sentences(root), **web_sentences(root)}.items() if line not in known}


def _menus() -> dict[str, str]:
    """What is shown for the values of menus."""
    return json.loads((ROOT / "web" / "zh" / "menus.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(missing(*map(Path, sys.argv[1:])), ensure_ascii=False, indent=1) + "\n")
