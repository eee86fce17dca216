"""Texts on which two tokenizers are compared: every character there is between others, and strings drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import chain

PHRASES = (
    'def f(x: int) -> str:\n\treturn f"{x!r:>8}"  # 0x1F, 1_000.5e-3\n\n\nclass A(B): ...\r\n',
    '<p class="a">x &amp; y</p>\n{"k": [1, -2.0, null]}\n#include <stdio.h>\nint main(void){for(;;);}',
    "I'm you're he's we've they'll I'd can't O'Neill'S IT'S I'LL WE'RE DON'T 'Tis ’tis it’s 'ſ 'lla",
    "CamelCase snake_case SCREAMING mixedUPPERlower iPhone McDonald ÀÉÎ straße ǅ ǈungla ﬁnal İstanbul",
    "0 12 123 1234 12345678 3.14 1,000,000 ½ ² Ⅻ ٣٤٥ १२३ １２３ 𝟙𝟚𝟛𝟜",
    "人工智能是研究智能的科学。中文English混排123字，「引号」……\n東京都は日本の首都です。カタカナとひらがな々〆ー\n",
    "한국어 문장입니다. 가나다라 ᄒᆞᆫ글 한자漢字혼용",
    "العربية مكتوبة من اليمين، السَّلامُ عَلَيْكُمْ ٢٠٢٤ — עברית עִם נִקּוּד",
    "हिन्दी में लिखा क्षत्रिय श्री १२ — বাংলা தமிழ் తెలుగు ಕನ್ನಡ മലയാളം සිංහල ไทยไม่มีวรรค ລາວ မြန်မာ ខ្មែរ བོད",
    "Ελληνικά Русский Ђорђе Հայերեն ქართული ᏣᎳᎩ አማርኛ ᠮᠣᠩᠭᠣᠯ Tiếng Việt Ý đỗ ịỗ",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪🇨🇳 ❤️ ☺︎ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✈️a👨‍💻b 1️⃣",
    "e\u0301 n\u0303 Z\u0335\u0321a\u0301\u0302\u0303 \u0301 \u0301a 漢\u0301字 1\u0301 \u200d\u0301 a\u200db a\u00adb",
    " lead  two   three\ttab \t mix trail ",
    "a\r\nb\n\r\nc\r\rd\n \n  \n\t\n e\u2028f\u2029g\x0bh\x0ci\x85j\u00a0k\u1680l\u2003m\u202fn\u3000o\u180ep\ufeffq\u200br",
    "\x00 \x01\x02\x07\x08\x1b[0m\x7f\x80\x9f\x00\x00a\x00",
    "!!! ?!\n\n--- ... ///\r\n $5 +1 #a @b (c) [d] {e} \\n | ^ ~ ` § € ∑ ∞ ← ■ ﷽ \ufffd \uffff \U0010ffff",
    "<|im_end|> [BOS] <|im_user|>user<|im_middle|> <|reserved_token_163600|> </s> [EOS]",
)
# All of Unicode with scripts and signs in it; of private and unassigned characters, and of the ideographs beyond the basic
# plane, which the pattern treats alike, the first and last.
_BLOCKS = (
    *(range(0xD800), range(0xE000, 0xE010), range(0xF8F0, 0x20010), range(0x2A6D0, 0x2A710), range(0x2F7F0, 0x30010)),
    *(range(0x323A0, 0x323C0), range(0x33470, 0x33490), range(0xE0000, 0xE0200), range(0x10FFF0, 0x110000)),
)
_COMMON = "aeinstZQÀſǅʰª'’  \t\n\r\u00a0\u3000.,-_#0123٣½漢字中のㄱ한का\u0301\u094d\u200d👍🏽\x00\x85éß"
_RANDOM_TEXTS = 20_000


def probe_texts(tokens: Iterable[bytes]) -> Iterator[str]:
    """Phrases of many scripts, every character, drawn strings, and the text of every token whose bytes are UTF-8."""
    yield from PHRASES
    yield from _every_character()
    yield from _drawn(random.Random(0))
    for token in tokens:
        try:
            yield token.decode()
        except UnicodeDecodeError:
            continue


def _every_character() -> Iterator[str]:
    """Each character beside letters of both cases, a space, a digit, itself, a line's end, an ideograph and a contraction."""
    for char in map(chr, chain(*_BLOCKS)):
        yield f"a{char}B {char}1{char}{char}\n漢{char}'s"


def _drawn(generator: random.Random) -> Iterator[str]:
    for _ in range(_RANDOM_TEXTS):
        yield "".join(_drawn_character(generator) for _ in range(generator.randint(1, 24)))


def _drawn_character(generator: random.Random) -> str:
    return generator.choice(_COMMON) if generator.random() < 0.8 else chr(generator.choice(generator.choice(_BLOCKS)))
