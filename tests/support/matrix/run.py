"""The matrix from a shell, in the checkout: `python -m tests.support.matrix.run COMFYUI [--family NAME ...]`.

Prints a line for each pair that is worse than the stock loader or has other values, and the counts by family.
"""

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import dialects, families, models, pairs, table, texts

ROOT = Path(__file__).resolve().parents[3]


def begin(comfyui: str) -> None:
    """Makes ComfyUI importable before the checkout, whose folders have the same names, and binds the pack's name."""
    sys.path[:] = [comfyui, *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT), str(ROOT)]
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
    checkout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkout)
    checkout.bind()


def of_family(family: families.Family, folder: Path) -> list[pairs.Pair]:
    """Every pair of a family: the host's names and diffusers' names in every dialect."""
    patcher = models.model(family)
    if patcher is None:
        return []
    sources = {"host": models.own_modules(patcher)}
    if family.diffusers and (twin := models.diffusers_shapes().get(family.name)):
        sources["diffusers"] = models.modules_of(twin)
    found = []
    for source, modules in sources.items():
        for dialect in dialects.MODEL_DIALECTS:
            tensors, _ = dialects.written(modules, dialect)
            names = (family.name, source, dialect.name)
            found.append(pairs.compared(names, patcher, dialect.kind, tensors, folder))
    return found


def of_text_family(family: texts.TextFamily, folder: Path) -> list[pairs.Pair]:
    """Every pair of a text encoder: each of its parts in every dialect."""
    made = texts.clip(family)
    found = []
    for part, dialect, modules in texts.files_of(made) if made else ():
        tensors, _ = dialects.written(modules, dialect)
        names = (f"TE {family.name}", part, dialect.name)
        found.append(pairs.compared(names, made, dialect.kind, tensors, folder))
    return found


def say(line: str) -> None:
    """Writes a line at once, for the whole takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comfyui")
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--table", type=Path)
    parser.add_argument("--all", action="store_true", help="a line for every pair")
    wanted = parser.parse_args()
    begin(wanted.comfyui)
    found: list[pairs.Pair] = []
    with tempfile.TemporaryDirectory() as folder:
        for family in (*families.FAMILIES, *texts.TEXT_FAMILIES):
            of_model = isinstance(family, families.Family)
            if wanted.family and (family.name if of_model else f"TE {family.name}") not in wanted.family:
                continue
            started = time.perf_counter()
            try:
                of_this = (of_family if of_model else of_text_family)(family, Path(folder))
            except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, AssertionError) as error:
                say(f"{family.name}: NOT BUILT: {type(error).__name__}: {error}")
                continue
            found += of_this
            counts = Counter(pair.verdict for pair in of_this)
            say(f"{family.name}: {dict(counts)} in {time.perf_counter() - started:.1f} s")
            for pair in of_this:
                if wanted.all or pair.verdict in ("worse", "values"):
                    say(f"    {table.line(pair)}")
    say(table.summary(found))
    if wanted.table:
        wanted.table.write_text(table.text(found))


if __name__ == "__main__":
    main()
