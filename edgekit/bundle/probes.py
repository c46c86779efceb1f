"""Raw inputs that show a port that is wrong: texts of many scripts and odd characters, images of odd sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# ruff: noqa: RUF001  # characters that look like others are what these texts are for
# Sentences that everyday text is like, the first of them kept as samples in a self-test.
SENTENCES = (
    "A quiet, moving film that stays with you long after the credits.",
    "Two hours too long, and nobody in it seems to care!",
    "Café déjà vu: naïve façade, coöperate, Ünïcödé, ǅ, ﬁne.",
    "Größe, Straße, Fußgänger - und das für 3,50 €?",
    "我喜欢这部电影，但是结尾太长了。",
    "この映画は面白くなかったです。カタカナﾊﾝｶｸ",
    "이 영화는 정말 재미있었어요!",
    "Это был лучший фильм года, ёлки-палки.",
    "Ένα υπέροχο φιλμ, ΣΊΣΥΦΟΣ σίσυφος.",
    "هذا الفيلم جميل جدًّا ولكنه طويل.",
    "הסרט הזה היה נהדר, שָׁלוֹם.",
    "यह फ़िल्म बहुत अच्छी थी।",
    "ภาพยนตร์เรื่องนี้ดีมาก น้ำ",
    "Bộ phim này rất hay, nhưng hơi dài.",
    "İstanbul'da IŞIK ılık, DİYARBAKIR.",
    "So good 😀👍🏽 family 👨‍👩‍👧‍👦 flag 🇩🇪 heart ❤️ keycap 1️⃣",
    "e\u0301 e\u0323\u0302 q\u0307\u0323 a\u0308\u0300 \u1e9b\u0323 \u212b \u2126 ½ ² Ⅷ ㍻",
    "tab\there\nnew line\r\nnull\x00 bell\x07 del\x7f nbsp\u00a0zwsp\u200bbom\ufeffsoft\u00adhyphen",
    "I'm you've it's they'll we'd don't I'M 'S ''s rock'n'roll",
    "x=1; y[0]+=2**3 // a_b-c.d@e.f #tag 100% (ok) <b>&amp;</b> ~`^|\\",
    "1234567890 3.14159 1,000,000 ١٢٣ 一二三 ¾ ⅔ 10⁻³",
    "  leading, trailing and      many  spaces   ",
    "",
    " ",
    "\t\n",
    "[CLS] special [SEP] tokens [MASK] <s></s> <pad> <unk> <|endoftext|> [UNK]x",
    "Pneumonoultramicroscopicsilicovolcanoconiosis" * 5,
    "a" * 101,
    "\u0301leading mark, \ud7a3 \uac00\u11a8 \u1100\u1161 \U00020000 \U0001d400 \U000e0041 \uffff",
)
FIRST = 12  # of the sentences, those that a self-test keeps
_BLOCKS = (
    (0x00, 0x80), (0x80, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x700), (0x900, 0xE00), (0xE00, 0x1200),
    (0x1E00, 0x2000), (0x2000, 0x2400), (0x2460, 0x2800), (0x3000, 0x3400), (0x4E00, 0x9FFF), (0xA000, 0xD7A4),
    (0xF900, 0xFFFF), (0x10000, 0x11000), (0x1D400, 0x1D800), (0x1F300, 0x1FB00), (0x20000, 0x20100), (0x0300, 0x0370),
)  # fmt: skip


def texts(count: int) -> list[str]:
    """So many texts: the sentences, then words drawn from blocks of Unicode with a fixed seed; a few are very long."""
    import numpy as np

    random = np.random.default_rng(8)
    found = list(SENTENCES[:count])
    while len(found) < count:
        length = 4000 if len(found) % 100 == 99 else int(random.integers(1, 60))
        blocks = [_BLOCKS[index] for index in random.integers(0, len(_BLOCKS), 3)]
        drawn = [chr(random.integers(*blocks[index])) for index in random.integers(0, 3, length)]
        spaced = [one if draw > 0.15 else " " for one, draw in zip(drawn, random.random(length), strict=True)]
        found.append("".join(spaced))
    return found


def text_pairs(count: int = 120) -> Iterator[tuple[str, str | None]]:
    """Texts, and some of them in pairs."""
    drawn = texts(count)
    yield from ((text, None) for text in drawn)
    yield from pairwise(drawn[:41])


def images(channels: int, height: int, width: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Images [height, width, channels] around a size: the size itself, larger, smaller, wide, tall, and odd.

    Args:
        channels: 3 or 1.
        height: what the model takes, in pixels.
        width: the same.
    """
    import numpy as np

    random = np.random.default_rng(8)
    sizes = [(1, 1), (2.13, 1.4), (1.37, 2.61), (0.6, 0.7), (1.9, 0.8), (0.5, 2.2), (3.1, 3.3), (1.01, 0.99)]
    for number, (tall, wide) in enumerate(sizes):
        shape = max(1, round(height * tall)), max(1, round(width * wide))
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        waves = [128 + 100 * np.sin((rows * (c + 1) + columns * (number + 2)) / (5 + 3 * c)) for c in range(channels)]
        noise = random.integers(-27, 28, (*shape, channels))
        yield np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
