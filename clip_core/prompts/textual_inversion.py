"""Learned embeddings (textual inversion): the vectors in a file's tensors, by word and by encoder.

Layouts by name: the first textual inversion and A1111 (`string_to_param`), kohya (`emb_params`), OneTrainer
(`emp_params`, sic, `clip_l` ... and `bundle_emb` in a LoRA), SDXL pairs (`clip_l` and `clip_g`; cog-sdxl's
`text_encoders_0` and `_1`), diffusers (`<word>`), cloneofsimo (`<s1>` in a LoRA), a list of dicts, a bare tensor. A
tensor's name says which encoder it is for; if it does not, its width decides.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Answer = Tensor | str  # vectors [n, width] float32, or the reason for having none, a sentence
MAX_VECTORS = 4096  # 75 fit into a chunk; a larger tensor is the token table of an encoder
_MADE_FOR = {768: "SD1", 1024: "SD2", 1280: "SDXL's clip_g", 4096: "T5"}
_ENCODERS = {  # name in the file: key of the encoder
    "clip_l": "l",
    "clip_g": "g",
    "clip_h": "h",
    "t5": "t5xxl",
    "t5xxl": "t5xxl",
    "text_encoders_0": "l",
    "text_encoders_1": "g",
}
_ONE_WORD = ("emb_params", "emp_params", "tensor")  # the last is the name that files/ gives to a bare tensor
_BUNDLED = re.compile(r"bundle_emb\.(.+?)\.(string_to_param\.\*|\w+)")
_LISTED = re.compile(r"\d+(\..+)?")  # "0.name": an entry of a list
_OF_A_MODEL = re.compile(r"^lora_|^bundle_emb\.|[.:](weight|bias|alpha|up|down|mid|lora_\w+|lokr_\w+|hada_\w+)$")
_SHOWN = 5


class EmbeddingError(ValueError):
    """A file in which no learned embedding is known. One sentence."""


@dataclass(frozen=True)
class EmbeddingFile:
    """The vectors of a file by word ("" for one without a name) and by encoder key ("" for one without a key)."""

    words: Mapping[str, Mapping[str, tuple[Tensor, ...]]]  # each tensor [n, width] float32, side by side in the file
    unread: Mapping[str, str] = field(default_factory=dict)  # tensor: why it is not read
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Memory that the vectors take."""
        return sum(t.numel() * t.element_size() for found in self.words.values() for ts in found.values() for t in ts)

    def vectors(self, key: str, width: int, word: str | None = None) -> Answer:
        """The vectors for an encoder, or a sentence that says why there are none.

        `key` is the encoder's: "l", "g", "h" or another; `width` is its numbers per token. `word` chooses one of a file
        with several. -> [n, width] float32, shared: not to be changed in place
        """
        if word is None:
            if len(self.words) > 1 and "" not in self.words:
                return f"it holds {len(self.words)} words: put one of {_listed(self.words)} behind its name and a colon"
            word = "" if "" in self.words else next(iter(self.words))
        found = self.words.get(word)
        if found is None:
            return f"it has no word {_cut(word)}; it has {_listed(filter(None, self.words)) or 'one, without a name'}"
        mine = found.get(key, found.get("", ()))
        if not mine:
            return f"it has vectors for {_listed(map(_encoder, found))}, and none for {_encoder(key)}"
        fitting = [tensor for tensor in mine if tensor.shape[1] == width]
        if not fitting:
            return _misfit({tensor.shape[1] for tensor in mine}, key, width)
        return torch.cat(fitting) if len(fitting) > 1 else fitting[0]


@dataclass(frozen=True)
class EmbeddingSource:
    """The tensors of a file that are vectors, by their names and shapes alone."""

    names: Mapping[str, tuple[str, str]]  # of the tensors to read: word, encoder key
    unread: Mapping[str, str]
    notes: tuple[str, ...]

    def translate(self, tensors: Mapping[str, Tensor]) -> EmbeddingFile:
        """The vectors, from the tensors of `names`.

        Raises:
            EmbeddingError: none of them has fractional numbers.
        """
        words: dict[str, dict[str, tuple[Tensor, ...]]] = {}
        unread = dict(self.unread)
        for name, (word, key) in self.names.items():
            tensor = tensors[name]
            if not tensor.is_floating_point():
                unread[name] = f"vectors are fractional numbers, and these are {str(tensor.dtype).split('.')[-1]}"
                continue
            rows = tensor.detach().float().reshape(-1, tensor.shape[-1])
            by_key = words.setdefault(word, {})
            by_key[key] = (*by_key.get(key, ()), rows)
        if not words:
            raise EmbeddingError(_nothing(unread))
        return EmbeddingFile(words, unread, self.notes)


def find_embeddings(
    shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
) -> EmbeddingSource:
    """Find the learned embeddings in a file by its tensors' names and shapes and its header's texts.

    Raises:
        EmbeddingError: there are none.
    """
    named = {name: place for name in shapes if (place := _place(name, metadata or {})) is not None}
    of_a_model = named or any(map(_OF_A_MODEL.search, shapes))
    own = {} if of_a_model else {name: (name, "") for name in shapes}  # diffusers: the name may be any word
    names: dict[str, tuple[str, str]] = {}
    unread, added = {}, []
    for name, shape in shapes.items():
        place = named.get(name) or own.get(name)
        if name.startswith("string_to_token."):
            continue  # the word's id in the trainer's vocabulary, which means nothing in another
        if name.endswith("_out") and _place(name.removesuffix("_out"), {}) is not None:
            added.append(name)
        elif place is None:
            unread[name] = "not a learned word"
        elif fault := _fault(shape):
            unread[name] = fault
        else:
            names[name] = place
    if not names:
        raise EmbeddingError(_nothing(unread))
    notes = [f"its output vectors ({_listed(added)}) are not used: they are added behind the encoder"] if added else []
    return EmbeddingSource(names, unread, tuple(notes))


def _place(name: str, metadata: Mapping[str, str]) -> tuple[str, str] | None:
    """The word and the encoder's key in a tensor's name; None if no layout has such a name."""
    if name in _ENCODERS:
        return "", _ENCODERS[name]
    if name in _ONE_WORD or _LISTED.fullmatch(name):
        return "", ""
    if name.startswith("string_to_param."):
        return name.removeprefix("string_to_param."), ""
    if match := _BUNDLED.fullmatch(name):
        word, encoder = match.groups()
        if encoder == "string_to_param.*":
            return word, ""
        return (word, _ENCODERS[encoder]) if encoder in _ENCODERS else None
    if metadata.get(name) == "<embed>" or re.fullmatch(r"<[^<>]+>", name):
        return _bare(name), ""
    return None


def _bare(name: str) -> str:
    """A word without its angle brackets, which prompts cannot contain."""
    return name[1:-1] if re.fullmatch(r"<[^<>]+>", name) else name


def _fault(shape: tuple[int, ...]) -> str:
    if len(shape) not in (1, 2) or 0 in shape:
        return f"its shape is {list(shape)}; vectors are [numbers] or [vectors, numbers]"
    if len(shape) == 2 and shape[0] > MAX_VECTORS:
        return f"it has {shape[0]} vectors, and {MAX_VECTORS} are the limit: this seems to be an encoder's token table"
    return ""


def _misfit(widths: set[int], key: str, width: int) -> str:
    made = [
        f"{number} numbers" + (f" (made for {_MADE_FOR[number]})" if number in _MADE_FOR else "")
        for number in sorted(widths)
    ]
    return f"its vectors have {' or '.join(made)} and {_encoder(key)} wants {width}"


def _encoder(key: str) -> str:
    return f"clip_{key}" if key in ("l", "g", "h") else key or "one encoder"


def _nothing(unread: Mapping[str, str]) -> str:
    shown = "; ".join(f"{_cut(name)}: {why}" for name, why in list(unread.items())[:2])
    more = f" and {len(unread) - 2} more tensors" if len(unread) > 2 else ""
    return f"a textual inversion was expected, but it has no learned word ({shown or 'no tensor'}{more})"


def _listed(names: Iterable[str]) -> str:
    names = [_cut(name) for name in names]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _cut(name: str) -> str:
    return name if len(name) <= 60 else name[:57] + "..."
