"""The pictures of an index that are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...clip_core.features.search import duplicate_groups
from ...drawing.contact_sheet import blank_sheet, contact_sheet
from ..clip.precision import EXACT
from ..galleries import Card, card, with_gallery
from ..host import host
from ..reports import as_json, problem_shown, shown
from . import found, indexing
from .found import INDEX, MAX_SHEET_ROWS


class FindDuplicates:
    CATEGORY = "CVL/search"
    DESCRIPTION = (
        "Groups the pictures of an index that are nearly the same: copies at other sizes, crops, small changes. "
        "Nothing is deleted; the names are for you or for other nodes."
    )
    SEARCH_ALIASES = [
        "duplicate images",
        "find duplicates",
        "dupes",
        "clean up output",
        "near duplicates",
        "deduplicate",
        "similar pictures",
    ]
    RETURN_TYPES = ("IMAGE", "STRING", "STRING")
    RETURN_NAMES = ("sheet", "duplicates", "groups")
    OUTPUT_TOOLTIPS = (
        "A contact sheet, a row for each group.",
        "The names of all but the first of each group, one a line, as Load Image takes them.",
        "Every group with the names and their cosine to the first one, as JSON.",
    )
    FUNCTION = "group"
    OUTPUT_NODE = True  # queued alone it runs, and shows its groups

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "index": INDEX,
                "threshold": (
                    "FLOAT",
                    {
                        "default": 0.95,
                        "min": 0.5,
                        "max": 1.0,
                        "step": 0.005,
                        "tooltip": "How alike two pictures must be (cosine). 0.99: copies; 0.9: the same motif.",
                    },
                ),
            },
        }

    @classmethod
    def IS_CHANGED(cls, index: str | None = "", **_) -> str:
        return indexing.results_fingerprint(index)

    def group(self, index: str, threshold: float) -> dict:
        try:
            opened = found.open_named(index)
        except ValueError as error:  # said on the node, and nothing else of the workflow stops
            return problem_shown(str(error), outputs=3, report_at=2)
        groups = duplicate_groups(opened.blocks, threshold, dead=opened.dead, on_step=host.progress(1))
        named = [found.group_members(opened, group) for group in groups]
        rows = [
            (title, [found.small_cell(path, (path.name, f"{score:.3f}")) for path, _, score in group])
            for title, group in found.sheet_rows((f"{len(group)} x", group[:12]) for group in named)
        ]
        copies = [name for group in named for _, name, _ in group[1:]]
        summary = found.groups_line(len(named), len(copies), opened.rows, threshold)
        sheet = contact_sheet(rows) if rows else blank_sheet()
        notes = found.notes_of(opened)
        if opened.facts.precision != EXACT:
            notes.append(f"the index was made with precision {opened.facts.precision}: cosines are rounded by that")
        if len(named) > len(rows):
            notes.append(f"the sheet shows the {len(rows)} largest groups of {len(named)}")
        data = {
            "index": index,
            "threshold": threshold,
            "rows": opened.rows,
            "notes": notes,
            "groups": [[{"name": name, "score": round(score, 6)} for _, name, score in group] for group in named],
        }
        lines = [summary, *notes]
        lines += [f"{len(group)} alike: {', '.join(path.name for path, _, _ in group[:6])}" for group in named[:10]]
        answer = shown(lines, data, (sheet, "\n".join(copies), as_json(data)))
        return with_gallery(answer, _groups(named[:MAX_SHEET_ROWS])) if named else answer


def _groups(named: Sequence[Sequence[tuple[Path, str, float]]]) -> list[tuple[str, list[Card]]]:
    """The gallery: the pictures of each group, the one to keep first."""
    places = host.data_places()
    groups = []
    for group in named:
        cards: list[Card] = []
        for path, name, score in group[:12]:
            said = "the first" if not cards else f"{score:.1%} alike"
            cards += card(places.entry_of(path), name, key=name, label=path.name, score=said)
        groups.append((f"{len(group)} pictures", cards))
    return groups


NODES = {
    "CVL_FindDuplicates": (FindDuplicates, "Find Duplicates (CVL)"),
}
