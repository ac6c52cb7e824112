"""Measures of variety on cases counted by hand; near-duplicates; personal data found and removed."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_utils.errors import UserError
from finetune_utils.quality import (
    Finding,
    distinct_ngrams,
    find_personal_data,
    length_spread,
    near_duplicates,
    remove_personal_data,
    repeated_openings,
    words_of,
)


def test_words():
    assert words_of("Don't stop: 3 LoRA-layers, naïve!") == ["don't", "stop", "3", "lora", "layers", "naïve"]


def test_distinct_ngrams_by_hand():
    texts = ["the cat sat", "The cat ran."]  # the cat, cat sat, the cat, cat ran
    assert distinct_ngrams(texts, 2) == 3 / 4
    assert distinct_ngrams(texts, 1) == 4 / 6
    assert distinct_ngrams(texts, 3) == 1
    assert distinct_ngrams(["one", "a b"], 2) == 1  # nothing spans two texts
    with pytest.raises(UserError, match="No text has 4 words"):
        distinct_ngrams(texts, 4)


def test_length_spread_by_hand():
    texts = ["a", "a b", "a b c", "a b c d", "a b c d e"]
    assert length_spread(texts) == {"min": 1, "q1": 2, "median": 3, "q3": 4, "max": 5}
    assert length_spread(["a b"]) == {"min": 2, "q1": 2, "median": 2, "q3": 2, "max": 2}
    with pytest.raises(UserError, match="no texts"):
        length_spread([])


def test_repeated_openings_by_hand():
    texts = ["What is a token?", "what is A LoRA?", "Why?", "Why, though", "Why?", "", ""]
    assert repeated_openings(texts) == [("what is a", 2), ("why", 2)]
    assert repeated_openings(texts, words=1) == [("why", 3), ("what", 2)]


TEXTS = [
    "How do I choose the rank of a LoRA adapter?",
    "Which optimizer does the Trainer use by default?",
    "how do i chose the rank of a LoRA adapter",
    "",
    "Which optimizer does the Trainer use by default?",
    "Boil the eggs for six minutes.",
]


def test_near_duplicates_see_through_typos():
    pairs = near_duplicates(TEXTS, threshold=0.7)
    assert [(i, j) for i, j, _ in pairs] == [(1, 4), (0, 2)]
    assert pairs[0][2] == pytest.approx(1)
    assert 0.7 <= pairs[1][2] < 1
    assert [(i, j) for i, j, _ in near_duplicates(TEXTS, threshold=0.999)] == [(1, 4)]


def test_near_duplicates_of_little():
    assert near_duplicates([]) == near_duplicates(["a"]) == near_duplicates(["", " ", "a"]) == []
    with pytest.raises(UserError, match="threshold is 80"):
        near_duplicates(TEXTS, threshold=80)


def test_near_duplicates_across_blocks_and_in_time():
    texts = [f"sentence number {n} speaks of {n * 7919 % 10007} and {n * 104729 % 10009}" for n in range(1500)]
    texts[1400] = texts[3]
    started = time.perf_counter()
    assert (3, 1400) in [(i, j) for i, j, _ in near_duplicates(texts, threshold=0.99)]
    assert time.perf_counter() - started < 10


FOUND = [
    ("Write to jo.doe+x@mail.example.co.uk.", "Write to [EMAIL]."),
    ("Call +1 (555) 123-4567 or 555-0199.", "Call [PHONE] or [PHONE]."),
    ("Tel. 06 12 34 56 78, fax (030) 1234567", "Tel. [PHONE], fax [PHONE]"),
    ("ring 5551234567 today", "ring [PHONE] today"),
    ("Card 4111 1111 1111 1111, expired", "Card [CARD], expired"),
    ("see https://bob:secret@host.example/x for it", "see [URL] for it"),
    ("My name is Ana Silva and I sing.", "My name is [NAME] and I sing."),
    ("Dear Dr. Jane Roe, thanks", "Dear Dr. [NAME], thanks"),
    ("Mr. O'Neil's dog", "Mr. [NAME]'s dog"),
    ("Hello Mr. Ortiz, thanks", "Hello Mr. [NAME], thanks"),
    ("Hello Mr. [NAME], thanks", "Hello Mr. [NAME], thanks"),
    ("Regards,\nLena Meyer", "Regards,\n[NAME]"),
    ("Hello Zoë!", "Hello [NAME]!"),
]
PASSED = [
    "Dear Sir or Madam, dear all, hello World, hi there",
    "on 2024-05-01, 12/05/2023 and in 2020-2021",
    "134 515 008 parameters, 4,884,480 of them trained, 3.14159265, from 192.168.0.1",
    "learning_rate=1e-4, 8 x 104 tokens, pages 120-125, order 12345678",
    "user @ host, @handle, a.b@c",
    "https://example.org/path?x=1 and 10.5281/zenodo.1234567",
]


@pytest.mark.parametrize(("text", "clean"), FOUND)
def test_personal_data_is_replaced(text, clean):
    assert remove_personal_data(text) == clean


@pytest.mark.parametrize("text", PASSED)
def test_other_text_is_left_alone(text):
    assert find_personal_data(text) == []
    assert remove_personal_data(text) == text


def test_findings_say_where_in_order():
    text = "Jo (jo@x.org) met Rose; Rosemary grows."
    found = find_personal_data(text, names=["Rose", "Jo"])
    assert found == [
        Finding("name", "Jo", 0, 2),
        Finding("email", "jo@x.org", 4, 12),
        Finding("name", "Rose", 18, 22),
    ]
    assert all(text[f.start : f.end] == f.text for f in found)
    assert remove_personal_data(text, ["Rose", "Jo"]) == "[NAME] ([EMAIL]) met [NAME]; Rosemary grows."


def test_known_limits():
    """What the docstring admits to: unlisted names and addresses pass."""
    text = "Ask Kofi at 12 Elm Street, five five five one two three four."
    assert find_personal_data(text) == []
    assert remove_personal_data(text, ["Kofi"]).startswith("Ask [NAME] at")


@settings(max_examples=50)
@given(st.text(max_size=80), st.lists(st.text(max_size=6), max_size=3))
def test_findings_lie_in_the_text_and_never_overlap(text, names):
    end = 0
    for finding in find_personal_data(text, names):
        assert text[finding.start : finding.end] == finding.text != ""
        assert finding.start >= end
        end = finding.end


@given(st.from_regex(r"\A[a-z]{1,8}(\.[a-z]{1,5})?@[a-z]{1,8}\.(com|org|de)\Z"))
def test_plain_addresses_are_found(address):
    assert remove_personal_data(f"Write to {address}, please.") == "Write to [EMAIL], please."
