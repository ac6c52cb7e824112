"""What went wrong in an answer: plain rules, each of which gives its reason in words."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .evaluation import is_redirect
from .ngrams import ngrams, rouge_words
from .spelling import one_edit_away

NEGATIONS = {"not", "no", "never", "cannot", "neither", "nor", "without"}
_SMALL = (
    "about also and are because been but can could does for from had has have how into its just like more most much only "
    "other over same some such than that the their them then there these they this those very was were what when where "
    "which while who why will with would you your"
)
SMALL_WORDS = frozenset(_SMALL.split())
REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:unable|not able)|i(?:'m| am) sorry,? (?:but )?(?:i|as|that)\b|as an ai\b|"
    r"i (?:cannot|can't|can not|won't|will not|must decline)|"
    r"i do(?:n't| not) (?:have (?:access|information)|know))[^.!?]{0,30}",
    re.IGNORECASE,
)
# Crude on purpose: it finds open abuse and nothing subtler.
HARMFUL = re.compile(
    r"\b(?:idiots?|morons?|stupid|dumb|worthless|shut up|kill (?:your|him|her|them)sel(?:f|ves)|hate (?:you|them))\b",
    re.IGNORECASE,
)
TEMPLATE_MARK = re.compile(
    r"<\|\w+\|>|^#{2,} *(?:question|answer|instruction|input|response)\b|^(?:user|assistant|system) *:",
    re.IGNORECASE | re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\w]|[.,]\d)", re.IGNORECASE)
_NUMBERS = "two three four five six seven eight nine ten"
NUMBER_WORDS = {word: float(number) for number, word in enumerate(_NUMBERS.split(), start=2)}
SENTENCE_END = re.compile(r"[.!?:;)\]}\"'\u201d\u2019`*]\s*$")


@dataclass(frozen=True)
class Case:
    """One answer with what it is judged by. `known` are words that are spelled right (see `spelling.known_words`)."""

    question: str
    answer: str
    reference: str
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """One error: its category, and the reason in words."""

    category: str
    reason: str

    def __str__(self) -> str:
        return f"{self.category}: {self.reason}"


def is_empty(case: Case) -> str | None:
    """There is no letter and no digit in the answer."""
    if re.search(r"\w", case.answer):
        return None
    return "only marks, no word" if case.answer.strip() else "no answer came back"


def is_harmful_or_refused(case: Case) -> str | None:
    """The answer is abusive, or turns away a question that the reference answers."""
    abuse = HARMFUL.search(case.answer)
    if abuse and abuse.group().lower() not in f"{case.question} {case.reference}".lower():
        return f'says "{abuse.group()}"'
    refusal = REFUSAL.search(case.answer.replace("\u2019", "'"))
    if refusal and not REFUSAL.search(case.reference) and not is_redirect(case.reference):
        return f'refuses: "{refusal.group().strip()}"'
    if is_redirect(case.answer) and not is_redirect(case.reference):
        return "turns away a question that the reference answers"
    return None


def is_off_topic(case: Case) -> str | None:
    """The answer goes along where the reference turns back, or shares no content word with question and reference."""
    if is_redirect(case.reference):
        return None if is_redirect(case.answer) else "answers a question that the reference turns away"
    said, around = _content(case.answer), _content(case.question) | _content(case.reference)
    if not said or not around:
        said, around = set(rouge_words(case.answer)), set(rouge_words(case.reference))
    if said and around and not said & around:
        return "shares no content word with the question or the reference"
    return None


def is_broken(case: Case) -> str | None:
    """JSON that cannot be read where the reference is JSON, marks of the template, an open code fence, a torn-off end."""
    if _json_error(case.reference) is None and (reason := _json_error(case.answer)):
        return reason
    mark = TEMPLATE_MARK.search(case.answer)
    if mark and mark.group() not in case.reference:
        return f'writes a mark of the prompt template: "{mark.group()}"'
    if case.answer.count("```") % 2:
        return "opens a code block and does not close it"
    if _torn_off(case) and len(case.answer.split()) <= len(case.reference.split()):
        return f'stops in the middle of a sentence: "... {_last_words(case.answer)}"'
    return None


def is_repetition(case: Case) -> str | None:
    """A sentence stands there twice, a word three times in a row, or three words in a row three times."""
    sentences = [" ".join(rouge_words(s)) for s in re.split(r"(?<=[.!?])\s+|\n+", case.answer)]
    twice = next((s for s, n in Counter(s for s in sentences if s.count(" ") >= 2).items() if n > 1), None)
    if twice:
        return f'says the same sentence again: "{_short(twice)}"'
    words, wanted = rouge_words(case.answer), rouge_words(case.reference)
    row = next((a for a, b, c in zip(words, words[1:], words[2:], strict=False) if a == b == c), None)
    if row and (row, row, row) not in ngrams(wanted, 3):
        return f'says "{row}" three times in a row'
    often = next((g for g, n in ngrams(words, 3).items() if n >= 3 and ngrams(wanted, 3)[g] < 3), None)
    return f'says "{" ".join(often)}" {ngrams(words, 3)[often]} times' if often else None


def is_too_long(case: Case) -> str | None:
    """More than twice the words of the reference and ten, or longer than the reference and cut off at the limit."""
    said, wanted = len(case.answer.split()), len(case.reference.split())
    if said > 2 * wanted + 10:
        return f"{said} words, the reference has {wanted}"
    if said > wanted and _torn_off(case):
        return f'{said} words (reference {wanted}) and not at its end: "... {_last_words(case.answer)}"'
    return None


def is_misspelled(case: Case) -> str | None:
    """A word that nobody knows and that is one letter away from a known one. Without `known` words nothing is found."""
    around = set(re.findall(r"[a-z]+", f"{case.question} {case.reference}".lower()))
    for word in re.findall(r"(?<![\w'-])[A-Za-z][a-z]{5,}(?![\w'-])", case.answer):
        near = one_edit_away(word.lower(), case.known) if word.lower() not in around else None
        if near:
            return f'"{word}" should probably be "{near}"'
    return None


def is_wrong_fact(case: Case) -> str | None:
    """A number or name that the reference contradicts, or the reference's words with a "not" more or less."""
    if is_redirect(case.reference):
        return None
    for what, find in (("says", _numbers), ("names", _names)):
        said, wanted, asked = find(case.answer), find(case.reference), find(case.question)
        new = [text for value, text in said.items() if value not in wanted and value not in asked]
        missing = [text for value, text in wanted.items() if value not in said]
        if new and missing:
            return f"{what} {', '.join(new[:3])}; the reference {what} {', '.join(missing[:3])}"
    said, wanted = set(_plain(case.answer)), set(_plain(case.reference))
    denies, should = bool(said & NEGATIONS), bool(wanted & NEGATIONS)
    alike = len((said & wanted) - NEGATIONS) / max(len((said | wanted) - NEGATIONS), 1)
    if denies != should and alike >= 0.75:
        return 'says "not" where the reference does not' if denies else 'leaves out the "not" of the reference'
    return None


RULES: dict[str, Callable[[Case], str | None]] = {
    "empty": is_empty,
    "harmful or refused": is_harmful_or_refused,
    "off-topic": is_off_topic,
    "broken format": is_broken,
    "repetition": is_repetition,
    "too long": is_too_long,
    "misspelling": is_misspelled,
    "wrong fact": is_wrong_fact,
}
CATEGORIES = tuple(RULES)


def find_errors(question: str, answer: str | None, reference: str, known: Iterable[str] = frozenset()) -> list[Finding]:
    """Apply every rule to one answer. An answer may break several; an empty one (or `None`) is only that.

    No finding does not mean that the answer is right: the rules see what can be seen without understanding.
    """
    case = Case(question, answer or "", reference, known if isinstance(known, frozenset) else frozenset(known))
    if reason := is_empty(case):
        return [Finding("empty", reason)]
    found = ((name, rule(case)) for name, rule in RULES.items())
    return [Finding(name, reason) for name, reason in found if reason]


def count_errors(findings: Sequence[Sequence[Finding]]) -> dict[str, int]:
    """Answers in each category, every category named; `any` counts answers with at least one error."""
    counts = Counter(name for row in findings for name in {finding.category for finding in row})
    return {name: counts[name] for name in CATEGORIES} | {"any": sum(bool(row) for row in findings)}


def has_error(findings: Sequence[Sequence[Finding]], category: str = "any") -> list[float]:
    """1.0 for every answer with an error of this category (or with `any`), to be paired and resampled."""
    return [float(any(category in ("any", finding.category) for finding in row)) for row in findings]


def _content(text: str) -> set[str]:
    """Longer words without the small ones, cut to five letters so that "training" meets "train"."""
    return {w[:5] for w in rouge_words(text) if len(w) > 3 and w not in SMALL_WORDS}


def _plain(text: str) -> list[str]:
    return rouge_words(re.sub(r"n['\u2019]t\b", " not", text))


def _json_error(text: str) -> str | None:
    """Why a text is not a JSON object or list; None when it is one."""
    if not text.strip().startswith(("{", "[")):
        return "not JSON, as the reference is"
    try:
        json.loads(text)
    except ValueError as error:
        return f"JSON that cannot be read: {error}"
    return None


def _torn_off(case: Case) -> bool:
    return bool(SENTENCE_END.search(case.reference)) and not SENTENCE_END.search(case.answer)


def _last_words(text: str) -> str:
    return " ".join(text.split()[-4:])


def _short(text: str) -> str:
    return text if len(text) <= 50 else text[:47] + "..."


def _numbers(text: str) -> dict[object, str]:
    found: dict[object, str] = {float(m.group().replace(",", "")): m.group() for m in NUMBER.finditer(text)}
    return found | {NUMBER_WORDS[w]: w for w in re.findall(r"[a-z]+", text.lower()) if w in NUMBER_WORDS}


def _names(text: str) -> dict[object, str]:
    """Words with a capital inside a sentence or inside the word: Adam, SmolLM, BLEU. "I" and first words do not count."""
    found: dict[object, str] = {}
    for match in re.finditer(r"[A-Za-z][\w-]*", text):
        word, before = match.group(), text[: match.start()].rstrip(" \"'(\u201c")
        first = not before or before[-1] in ".!?:\n*-"
        if re.search(r"[A-Z]", word[1:]) or (word[0].isupper() and not first and len(word) > 1):
            found.setdefault(word.lower().removesuffix("s"), word)
    return found
