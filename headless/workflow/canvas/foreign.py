"""Workflows of other programs, named."""

from __future__ import annotations

from collections.abc import Mapping

from ..graph import WorkflowError

_SAMPLING = ("cfg_scale", "sampler_name", "sampler_index", "steps")
_PARAMETERS = ("Steps:", "Sampler:", "CFG scale:")


def refuse_foreign(document: Mapping) -> None:
    """Nothing where the document is ComfyUI's.

    Raises:
        WorkflowError: InvokeAI, A1111 or n8n made it.
    """
    if isinstance(document.get("prompt"), str) and any(name in document for name in _SAMPLING):
        raise WorkflowError(
            "these are generation parameters as A1111 and Forge take them (a prompt and its settings), not a workflow; "
            "expected what ComfyUI's canvas saves, or its export in API format"
        )
    if "sui_image_params" in document:
        raise WorkflowError("these are SwarmUI's parameters of a picture, not a workflow of ComfyUI")
    if isinstance(document.get("positive_prompt"), str):
        raise WorkflowError(
            "this is what InvokeAI notes on a picture (its prompt and settings), not a workflow; expected what "
            "ComfyUI's canvas saves, or its export in API format"
        )
    nodes = document.get("nodes")
    first = next((node for node in nodes if isinstance(node, Mapping)), {}) if isinstance(nodes, list) else {}
    if isinstance(document.get("edges"), list) and (isinstance(first.get("data"), Mapping) or not nodes):
        raise WorkflowError(
            "this is a workflow of InvokeAI (nodes with edges), which ComfyUI does not run; build it on its canvas"
        )
    if isinstance(document.get("connections"), Mapping) and "typeVersion" in first:
        raise WorkflowError("this is a workflow of n8n, which is another kind of program; expected one of ComfyUI")


def foreign_picture(texts: Mapping[str, str]) -> str | None:
    """Which other program wrote these texts into a picture, as a sentence; None where none of the known ones did."""
    if any(name.startswith(("invokeai", "sd-metadata", "dream", "Dream")) for name in texts):
        return "the picture is InvokeAI's, whose workflows ComfyUI does not run"
    text = texts.get("parameters", "")
    if "sui_image_params" in text:
        return "the picture is SwarmUI's and holds its parameters, not a workflow of ComfyUI"
    if any(word in text for word in _PARAMETERS):
        return "the picture holds generation parameters as A1111 and Forge write them, not a workflow of ComfyUI"
    if "Comment" in texts and "NovelAI" in texts.get("Software", ""):
        return "the picture is NovelAI's and holds its parameters, not a workflow of ComfyUI"
    return None
