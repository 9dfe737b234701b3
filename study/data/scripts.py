"""Groups of scripts that BERT's rules for words do not fit, as regular expressions of one of their characters."""
from __future__ import annotations

import re
import unicodedata

BRAHMIC = "\u0900-\u0dff\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"     # of India, Thai, Lao, Tibetan, Burmese, Khmer
KANA = "\u3040-\u30ff"
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Without spaces between words.
SPACELESS = re.compile(f"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff{KANA}{HAN}]")
# With marks that tell words apart: vowel signs, tones, and those of voiced kana, which NFD takes off their letters.
WITH_MARKS = re.compile(f"[{BRAHMIC}{KANA}]")


def marks_lost(text: str) -> int:
    """Returns how many marks of the scripts in WITH_MARKS a text has that BERT's rule for accents removes: those of the
    Unicode category Mn, after NFD."""
    letters = "".join(WITH_MARKS.findall(text))
    return sum(unicodedata.category(character) == "Mn" for character in unicodedata.normalize("NFD", letters))
