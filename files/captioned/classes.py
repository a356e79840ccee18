"""A folder whose folders are classes: `cats/` holds pictures of cats. Underscores in a name are blanks."""

from pathlib import Path

from ..errors import FileFormatError
from .folder import natural_files
from .pairs import KINDS, Pair, Pairs


def class_folders(folder: Path) -> Pairs:
    """Label the pictures of a folder by the folder, directly below it, that they lie in.

    Raises:
        FileFormatError: there is no such folder, or none of its folders has a picture.
    """
    pairs, unused = [], {}
    for path in natural_files(folder):
        name = path.relative_to(folder).as_posix()
        first, found, _ = name.partition("/")
        if path.suffix.lower() not in KINDS:
            unused[name] = "no picture"
        elif not found:
            unused[name] = "it lies in no class's folder"
        else:
            pairs.append(Pair(name, path, label=class_name(first)))
    if not pairs:
        raise FileFormatError(
            folder, "a folder for each class with pictures in it was expected, and there is none: choose another"
        )
    return Pairs(tuple(pairs), unused)


def class_name(folder: str) -> str:
    """The words of a folder's name.

    >>> class_name("golden_retriever")
    'golden retriever'
    """
    return " ".join(folder.replace("_", " ").split())
