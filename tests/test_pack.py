"""The pack as ComfyUI takes it in: a folder of any name, imported by its path; and what the Registry is told of it."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .test_layers import ROOT, imports, sources, tree

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = None

AS_COMFYUI = """
import importlib.util, sys
root = sys.argv[1]
name = root.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, root + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert module.WEB_DIRECTORY == "./web"
assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
heavy = {"ftfy", "regex", "transformers", "matplotlib", "aiohttp"} & set(sys.modules)
assert not heavy, heavy
print(len(module.NODE_CLASS_MAPPINGS))
"""


@pytest.mark.parametrize("folder", ["comfyui-clip-vae-lora", "my pack", "v1.2.x", "clip_vae_lora"])
def test_it_imports_from_any_folder_name_and_brings_nothing_heavy(tmp_path, folder):
    (tmp_path / folder).symlink_to(ROOT)
    done = subprocess.run([sys.executable, "-c", AS_COMFYUI, str(tmp_path / folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def test_a_tool_that_collects_the_root_file_alone_is_not_disturbed():
    spec = importlib.util.spec_from_file_location("__init__", ROOT / "__init__.py")
    importlib.util.module_from_spec(spec)
    source = compile(ast.parse((ROOT / "__init__.py").read_text()), "__init__", "exec")
    space = {"__name__": "__init__", "__package__": ""}
    exec(source, space)
    assert "NODE_CLASS_MAPPINGS" not in space


@pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")
def test_requirements_name_what_pyproject_names_and_torch_is_not_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [line for line in (ROOT / "requirements.txt").read_text().split() if line]
    assert lines == project["project"]["dependencies"] == ["ftfy", "matplotlib", "regex"]
    assert not (ROOT / "web" / "js").exists() and "web" not in project["tool"]["comfy"]


def test_the_readme_in_the_archive_says_that_what_was_left_out_of_it_comes_with_the_repository():
    lines = (ROOT / ".comfyignore").read_text().splitlines()
    left_out = {line for line in lines if line.endswith("/") and not line.startswith("#")}
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Without a browser")[1].split("\n\n")[1]
    assert {"headless/", "tests/", "benchmarks/"} <= left_out
    assert "`headless/`, the tests and the benchmarks come with the repository" in section and "clone" in section


@pytest.mark.skipif(tomllib is None, reason="tomllib came with Python 3.11")
def test_what_is_installed_is_every_folder_with_python_files_and_all_that_lies_beside_them():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in sources()}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    names = {".".join(("clip_vae_lora", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert len(told["packages"]) == len(names) and set(told["packages"]) == names
    data = {path for pattern in told["package-data"]["clip_vae_lora"] for path in ROOT.glob(pattern) if path.is_file()}
    tops = {folder.relative_to(ROOT).parts[0] for folder in folders if folder != ROOT}
    beside = {path for top in (*tops, "web", "locales", "models", "example_workflows") for path in files_of(ROOT / top)}
    assert data == {ROOT / "py.typed", *beside} and ROOT / "clip_core" / "bpe_merges.txt.gz" in data


def files_of(folder: Path) -> set[Path]:
    """The files in a folder and those inside it that are neither Python's source nor what Python makes of it."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}


def test_the_readmes_test_command_is_the_one_that_ci_runs():
    commands = re.findall(r"```sh\n(python3 -m venv .*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(commands) == 2 and "headless/run.py" in commands[0]
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(
        tool in commands[1] for tool in ("/ruff check &&", "/ruff format --check &&", "/mypy &&", "/pytest -n auto")
    )


def test_nothing_of_the_project_names_a_place_on_a_machine():
    pattern = re.compile(r"(?<![\w.])/(work|root|home)/\w")
    texts = [p for s in ("*.py", "*.md", "*.json", "*.toml", "*.js", "*.txt") for p in ROOT.rglob(s)]
    skipped = {".venv", ".git", "output", "build", ".hypothesis"}
    for path in texts:
        if not skipped & set(path.relative_to(ROOT).parts) and path != Path(__file__).resolve():
            found = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_the_changelog_has_an_entry_for_the_version_and_one_for_what_comes_next():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_the_workflow_runs_the_readmes_command_on_every_system_and_every_python():
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    (command,) = re.findall(r"(python3 -m venv .*pytest -n auto)\n", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert "run: .ci/run\n" in workflow
    assert command.replace("python3", "python").replace(".venv/bin", ".venv/Scripts") in workflow
    assert "os: [ubuntu-latest, windows-latest, macos-latest]" in workflow
    assert 'python: ["3.10", "3.11", "3.12", "3.13"]' in workflow


def test_what_is_read_by_no_user_of_the_nodes_is_not_published():
    left_out = set((ROOT / ".comfyignore").read_text().splitlines())
    hidden = {
        "CONTRIBUTING.md",
        ".ci/",
        ".github/",
        ".editorconfig",
        ".gitattributes",
        ".gitignore",
        ".pre-commit-config.yaml",
    }
    assert hidden <= left_out and all((ROOT / name).exists() for name in hidden)


def test_the_formatter_before_a_commit_is_the_one_that_the_tests_run():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest, below = re.search(r'"ruff>=([\d.]+),<([\d.]+)"', project).groups()
    assert f"rev: v{lowest}\n" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert below.split(".")[0] == "0" and lowest.startswith(f"0.{int(below.split('.')[1]) - 1}.")
    assert re.search(r'"mypy>=[\d.]+,<[\d.]+"', project)


def test_a_tag_is_published_by_the_owner_of_the_repository_alone_and_after_the_tests():
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text(encoding="utf-8")
    owner = re.search(r'^Repository = "https://github.com/([\w-]+)/', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert f"if: github.repository_owner == '{owner}'" in workflow
    assert 'tags: ["v*.*.*"]' in workflow and "needs: tests" in workflow and "needs: version" in workflow


def test_an_issue_form_asks_for_the_report():
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "problem.yml").read_text(encoding="utf-8")
    (field,) = (part for part in form.split("\n  - type: ") if "id: report" in part)
    assert "JSON" in field and "render: json" in field and "required: true" in field


PUBLISHED = [p for p in sources() if p.relative_to(ROOT).parts[0] != "headless"]


@pytest.mark.parametrize("path", PUBLISHED, ids=[p.relative_to(ROOT).as_posix() for p in PUBLISHED])
def test_what_is_published_passes_the_registrys_scan(path):
    banned = {"subprocess", "socket", "urllib", "requests", "http", "aiohttp", "ctypes", "marshal"}
    for name, inside in imports(path):
        assert inside or name.split(".")[0] not in banned, f"{path.name} imports {name}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {
                ("os", "environ"),
                ("os", "system"),
                ("sys", "modules"),
                ("sys", "path"),
            }
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__", "compile"}, f"{path.name}:{node.lineno}"
