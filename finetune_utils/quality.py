"""How good a set of texts is, measured: variety, lengths, openings, near-duplicates, personal data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import quantiles

from .errors import UserError


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, punctuation left out; `don't` is one word."""
    return re.findall(r"\w+(?:['’]\w+)*", text.lower())


def distinct_ngrams(texts: Iterable[str], n: int = 2) -> float:
    """Share of word n-grams that are distinct: 1.0 means that none occurs twice.

    Longer sets repeat more by chance alone: compare sets of equal size only.

    Raises:
        UserError: no text has `n` words.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = words_of(text)
        counts.update(zip(*(words[i:] for i in range(n)), strict=False))
    if not counts:
        raise UserError(f"No text has {n} words: there are no {n}-grams to count.")
    return len(counts) / counts.total()


def length_spread(texts: Iterable[str]) -> dict[str, float]:
    """Length of the texts in words: `min`, `q1`, `median`, `q3`, `max`.

    Raises:
        UserError: there are no texts.
    """
    lengths = sorted(len(text.split()) for text in texts)
    if not lengths:
        raise UserError("There are no texts to measure.")
    q1, median, q3 = quantiles(lengths, n=4, method="inclusive") if len(lengths) > 1 else lengths * 3
    return {"min": lengths[0], "q1": q1, "median": median, "q3": q3, "max": lengths[-1]}


def repeated_openings(texts: Iterable[str], words: int = 3) -> list[tuple[str, int]]:
    """Openings of `words` words that begin two texts or more, the most frequent first."""
    counts = Counter(" ".join(words_of(text)[:words]) for text in texts)
    repeated = [(opening, count) for opening, count in counts.items() if count > 1 and opening]
    return sorted(repeated, key=lambda pair: (-pair[1], pair[0]))


def near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[tuple[int, int, float]]:
    """Pairs (i, j, similarity) of texts at least `threshold` alike, the most alike first.

    Similarity is the cosine between weighted counts of 3 to 5 characters (TF-IDF): it sees through typos and
    small edits, not through a paraphrase in other words. Rare strings weigh more, so the value depends a
    little on the set. Time grows with the square of the number of texts: a second or so for 1,500.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold is {threshold}: give a number above 0 and at most 1.")
    from sklearn.feature_extraction.text import TfidfVectorizer

    indices = [i for i, text in enumerate(texts) if text.strip()]
    if len(indices) < 2:
        return []
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), lowercase=True, sublinear_tf=True)
    vectors = vectorizer.fit_transform([texts[i] for i in indices])
    pairs = []
    for start in range(0, len(indices), 500):  # in blocks, so that memory stays small
        similar = (vectors[start : start + 500] @ vectors.T).tocoo()
        rows, columns, values = similar.row + start, similar.col, similar.data
        for k in ((values >= threshold - 1e-9) & (rows < columns)).nonzero()[0]:
            pairs.append((indices[rows[k]], indices[columns[k]], min(float(values[k]), 1.0)))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


@dataclass(frozen=True)
class Finding:
    """A piece of personal data: `text[start:end]` is `text`; `kind` is url, email, card, phone or name."""

    kind: str
    text: str
    start: int
    end: int


URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/@:]+(?::[^\s/@]*)?@[^\s<>\"')]+", re.IGNORECASE)
EMAIL = re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,62}[^\W_])?\.)+[^\W\d_]{2,}")
DIGITS = re.compile(r"(?<![\w.,/-])[+(]{0,2}\d(?:[ \t\u00a0]?[-./()–]?[ \t\u00a0]?\d){6,18}(?![\w])(?![.,-]\d)")
NOT_PHONE = re.compile(
    r"\d{4}([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])\d{1,2}\2\d{2,4}"  # dates
    r"|(?:1[89]|20)\d\d ?[-–/] ?(?:1[89]|20)\d\d"  # spans of years
    r"|\d{1,3}(?:[. ]\d{3})+|\d{1,3}(?:\.\d{1,3}){3}|\d+\.\d+"  # thousands, IP addresses, decimals
)
NAME = r"[^\W\d_][\w’'-]*"
TITLE = r"\b(?:Mr|Mrs|Ms|Dr|Prof)\b\.?\s+"
CUE = r"\b(?i:my name is|my name's|i am called|call me|dear|hi|hello|regards,|sincerely,|cheers,|yours,)\s+"
CUES = re.compile(rf"(?:{CUE}(?:{TITLE})?|{TITLE})({NAME}(?:\s+{NAME}){{0,2}})")
NO_NAME = re.compile(
    "Sir|Madam|Customers?|Team|All|Every(one|body)|Colleagues?|Friends?|Readers?|Parents|Students|Support"
    "|Hiring|Committee|There|World|I|We|You|Please|Thanks?|The|This|My|Mrs?|Ms|Dr|Prof"
)


def find_personal_data(text: str, names: Iterable[str] = ()) -> list[Finding]:
    """Find e-mail and phone numbers, card numbers, addresses with a password, and names, in order of place.

    Patterns only, so a first sweep and no guarantee. Names are found if listed in `names` (as spelled there),
    or capitalized after a cue such as "my name is", "Dear" or "Mr."; any other name passes, and so do street
    addresses, handles, and numbers written in words. A long number of another kind may be taken for a phone
    number. Read a sample yourself.
    """
    found = [Finding("url", m.group(), *m.span()) for m in URL.finditer(text)]
    found += [Finding("email", m.group(), *m.span()) for m in EMAIL.finditer(text)]
    for match in DIGITS.finditer(text):
        found += _numbers(match.group(), match.start())
    for name in names:
        if name.strip():
            pattern = rf"(?<!\w){re.escape(name.strip())}(?!\w)"
            found += [Finding("name", m.group(), *m.span()) for m in re.finditer(pattern, text)]
    for match in CUES.finditer(text):
        name = _name_part(match.group(1))
        if name:
            found.append(Finding("name", name, match.start(1), match.start(1) + len(name)))
    order = {"url": 0, "email": 1, "card": 2, "phone": 3, "name": 4}
    kept: list[Finding] = []
    for finding in sorted(found, key=lambda f: (order[f.kind], f.start - f.end, f.start)):
        if all(finding.end <= other.start or finding.start >= other.end for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda f: f.start)


def remove_personal_data(text: str, names: Iterable[str] = ()) -> str:
    """Put [EMAIL], [PHONE], [CARD], [URL] or [NAME] in place of what `find_personal_data` finds.

    Its limits apply: what it overlooks stays in the text.
    """
    for finding in reversed(find_personal_data(text, names)):
        text = f"{text[: finding.start]}[{finding.kind.upper()}]{text[finding.end :]}"
    return text


def _numbers(run: str, start: int) -> list[Finding]:
    """Look at a run of digits as one number; if it is none, at each of its parts."""
    kind = _number_kind(run)
    if kind:
        return [Finding(kind, run, start, start + len(run))]
    parts = list(re.finditer(r"[^\s]+", run))
    return [f for p in parts if len(parts) > 1 for f in _numbers(p.group(), start + p.start())]


def _number_kind(number: str) -> str | None:
    """`card` when the check digit fits (Luhn), `phone` when it looks like one, else None."""
    digits = re.sub(r"\D", "", number)
    if NOT_PHONE.fullmatch(number):
        return None
    if 13 <= len(digits) <= 19 and not number.startswith("+") and _luhn(digits):
        return "card"
    separated = bool(re.search(r"\D", number))
    if 7 <= len(digits) <= 15 and (separated or len(digits) in (10, 11)):
        return "phone"
    return None


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _name_part(words: str) -> str:
    """The capitalized words at the start: `Ana Silva writes` gives `Ana Silva`."""
    end = 0
    for match in re.finditer(r"\S+", words):
        if not match.group()[0].isupper() or NO_NAME.fullmatch(match.group()):
            break
        end = match.end()
    return re.sub(r"['’]s?$", "", words[:end])
