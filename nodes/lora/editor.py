"""The answers to the list editor in the canvas: the menu, the meaning of each line, and the facts of a file's header.

Nothing here needs a model or changes anything; a file is named by an entry of the menu, never by a path.
"""

from __future__ import annotations

from collections.abc import Callable

from ...files.errors import FileFormatError
from ...lora.formats import list_text
from ...lora.formats.header import clean
from .. import catalog
from . import beside

_MOST_HINTS = 5  # the lines with an unknown name that get the nearest names: 0.1 s each with 5,000 names
_MOST_WORDS = 100


def check(question: object) -> dict:
    """The answer to {"text": the list, "menu": true}, either of which may be left out.

    `lines` holds the number of each line with the `file` of the menu that it means, or its `problem`; `menu` the menu.

    Raises:
        ValueError: the question has another form.
    """
    if not isinstance(question, dict) or not isinstance(question.get("text", ""), str):
        raise ValueError('a JSON object with the list as "text" was expected; send {"text": "style : 0.8"}')
    if not isinstance(question.get("menu", False), bool):
        raise ValueError(f"menu was expected to be true or false, but {question['menu']!r:.60} came")
    menu = catalog.choices("lora")
    answer: dict = {"lines": _check_lines(question["text"], menu)} if "text" in question else {}
    return answer | ({"menu": menu} if question.get("menu") else {})


def _check_lines(text: str, menu: list[str]) -> list[dict]:
    """Each line's file of the menu, or its problem."""
    found, unknown = [], 0
    for line in list_text.parse_each(text):
        try:
            if isinstance(line, list_text.ListError):
                raise line
            found.append({"number": line.number, "file": list_text.choice(line, menu, nearest=unknown < _MOST_HINTS)})
        except list_text.ListError as error:
            unknown += 1
            found.append({"number": error.number, "problem": error.sentence})
    return found


def header(question: object) -> dict:
    """The answer to {"name": an entry of the menu}: title, base model, and words to write into a prompt.

    `family` is the family of models that the names of its modules tell, empty where they tell none. `preview` is the
    mark of its preview, empty where it has none; `trigger_words` are those that the file or a note
    beside it names, `tags` the commonest of its training, `text` a description beside it. All are their authors' own
    words, cut and cleaned. A file that cannot be read is answered with {"error": a sentence}.

    Raises:
        ValueError: the question has another form, or the name is not in the menu.
    """
    name = _name(question.get("name") if isinstance(question, dict) else None)
    path = catalog.path("lora", name)
    try:
        family = beside.family_of(path)
        known, picture = beside.known_of(path, *beside.header_of(path)), beside.preview(path)
    except (FileFormatError, OSError) as error:
        return {"name": name, "error": clean(str(error))}
    return {
        "name": name,
        "title": known.title,
        "base_model": known.base_model,
        "family": family,
        "trigger_words": list(known.words[:_MOST_WORDS]),
        "tags": [tag for tag in known.tags if tag not in known.words],
        "text": known.text,
        "preview": picture[0] if picture else "",
    }


def preview(name: object) -> tuple[str, Callable[[], bytes]] | None:
    """The mark of a LoRA's preview, and what makes it; None where there is none.

    Raises:
        ValueError: the name is not in the menu.
    """
    try:
        return beside.preview(catalog.path("lora", _name(name)))
    except OSError:
        return None


def _name(name: object) -> str:
    if not isinstance(name, str) or name not in catalog.choices("lora"):
        raise ValueError(
            f"the name of a LoRA in the menu was expected, but {name!r:.60} came; the menu may have changed: reload it"
        )
    return name
