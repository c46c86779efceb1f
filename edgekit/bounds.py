"""How much is read of a file that somebody else made: the bounds of every kind of file, in one place.

What is larger, deeper or packed more tightly is refused before a parser sees it. None of the bounds is near what real
files have: the largest tokenizers have about 35 MB, configurations a few kilobytes, recipes a page. What runs a model,
and for how long and in how much memory, is bounded in ``confinement.py``.
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

KIB, MIB, GIB = 1024, 1024**2, 1024**3

# Recipes, targets and pre-processing are written by hand; locks, costs and lists of labels by programs.
MAX_FILE_BYTES, MAX_LOCK_BYTES = 64 * KIB, MIB
MAX_CONFIG_BYTES, MAX_TOKENIZER_BYTES = 16 * MIB, 256 * MIB
MAX_MODULE_BYTES, MAX_MANIFEST_BYTES, MAX_PLAN_BYTES = MIB, 16 * MIB, 64 * MIB
MAX_REPORT_BYTES, MAX_SUMS_BYTES, MAX_LICENCE_BYTES = 64 * MIB, 16 * MIB, 256 * KIB
# protobuf reads no message above 2 GiB, and a flatbuffer's offsets are signed 32-bit integers.
MAX_GRAPH_BYTES = 2**31 - 1
# How often each byte of a flatbuffer may be in a list. A table can be in any number of lists, and a list in any number
# of tables, so that a file may hold as many as its square; those that converters write hold each once.
MOST_SHARED = 16
# Of all arrays of a data file together, unpacked.
MAX_ARRAYS_BYTES = 8 * GIB
# Tables in tables, lists in lists: edgekit's own files have 5 levels, Python's parsers end at about 1000.
MAX_NESTING = 64
# Sums and differences of such numbers are finite: the largest double is 1.8e308.
MAX_NUMBER = 1e300
# What a document may have in it once every alias stands for what it names.
MAX_YAML_NODES = 200_000
# A card says what its data or its model is in a page, and reads no more.
MAX_CARD_BYTES = MIB
# Deflate packs equal bytes by 1032:1, and text or weights by less than 20:1. Small files may be as empty as they like.
MAX_RATIO, RATIO_MATTERS_FROM_BYTES = 200, 4 * MIB
MAX_ENTRIES = 100_000

# Words of a vocabulary, by the largest of their numbers.
MAX_WORDS = 2**24
# Classes that a model tells apart: each has a name.
MAX_CLASSES = 2**20
# Numbers in an input or an output whose sizes a graph fixes: an image of 7680 x 4320 pixels has 99,532,800.
MAX_FIXED_NUMBERS = 2**27
# Bytes in the keys of a map of characters, once those that share their ends are spelled out: SentencePiece's own has
# 11,299 in its short keys.
MAX_CHARSMAP_PLACES = 2**17

# What numbers of a configuration may be at most, by their names: the deepest encoders that were ever published have
# 1000 layers (DeepNet, Wang et al. 2022), and the widest are of some ten thousands. Nor are lists of them longer.
# These are the names of what transformers builds, or goes through, one by one; ALBERT's groups are groups of layers.
MAX_SIZES = {
    re.compile(r"(^|_)(layers?|depths?|blocks?|stages?|levels?|heads?|repeats|networks|languages)$"): 1024,
    re.compile(r"^num_(hash_functions|hashes|query_pool|conv_pos_embeddings|chunks_before|chunks_after)$"): 1024,
    re.compile(r"^(attention_types|block_sizes|pretraining_tp)$"): 1024,
    re.compile(r"(^|_)(hidden_groups|group_num)$|^(depth|width)_coefficient$"): 64,
    re.compile(r"(^|_)experts$"): 2**14,
    re.compile(r"^(hidden|intermediate|embedding)_size$|^(dim|hidden_dim|d_model|d_ff|ffn_dim)$"): 2**20,
    re.compile(r"^(vocab_size|type_vocab_size)$"): MAX_WORDS,
    re.compile(r"^num_labels$"): MAX_CLASSES,
    re.compile(r"^(image_size|patch_size)$"): 2**16,
}
# Of a file that another one names: of one part, as file systems have it, and of all parts together.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024

# What stands between quotes, and comments of TOML: brackets in there nest nothing. What is never closed goes on to the
# end of where it may be closed, so that each sign is looked at once.
_QUOTED = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5})?'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
# Where a key can begin or end.
_AROUND_KEYS = re.compile(r"[\n=,\[\]{}]")
_OPENING, _CLOSING = "[{", "]}"
# The last are half of a pair, or a byte of a file's name that is not UTF-8.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def nesting(text: str) -> int:
    """How deep the lists and tables of TOML text are in each other; keys such as ``a.b.c`` count as well.

    It is looked at before a parser is let at the text, which takes the square of a key's parts. What was parsed is
    measured, too: ``check_depth``.
    """
    bare = _QUOTED.sub("", text)
    steps = (1 if sign in _OPENING else -1 for sign in bare if sign in _OPENING or sign in _CLOSING)
    dotted = max(part.count(".") for part in _AROUND_KEYS.split(bare))
    return max(max(accumulate(steps), default=0), dotted)


def load_json(content: bytes, most: int = MAX_NESTING) -> Any:
    """JSON of a file whose size was checked.

    Raises:
        ValueError: it is no JSON, no UTF-8, deeper than ``most``, or has a number of thousands of digits.
    """
    text = content.decode("utf-8")
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {most}") from None
    if len(content) <= MAX_FILE_BYTES:
        check_depth(found, most)
    return found


def check_depth(values: Any, most: int = MAX_NESTING) -> None:
    """Refuse tables and lists that are deeper in each other than real files are.

    Raises:
        ValueError: they are.
    """
    waiting = [(values, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, (dict, list)):
            if depth > most:
                raise ValueError(f"it is nested deeper than {most}")
            waiting += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]


def check_texts(values: Any) -> None:
    """Refuse tables and lists with texts in them that steer the terminal that they are printed on.

    Raises:
        ValueError: there is one; ends of lines and tabs are none.
    """
    for one in _parts(values):
        if isinstance(one, str) and control_characters(one.replace("\n", "").replace("\t", "").replace("\r", "")):
            raise ValueError(f"the text {one[:80]!r} has control characters")


def check_lines(values: Any) -> None:
    """Refuse tables and lists with texts of several lines, where each is to stand in a line of something else.

    Raises:
        ValueError: there is one.
    """
    for one in _parts(values):
        if isinstance(one, str) and len(one.splitlines()) > 1:
            raise ValueError(f"the text {one[:80]!r} has several lines")


def check_numbers(values: Any) -> None:
    """Refuse tables and lists with numbers that cannot be reckoned with.

    Raises:
        ValueError: there is a whole number that no register holds (Python takes any, and prints none of them), one that
            is not finite, or one beyond ``MAX_NUMBER``.
    """
    for one in _parts(values):
        if isinstance(one, int) and abs(one) >= 2**64:
            raise ValueError("it has a whole number of more than 64 bits")
        if isinstance(one, float) and not abs(one) <= MAX_NUMBER:
            raise ValueError(f"it has the number {one}; allowed: up to {MAX_NUMBER:g}")


def _parts(values: Any) -> Iterator[Any]:
    """What is in tables and lists that lie in each other: the keys as well."""
    waiting = [values]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple)):
            waiting += one
        else:
            yield one


def check_sizes(values: Any) -> None:
    """Refuse a configuration, or one in it, that asks for more than any model has.

    Raises:
        ValueError: it does.
    """
    for name, value in named_values(values):
        most = next((most for kind, most in MAX_SIZES.items() if kind.search(name)), None)
        if most is not None and _largest(value) > most:
            raise ValueError(f"{name} is larger than {most}, which no model has")


def named_values(values: Any) -> Iterator[tuple[str, Any]]:
    """What the tables in each other hold by its names, but for the names of classes, which may be any."""
    waiting = [values]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            named = [(str(name), value) for name, value in one.items() if name not in ("id2label", "label2id")]
            yield from named
            waiting += [value for _, value in named]
        elif isinstance(one, list):
            waiting += one


def _largest(value: Any) -> float:
    """The largest number in a value, or the length of a list where that is more; 0 for a text."""
    largest, waiting = 0.0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            largest = max(largest, len(one))
            waiting += one
        elif isinstance(one, (int, float)):
            largest = max(largest, one)
    return largest


def visible(text: str) -> str:
    """A text with its control characters spelled out; ends of lines and tabs stay."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in "\n\t" else repr(found[0])[1:-1], text)


def control_characters(name: str) -> str:
    """What a name has of characters that steer a terminal, turn the direction of a text or are none; mostly empty."""
    return "".join(_CONTROL.findall(name))


def inside(name: str) -> bool:
    """Whether a name is that of a file below the folder that names it: relative, without ``..``, on any system.

    Nor is it longer than a file's name can be, which a system answers with an error where it is only asked for it.
    """
    path = PurePosixPath(name)
    parts = name.replace("\\", "/").split("/")
    long = [len(part.encode("utf-8", "surrogatepass")) for part in (name, *parts)]
    fits = long[0] <= MAX_PATH_BYTES and max(long[1:]) <= MAX_NAME_BYTES
    below = not path.is_absolute() and ".." not in parts and ":" not in parts[0] and "\\" not in name
    return bool(name) and fits and below


def check_archive(file: Path) -> None:
    """Refuse a zip that would unpack to something else than it seems.

    Python's ``zipfile`` takes ``..`` out of names and lets two entries have one name, in silence; so such an archive is
    refused, and not cleaned.

    Raises:
        ValueError: it has an entry outside of itself, a link, two entries of one name, too many or too large ones, or
            ones that are packed more tightly than data is.
        zipfile.BadZipFile: it is no zip.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"it has {len(entries)} entries; allowed: {MAX_ENTRIES}")
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        if not inside(name) or control_characters(name):
            raise ValueError(f"its entry {name!r} would lie outside of it")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"its entry {name!r} is a link")
        if name.casefold() in seen:
            raise ValueError(f"it has two entries {name!r}, as far as capitals do not count")
        seen.add(name.casefold())
        if entry.flag_bits & 1:
            raise ValueError(f"its entry {name!r} is encrypted")
        if entry.file_size > max(RATIO_MATTERS_FROM_BYTES, MAX_RATIO * entry.compress_size):
            ratio = entry.file_size // max(entry.compress_size, 1)
            raise ValueError(
                f"its entry {name!r} is packed {ratio}:1, to {entry.file_size} bytes; allowed: {MAX_RATIO}:1"
            )
    total = sum(entry.file_size for entry in entries)
    if total > MAX_ARRAYS_BYTES:
        raise ValueError(f"it has more than {MAX_ARRAYS_BYTES} bytes unpacked")


def check_yaml(text: str) -> None:
    """Refuse YAML that becomes large by naming one part in another again and again.

    Raises:
        ValueError: it has more than ``MAX_YAML_NODES`` parts, names itself, is nested too deep, or is no YAML.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {})
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_NESTING}") from None


def _count(node: Any, known: dict[int, int]) -> int:
    """How many parts a node has once all aliases are spelled out."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("it contains itself")
        return known[id(node)]
    known[id(node)] = 0
    inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    total = 1 + sum(_count(part, known) for part in inner)
    if total > MAX_YAML_NODES:
        raise ValueError(f"it has more than {MAX_YAML_NODES} parts once its aliases are spelled out")
    known[id(node)] = total
    return total
