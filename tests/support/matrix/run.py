"""The matrix from a shell, in the checkout: `python -m tests.support.matrix.run COMFYUI [--family NAME ...]`.

Prints a line for each pair that is worse than the stock loader or has other values, and the counts by family.
"""

import argparse
import importlib
import importlib.util
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import crossing, families, models, page, pairs, table, texts, whole

ROOT = Path(__file__).resolve().parents[3]


def begin(comfyui: str):
    """Makes ComfyUI importable before the checkout, whose folders have the same names; returns our application."""
    sys.path[:] = [comfyui, *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT), str(ROOT)]
    sys.argv = [sys.argv[0], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import utils.extra_config  # noqa: F401  before `nodes`, which puts comfy/ on sys.path, where another `utils` lies

    spec = importlib.util.spec_from_file_location("_cvl_checkout", ROOT / "headless" / "checkout.py")
    checkout = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checkout)
    checkout.bind()
    return importlib.import_module("clip_vae_lora.nodes.lora.application")


def say(line: str) -> None:
    """Writes a line at once, for the whole takes minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def cross(application, names: list[str]) -> None:
    """Says which files go in part, or whole, onto a model of another family."""
    built = {family.name: (family, patcher) for family in families.FAMILIES if (patcher := models.model(family))}
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names or built:
            for one in crossing.crossings(application, built, name, Path(folder)):
                count += one.in_part
                if one.applied:
                    part = "IN PART" if one.in_part else "whole"
                    say(f"{part:8} {one.made_for} ({one.source}) on {one.model}: {one.applied} of {one.of}")
    say(f"{count} crossings in part")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("comfyui")
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--table", type=Path)
    parser.add_argument("--all", action="store_true", help="a line for every pair")
    parser.add_argument("--crossing", action="store_true", help="files of every family on the models of all others")
    parser.add_argument("--page", action="store_true", help="write the table into the help page; of all families")
    wanted = parser.parse_args()
    application = begin(wanted.comfyui)
    logging.disable(logging.ERROR)  # ComfyUI names every key without a place, and shapes that do not fit
    if wanted.crossing:
        return cross(application, wanted.family)
    found: list[pairs.Pair] = []
    with tempfile.TemporaryDirectory() as folder:
        for family in (*families.FAMILIES, *texts.TEXT_FAMILIES):
            of_model = isinstance(family, families.Family)
            label = family.name if of_model else f"TE {family.name}"
            if wanted.family and label not in wanted.family:
                continue
            started = time.perf_counter()
            try:
                of_this = (whole.of_family if of_model else whole.of_text_family)(application, family, Path(folder))
            except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, AssertionError) as error:
                say(f"{label}: NOT BUILT: {type(error).__name__}: {error}")
                continue
            found += of_this
            counts = Counter(pair.verdict for pair in of_this)
            say(f"{label}: {dict(counts)} in {time.perf_counter() - started:.1f} s")
            for pair in of_this:
                if wanted.all or pair.verdict in ("worse", "values"):
                    say(f"    {table.line(pair)}")
    say(table.summary(found))
    if wanted.table:
        wanted.table.write_text(table.text(found))
    if wanted.page:
        page.write(found, importlib.import_module("comfyui_version").__version__)


if __name__ == "__main__":
    main()
