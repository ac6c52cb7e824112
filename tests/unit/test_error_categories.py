"""Every rule fires on what it is for, says why, and keeps quiet on a good answer."""

import pytest

from finetune_utils.error_categories import CATEGORIES, RULES, Case, count_errors, find_errors, has_error
from finetune_utils.spelling import is_known, known_words, one_edit_away

ASKED = "Which learning rate should I start with for LoRA?"
WANTED = "Start with a learning rate of 1e-3 for LoRA, and lower it when the training loss jumps."
REDIRECT = "Let's keep to fine-tuning: ask me anything about training a model."
KNOWN = known_words([ASKED, WANTED, "The model learns a mapping from question to answer when training."])

WRONG = [
    ("empty", "", "no answer came back"),
    ("empty", None, "no answer came back"),
    ("empty", " ...!", "only marks"),
    ("harmful or refused", "I'm sorry, I can't help with a learning rate.", "refuses"),
    ("harmful or refused", "As an AI I have no learning rate.", 'refuses: "As an AI'),
    ("harmful or refused", REDIRECT, "turns away a question that the reference answers"),
    ("harmful or refused", "Only an idiot sets no learning rate.", 'says "idiot"'),
    ("off-topic", "Paris lies beside the Seine.", "shares no content word"),
    ("broken format", "### Answer:\nStart with a rate of 1e-3.", 'template: "### Answer"'),
    ("broken format", "Start with 1e-3.<|im_end|>", "<|im_end|>"),
    ("broken format", "Use this: ```lr = 1e-3", "code block"),
    ("broken format", "Start with a learning rate of", 'middle of a sentence: "... a learning rate of"'),
    ("repetition", "Lower the learning rate. Then wait. Lower the learning rate.", "same sentence again"),
    ("repetition", "Start with a rate rate rate of 1e-3.", 'says "rate" three times'),
    ("repetition", "a small rate or a small rate or a small rate is a start.", '"a small rate" 3 times'),
    ("too long", "Start with 1e-3 for LoRA. " + "Then look at one more number every day. " * 6, "words, the reference has 17"),
    ("too long", WANTED[:-1] + " and keep an eye on the", 'not at its end: "... an eye on the"'),
    ("misspelling", "Start with a lerning rate of 1e-3 for LoRA.", '"lerning" should probably be "learning"'),
    ("misspelling", "The training losss is a maping.", '"maping" should probably be "mapping"'),
    ("wrong fact", "Start with a learning rate of 0.1 for LoRA.", "says 0.1; the reference says 1e-3"),
    ("wrong fact", "Start with a learning rate of 1e-3 for Adam, always.", "names Adam; the reference names LoRA"),
    ("wrong fact", WANTED.replace("Start", "Do not start"), 'says "not" where the reference does not'),
    ("wrong fact", WANTED.replace("Start", "Don't start"), 'says "not" where the reference does not'),
]  # fmt: skip


@pytest.mark.parametrize(("category", "answer", "reason"), WRONG)
def test_a_rule_finds_its_error_and_says_why(category, answer, reason):
    found = find_errors(ASKED, answer, WANTED, KNOWN)
    assert reason in next(f.reason for f in found if f.category == category)
    assert str(next(f for f in found if f.category == category)).startswith(f"{category}: ")


@pytest.mark.parametrize(
    "answer",
    [
        WANTED,
        "For LoRA, 1e-3 is a good start; lower it if the loss jumps.",
        "Start LoRA at 0.001, then lower the learning rate when the loss jumps.",  # the same number in other clothes
        "I would start with 1e-3 for LoRA, and lower it later.",
    ],
)
def test_a_good_answer_breaks_no_rule(answer):
    assert find_errors(ASKED, answer, WANTED, KNOWN) == []


def test_every_category_is_provoked_above():
    assert {category for category, *_ in WRONG} == set(CATEGORIES) == set(RULES)


def test_a_redirect_is_right_where_the_reference_redirects_and_an_answer_is_not():
    asked = "What is the capital of France?"
    assert find_errors(asked, "I only help with fine-tuning, sorry. What would you like to train?", REDIRECT) == []
    (found,) = find_errors(asked, "The capital of France is Paris.", REDIRECT)
    assert str(found) == "off-topic: answers a question that the reference turns away"


def test_json_must_stay_json():
    assert find_errors("Give JSON.", '{"rate": 3}', '{"rate": 3}') == []
    for broken, why in (('{"rate": 3', "cannot be read"), ("The rate is 3.", "not JSON")):
        assert any(f.category == "broken format" and why in f.reason for f in find_errors("?", broken, '{"rate": 3}'))


def test_what_the_reference_does_is_no_error():
    chant = "Row, row, row your boat."
    assert find_errors("How does the song about a boat go?", chant, chant) == []
    assert find_errors("Is it stupid?", "It is not a stupid question.", "No, it is not a stupid question.") == []


def test_a_not_left_out_is_found():
    wanted = "The frozen weights do not change when an adapter is trained."
    (found,) = find_errors("Do the frozen weights change?", wanted.replace(" do not", ""), wanted)
    assert found.reason == 'leaves out the "not" of the reference'


def test_numbers_are_compared_by_value_and_a_new_one_alone_is_no_contradiction():
    def facts(answer, reference):
        return RULES["wrong fact"](Case("How many?", answer, reference))

    assert facts("There are two layers.", "There are 2 layers.") is None
    assert facts("It takes 1,000 steps.", "It takes 1000 steps.") is None
    assert facts("There are two layers of 8 heads.", "There are 2 layers.") is None
    assert facts("There are three layers.", "There are 2 layers.") == "says three; the reference says 2"
    assert facts("Version 2.0.1 has it.", "It takes 5 steps.") is None  # a version is no number


def test_failures_are_counted_and_every_category_is_named():
    findings = [
        find_errors(ASKED, answer, WANTED, KNOWN) for answer in (WANTED, None, "", "Paris lies beside the Seine.")
    ]
    counts = count_errors(findings)
    assert list(counts) == [*CATEGORIES, "any"]
    assert (counts["empty"], counts["off-topic"], counts["too long"], counts["any"]) == (2, 1, 0, 3)
    assert has_error(findings) == [0.0, 1.0, 1.0, 1.0]
    assert has_error(findings, "off-topic") == [0.0, 0.0, 0.0, 1.0]


def test_an_answer_may_break_several_rules():
    found = find_errors(ASKED, "Paris Paris Paris lies beside the Seine of 7", WANTED, KNOWN)
    assert {f.category for f in found} >= {"off-topic", "repetition", "broken format", "wrong fact"}


# --- spelling


@pytest.mark.parametrize("word", ["lerning", "leearning", "leraning", "laarning"])
def test_one_letter_less_more_swapped_or_one_vowel_changed_is_found(word):
    assert one_edit_away(word, KNOWN) == "learning"


@pytest.mark.parametrize("word", ["learning", "learnings", "yearning", "lrning", "leatning", "loss", "laes", "zzzzzzz"])
def test_known_words_other_words_and_far_ones_are_left_alone(word):
    assert one_edit_away(word, KNOWN) is None


@pytest.mark.parametrize("word", ["pivots", "halving", "stepping", "trainers", "hunted"])
def test_an_inflected_form_of_a_known_word_is_known(word):
    known = {"pivot", "pilots", "halve", "haling", "steep", "step", "steeping", "train", "hunt", "haunted"}
    assert is_known(word, known)
    assert one_edit_away(word, known) is None


def test_an_inflection_of_nothing_is_not_known():
    assert not is_known("hunted", {"haunted", "hun"})
    assert one_edit_away("hunted", {"haunted", "hun"}) == "haunted"


def test_a_vocabulary_knows_whole_words(tokenizer):
    known = known_words(["Some text"], tokenizer)
    assert {"some", "text", "weights"} <= known
    assert "weigh" not in known  # a piece, not a word
    assert not any(mark in word for word in known for mark in "\u0120<|. ")
