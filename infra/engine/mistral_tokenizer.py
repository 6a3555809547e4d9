"""Which tokenizer does SGLang read the text of Mistral Small 3 and 3.1 with?

The one of the `tokenizer.json` that Mistral AI published: built here, byte for byte the same once written down, from the vocabulary
in mistral-common's wheel.  Of that package only this file is read: to import it takes 50 MB, and its own encoding is not what the
engine does, since the published file cuts text by Llama 3's pattern rather than by Tekken's (`docs/decisions/0010`).
Refuses a file that holds too few pieces.  Takes a second of CPU: load it once, before it is waited for.
"""

import ctypes
import re
from base64 import b64decode
from functools import cache
from importlib.util import find_spec
from mmap import ACCESS_READ, mmap
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

VOCABULARY = "tekken_240911.json"
"""In the wheel's `data`; 2501's `tekken.json` but for the version it states and a section on images."""

_CONTROLS = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
]
_RESERVED = 1000  # ids before the pieces; those past the named ones are <SPECIAL_20> to <SPECIAL_999>
_PIECES = 131_072 - _RESERVED  # the file has 150,000: the model was given the first
_BYTES = 256  # the first pieces: what no pair is merged into

_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PIECE = re.compile(rb'"token_bytes": "([A-Za-z0-9+/=]+)"')


@cache
def tekken() -> Tokenizer:
    """Safe to share between threads."""
    tokenizer = Tokenizer(_model())
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _controls()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA_3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", _CONTROLS.index("<s>"))]
    )
    _give_back()
    return tokenizer


def _model() -> BPE:
    pieces = _pieces(_vocabulary())
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges = [merge for piece in pieces[_BYTES:] for merge in _merges(piece, pieces, ranks)]
    ids = {name: number for number, name in enumerate([*_controls(), *pieces])}
    return BPE(ids, merges, fuse_unk=False, ignore_merges=True)


def _controls() -> list[str]:
    return [*_CONTROLS, *(f"<SPECIAL_{number}>" for number in range(len(_CONTROLS), _RESERVED))]


def _vocabulary() -> Path:
    """Where the wheel was unpacked; nothing of it is imported."""
    found = find_spec("mistral_common")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("mistral-common is not installed")
    return Path(found.submodule_search_locations[0]) / "data" / VOCABULARY


def _pieces(file: Path) -> list[str]:
    """In order of rank, a character a byte.  Not parsed: as objects, 19 MB of JSON take 110."""
    with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as text:
        found = (match[1] for match, _ in zip(_PIECE.finditer(text), range(_PIECES), strict=False))
        letters = _letters()
        pieces = [b64decode(piece).decode("latin-1").translate(letters) for piece in found]
    if len(pieces) < _PIECES:
        raise ValueError(f"{file} holds {len(pieces)} pieces of a vocabulary of {_PIECES}")
    return pieces


def _letters() -> dict[int, str]:
    """The visible character that byte-level BPE writes for each byte: itself, or one from 256 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(_BYTES) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(_BYTES + n) for n, byte in enumerate(hidden)}


def _merges(piece: str, pieces: list[str], ranks: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs that make the piece, in the order in which the published file lists them."""
    halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
    known = sorted((ranks[left], ranks[right]) for left, right in halves if left in ranks and right in ranks)
    return [(pieces[left], pieces[right]) for left, right in known]


def _give_back() -> None:
    """What building took goes back to the system at once: 50 MB, of the 200 that a process of the API may have."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
    if trim is not None:
        trim(ctypes.c_size_t(0))
