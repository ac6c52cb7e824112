"""Which words are known, and which unknown word is one letter away from one of them."""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterable
from typing import Any

SHORTEST = 6  # short words have too many neighbors
ENDINGS = ("s", "es", "d", "ed", "ing", "er", "ers", "ly")
VOWELS, LETTERS = "aeiou", string.ascii_lowercase


def known_words(texts: Iterable[str], tokenizer: Any = None) -> frozenset[str]:
    """Words that are taken to be spelled right: those of `texts`, and the whole words in a tokenizer's vocabulary.

    A common word is one token of a large vocabulary, and a misspelling hardly ever is: a spelling list that every model
    brings along. It knows few rare words, and the texts should be free of typos.
    """
    found = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}
    if tokenizer is not None:
        for token in tokenizer.get_vocab():
            if (
                token[:1] in ("\u0120", "\u2581") and token[1:].isascii() and token[1:].isalpha()
            ):  # a blank, then a word
                found.add(token[1:].lower())
    return frozenset(found)


def one_edit_away(word: str, known: Collection[str]) -> str | None:
    """The known word that `word` was probably meant to be; None when it is known itself or too far from all.

    One letter left out, put in or swapped with its neighbor; in words of eight letters or more also one vowel for another.
    The first letter and the last two stay: there, other words differ ("model", "models", "modes"), not misspellings. An
    inflected form of a known word is known.
    """
    if len(word) < SHORTEST or is_known(word, known):
        return None
    for other in sorted(edit for edit in _edits(word) if edit in known):
        if len(other) >= SHORTEST and other[0] == word[0] and other[-2:] == word[-2:]:
            return other
    return None


def is_known(word: str, known: Collection[str]) -> bool:
    """True for a known word and for one with an English ending: "pivots", "halving" and "slapping" follow from the verbs."""
    if word in known:
        return True
    for ending in ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 4:
            undoubled = stem[:-1] if stem[-1] == stem[-2] else stem
            if any(form in known for form in (stem, stem + "e", undoubled)):
                return True
    return False


def _edits(word: str) -> set[str]:
    """Strings one edit away (Norvig 2007, "How to write a spelling corrector", with fewer substitutions)."""
    cuts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    changed = {a + c + b[1:] for a, b in cuts if b[:1] and b[0] in VOWELS for c in VOWELS} if len(word) >= 8 else set()
    return {a + b[1:] for a, b in cuts if b} | swapped | changed | {a + c + b for a, b in cuts for c in LETTERS}
