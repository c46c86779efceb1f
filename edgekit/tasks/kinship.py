"""Rows of texts that repeat what others say: phrases of one sentence, questions on one passage, copies.

A split that is cut at random from such rows is answered from memory, and students that were trained on the rest all
seem to be equally good. Of SST-2's 67,349 training texts, which are phrases of a tenth as many sentences, 5,932 are kin
of a random thousand. Elangovan, He and Verspoor 2021 (Memorization vs. Generalization, EACL) measured how far this
moves published figures.

Two rows are kin by their containment (Broder 1997, On the resemblance and containment of documents): the share of the
shorter one's runs of words that the other has, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

# Words in a run: fewer are shared by chance. A shorter row is one run.
RUN = 3
# The share of the shorter one's runs that makes two rows kin.
CONTAINED = 0.5
# A run that more rows have is a turn of phrase, or a pattern that all follow: it tells nothing of two of them.
COMMON = 200

Run = tuple[str, ...]


def runs_of(texts: Iterable[str]) -> set[Run]:
    """The runs of words of a row, whatever their case; words are what white space parts.

    Args:
        texts: of the row, one a column.
    """
    rows = [text.lower().split() for text in texts]
    return {tuple(words[at : at + RUN]) for words in rows for at in range(max(1, len(words) - RUN + 1))}


def kin_of(rows: Sequence[Sequence[str]], held: Sequence[int]) -> dict[int, set[int]]:
    """Of each row that is held back, the others that are its kin.

    Args:
        rows: the texts of each, one a column.
        held: numbers of those that are held back.
    """
    having: dict[Run, list[int]] = {run: [] for one in held for run in runs_of(rows[one])}
    lengths = []
    for number, texts in enumerate(rows):
        runs = runs_of(texts)
        lengths.append(len(runs))
        for run in runs & having.keys():
            having[run].append(number)
    found = {}
    for one in held:
        lists = [having[run] for run in runs_of(rows[one])]
        shared = Counter(number for numbers in lists if len(numbers) <= COMMON for number in numbers)
        kin = {other for other, both in shared.items() if both >= CONTAINED * min(lengths[one], lengths[other])}
        found[one] = kin - {one}
    return found


def left_out(rows: Sequence[Sequence[str]], held: Sequence[int], most: int) -> set[int]:
    """Rows that are kin of one held back, those with the fewest kin first, until no more may be left out.

    Args:
        rows: the texts of each, one a column.
        held: numbers of those that are held back.
        most: how many may be left out.
    """
    kept, found = set(held), set[int]()
    for kin in sorted((kin - kept for kin in kin_of(rows, held).values()), key=len):
        if len(found | kin) > most:
            break
        found |= kin
    return found
