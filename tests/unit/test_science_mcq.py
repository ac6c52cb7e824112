"""The multiple-choice questions: schema, variety, and a key that nothing but the question gives away."""

import json
import re
from collections import Counter
from string import ascii_letters

import pytest

from finetune_utils.data import DATA_DIR, check_no_overlap, deduplicate, fold, load_rows, split_by_group
from finetune_utils.hub import load_hub
from finetune_utils.quality import find_personal_data, near_duplicates, repeated_openings, words_of

TOPICS = ["biology", "earth", "weather", "space", "physics", "chemistry", "body", "materials", "technology"]
LITTLE_WORDS = set(words_of("a an the of to in on is it and at by from with that which what its for you they"))


@pytest.fixture(scope="module")
def mcq():
    return load_rows("science_mcq")


def hit_rate(rows, score):
    """Share of rows that a guesser gets right who takes the choice of the highest score; ties are guessed."""
    hits = 0.0
    for row in rows:
        scores = [score(row, choice) for choice in row["choices"]]
        best = max(scores)
        hits += (scores[row["answer"]] == best) / scores.count(best)
    return hits / len(rows)


def words_shared(row, choice):
    def content(text):
        return {word.rstrip("s") for word in words_of(text)} - LITTLE_WORDS

    return len(content(row["question"]) & content(choice))


def test_rows_have_the_fields_and_four_different_choices(mcq):
    assert len(mcq) >= 210
    for row in mcq:
        assert list(row) == ["id", "topic", "question", "choices", "answer"]
        assert row["topic"] in TOPICS
        assert re.fullmatch(rf"{row['topic']}-\d\d", row["id"])
        assert type(row["answer"]) is int, row["id"]  # True and 1.0 would index as well
        assert row["answer"] in range(4), row["id"]
        assert len({fold(choice) for choice in row["choices"]}) == len(row["choices"]) == 4, row["id"]
        for text in [row["question"], *row["choices"]]:
            assert isinstance(text, str), row["id"]
            assert " ".join(text.split()) == text != "", row["id"]
    assert len({row["id"] for row in mcq}) == len(mcq)


def test_choices_are_short_and_of_one_kind(mcq):
    for row in mcq:
        choices = row["choices"]
        assert all(len(choice.split()) <= 6 for choice in choices), row["id"]
        assert max(map(len, choices)) - min(map(len, choices)) <= 10, row["id"]
        assert len({choice.endswith(".") for choice in choices}) == 1, row["id"]  # all sentences or none
        assert choices[0].endswith(".") <= row["question"].endswith("?"), row["id"]
        assert not any(re.search(r"\b(?:all|none|both) of\b", choice.lower()) for choice in choices), row["id"]


def test_topics_are_even_and_alternate(mcq):
    assert Counter(row["topic"] for row in mcq) == dict.fromkeys(TOPICS, len(mcq) // len(TOPICS))
    for start in range(0, len(mcq), len(TOPICS)):
        assert {row["topic"] for row in mcq[start : start + len(TOPICS)]} == set(TOPICS), mcq[start]["id"]


def test_no_two_rows_ask_the_same(mcq):
    assert deduplicate(mcq, ["question"])[1] == []
    pairs = near_duplicates([row["question"] for row in mcq], threshold=0.5)
    assert [(mcq[i]["id"], mcq[j]["id"]) for i, j, _ in pairs] == []
    sets = [" / ".join(sorted(map(fold, row["choices"]))) for row in mcq]
    assert len(set(sets)) == len(mcq)
    key = Counter(fold(row["choices"][row["answer"]]) for row in mcq)
    assert key.most_common(1)[0][1] <= 3, key.most_common(3)


def test_questions_vary(mcq):
    openings = repeated_openings([row["question"] for row in mcq])
    assert openings[0][1] <= 0.06 * len(mcq), openings[0]
    assert all(row["question"][-1] == "?" or row["question"][-1] in "'" + ascii_letters for row in mcq)


def test_every_index_is_right_equally_often(mcq):
    counts = Counter(row["answer"] for row in mcq)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert set(counts) == {0, 1, 2, 3}
    for start in range(0, len(mcq), 4):  # so that the first N rows are balanced too
        assert sorted(row["answer"] for row in mcq[start : start + 4]) == [0, 1, 2, 3], mcq[start]["id"]
    by_topic = Counter((row["topic"], row["answer"]) for row in mcq)
    assert min(by_topic[topic, index] for topic in TOPICS for index in range(4)) >= 4


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda row, choice: len(choice), id="longest"),
        pytest.param(lambda row, choice: -len(choice), id="shortest"),
        pytest.param(lambda row, choice: len(choice.split()), id="most words"),
        pytest.param(lambda row, choice: -len(choice.split()), id="fewest words"),
        pytest.param(words_shared, id="shares words with the question"),
    ],
)
def test_neither_length_nor_shared_words_give_the_answer_away(mcq, score):
    assert 0.2 <= hit_rate(mcq, score) <= 0.3


def test_the_guesser_would_notice():
    rows = [{"question": "q", "choices": ["aaa", "b", "c", "d"], "answer": n} for n in (0, 0, 0, 1)]
    assert hit_rate(rows, lambda row, choice: len(choice)) == 0.75
    assert hit_rate(rows, lambda row, choice: -len(choice)) == pytest.approx(1 / 12)
    assert words_shared({"question": "What do the roots drink?"}, "the root") == 1


def test_a_classifier_that_never_sees_the_question_guesses(mcq):
    """Four folds; chance is 0.25 and one standard error 0.03."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    table = CountVectorizer(ngram_range=(1, 2)).fit_transform([c for row in mcq for c in row["choices"]]).tocsr()
    right = [n == row["answer"] for row in mcq for n in range(4)]
    hits = 0
    for part in range(4):
        train = [n for n in range(4 * len(mcq)) if (n // 4) % 4 != part]
        model = LogisticRegression(class_weight="balanced").fit(table[train], [right[n] for n in train])
        for n in range(part, len(mcq), 4):
            guess = model.decision_function(table[4 * n : 4 * n + 4]).argmax()
            hits += guess == mcq[n]["answer"]
    assert hits / len(mcq) < 0.35


def test_the_split_by_id_is_always_the_same(mcq):
    sizes = {"dev": 16, "test": 200}
    parts = split_by_group(mcq, "id", sizes)
    check_no_overlap(parts, "question")
    assert {name: len(rows) for name, rows in parts.items()} == sizes
    backwards = split_by_group(mcq[::-1], "id", sizes)
    assert [row["id"] for row in backwards["dev"][::-1]] == [row["id"] for row in parts["dev"]]
    assert sorted(row["id"] for row in parts["dev"])[:3] == ["body-06", "body-14", "body-23"]


def test_rows_from_the_hub_have_the_same_columns(mcq, tmp_path):
    row = next(row for row in mcq if row["answer"] == 2)
    raw = {
        "id": row["id"],
        "question": row["question"],
        "choices": {"text": row["choices"], "label": list("ABCD")},
        "answerKey": "C",
    }
    path = tmp_path / "arc.jsonl"
    path.write_text(json.dumps(raw) + "\n", encoding="utf-8")
    assert load_hub("allenai/ai2_arc", data_files=path) == [{k: v for k, v in row.items() if k != "topic"}]


def test_no_personal_data(mcq):
    texts = [text for row in mcq for text in (row["question"], *row["choices"])]
    assert [finding for text in texts for finding in find_personal_data(text)] == []


def test_the_card_counts_right(mcq):
    card = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    text = " ".join(card.split("## `science_mcq.jsonl`")[1].split("\n## ")[0].split())
    each = len(mcq) // len(TOPICS)
    assert f"{len(mcq)} rows: {each} in each of {', '.join(TOPICS)}." in text
    asked = sum(row["question"].endswith("?") for row in mcq)
    assert f"{asked} are questions, {len(mcq) - asked} are sentences to complete" in text
    assert f"Every index is right {len(mcq) // 4} times" in text
    assert f"| `science_mcq.jsonl` | {len(mcq)} |" in card
    error = 100 * (0.25 / len(mcq)) ** 0.5
    assert f"{len(mcq)} rows are few: near 50 % accuracy the standard error is {error:.1f} points" in text
