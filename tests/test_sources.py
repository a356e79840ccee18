"""What every file keeps to: no broad handlers, no mutable defaults, small files, functions and folders."""

import ast

from .test_layers import ALL, LEAVES, ROOT, placed, tree

MAX_LINES, MAX_FUNCTION, MAX_FILES = 300, 60, 14


def test_cores_touch_neither_disk_nor_terminal_nor_environment():
    wrong = []
    for path in (path for path in ALL if path.relative_to(ROOT).parts[0] in LEAVES - {"files"}):
        for node in ast.walk(tree(path)):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            environment = isinstance(node, ast.Attribute) and node.attr == "environ"
            if environment or called in {"open", "print", "input", "eval", "exec"}:
                wrong.append(f"{placed(path)}:{node.lineno}")
    assert not wrong


def test_no_handler_swallows_what_it_does_not_know_and_no_default_is_mutable():
    wrong = []
    for path in ALL:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
                renamed = isinstance(node.body[-1], ast.Raise)  # whatever a node raised, with the node's name put to it
                if broad and not renamed:
                    wrong.append(f"{placed(path)}:{node.lineno}")
            if isinstance(node, ast.FunctionDef):
                defaults = [*node.args.defaults, *(one for one in node.args.kw_defaults if one)]
                if any(isinstance(one, ast.List | ast.Dict | ast.Set) for one in defaults):
                    wrong.append(f"{placed(path)}:{node.lineno}")
    assert not wrong


def test_files_and_functions_stay_small():
    long = []
    for path in ALL:
        if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES:
            long.append(placed(path))
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if node.end_lineno - node.lineno + 1 > MAX_FUNCTION:
                    long.append(f"{placed(path)}: {node.name}")
    assert not long


TESTS = [path for folder in ("tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_tests_and_benchmarks_stay_as_small_as_what_they_test():
    assert not [str(path) for path in TESTS if path.read_bytes().count(b"\n") > MAX_LINES], "split these by theme"


def test_no_folder_holds_more_files_than_one_can_look_over():
    counts = {}
    for path in [*ALL, *TESTS]:
        if path.stem != "__init__":
            folder = path.parent.relative_to(ROOT).as_posix()
            counts[folder] = counts.get(folder, 0) + 1
    assert not [folder for folder in counts if counts[folder] > MAX_FILES], "put files into folders by theme"
