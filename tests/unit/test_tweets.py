"""The short posts with a sentiment label: schema, shares, no copies, and labels that single words do not give away."""

import json
import re
from collections import Counter, defaultdict

import pytest

from finetune_utils.data import DATA_DIR, check_no_overlap, deduplicate, load_rows, split_by_group
from finetune_utils.quality import find_personal_data, near_duplicates, repeated_openings, words_of

LABELS = ["negative", "neutral", "positive"]
SIZES = {"train": 360, "dev": 60, "test": 220}
ALIKE = 0.35  # unrelated posts reach 0.32; a copy with three words in ten replaced keeps more than 0.4
FEELINGS = words_of(
    "adore afraid angry awful bad beautiful best brilliant broken charming cheer clever cried cry crying despair "
    "disgusting dream enjoy favorite fool free fun funny furious glad good gorgeous great happy hate heart horrible "
    "hurt joy kind laugh laughed laughing lost love loved lovely luck lucky magical miserable misery nice perfect "
    "pretty proud rage right sad scared sick smile sorrow sorry stupid sweet terrible thank thanks tired trust ugly "
    "warm wonderful worst worth wrong"
)
WORDS = {"ngram_range": (1, 2)}


@pytest.fixture(scope="module")
def tweets():
    return load_rows("tweets")


@pytest.fixture(scope="module")
def card():
    text = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    return text.split("## `tweets.jsonl`")[1].split("\n## ")[0]


def scores(texts, labels, settings):
    """Macro-F1 of TF-IDF + logistic regression on five stratified splits, 65 % to train and 35 % to test."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    found = []
    for seed in range(5):
        x, held_out, y, truth = train_test_split(texts, labels, test_size=0.35, stratify=labels, random_state=seed)
        model = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, **settings), LogisticRegression(class_weight="balanced", max_iter=1000)
        )
        found.append(f1_score(truth, model.fit(x, y).predict(held_out), average="macro"))
    return found


def one_sided(rows, words, at_least=6):
    """Those of `words` that stand in `at_least` posts or more, all of one class."""
    counts = defaultdict(Counter)
    for row in rows:
        for word in set(words_of(row["text"])) & set(words):
            counts[word][row["label"]] += 1
    return sorted(word for word, by_label in counts.items() if by_label.total() >= at_least and len(by_label) == 1)


def test_rows_have_the_fields_and_a_known_label(tweets):
    for number, row in enumerate(tweets, 1):
        assert list(row) == ["id", "text", "label"]
        assert row["id"] == f"post-{number:03}"
        assert row["label"] in LABELS, row["id"]
        assert " ".join(row["text"].split()) == row["text"] != "", row["id"]
        assert 3 <= len(row["text"].split()) <= 45, row["id"]


def test_classes_are_balanced_and_negative_is_the_largest(tweets):
    counts = Counter(row["label"] for row in tweets)
    assert len(tweets) >= 600
    assert max(counts, key=counts.get) == "negative"
    assert max(counts.values()) <= 0.45 * len(tweets)
    assert min(counts.values()) >= 0.25 * len(tweets)


def test_the_first_rows_are_balanced(tweets):
    for start in range(0, len(tweets), 16):
        counts = Counter(row["label"] for row in tweets[start : start + 16])
        assert [counts[label] for label in LABELS] == [6, 5, 5], tweets[start]["id"]


def test_no_post_is_nearly_another(tweets):
    assert deduplicate(tweets, ["text"])[1] == []
    pairs = near_duplicates([row["text"] for row in tweets], ALIKE)
    assert [(tweets[i]["id"], tweets[j]["id"], round(s, 2)) for i, j, s in pairs] == []


def test_a_post_with_a_few_words_changed_would_be_found(tweets):
    texts = [row["text"] for row in tweets]
    first = texts[0].split()
    copy = " ".join("otherwise" if place % 4 == 3 else word for place, word in enumerate(first))
    assert copy != texts[0]
    assert [(i, j) for i, j, _ in near_duplicates([*texts, copy], ALIKE)] == [(0, len(texts))]


def test_the_split_shares_no_post_and_keeps_every_class(tweets):
    parts = split_by_group(tweets, "id", SIZES)
    check_no_overlap(parts, "text")
    assert {name: len(rows) for name, rows in parts.items()} == SIZES
    assert sum(SIZES.values()) == len(tweets)  # all are used, so what holds for any two posts holds across parts
    for name, rows in parts.items():
        counts = Counter(row["label"] for row in rows)
        assert all(0.25 <= counts[label] / len(rows) <= 0.45 for label in LABELS), (name, counts)
    backwards = split_by_group(tweets[::-1], "id", SIZES)
    assert [row["id"] for row in backwards["test"][::-1]] == [row["id"] for row in parts["test"]]


def test_openings_vary(tweets):
    assert all(count <= 4 for _, count in repeated_openings([row["text"] for row in tweets]))


def test_no_personal_data(tweets):
    assert [(row["id"], found) for row in tweets for found in find_personal_data(row["text"])] == []


def test_frequent_feeling_words_stand_in_two_classes_or_more(tweets):
    assert one_sided(tweets, FEELINGS) == []
    common = Counter(word for row in tweets for word in set(words_of(row["text"])) & set(FEELINGS))
    assert sum(count >= 6 for count in common.values()) >= 15  # else the line above checks next to nothing


def test_a_one_sided_word_would_be_found():
    rows = [{"text": "Good!", "label": "positive"}] * 6 + [{"text": "bad", "label": label} for label in LABELS * 2]
    assert one_sided(rows, ["good", "bad"]) == ["good"]


def test_single_words_do_not_give_the_label_away(tweets, card):
    found = scores([row["text"] for row in tweets], [row["label"] for row in tweets], WORDS)
    assert max(found) < 0.70, found  # the lab's goal for a model that reads is 0.75
    said = re.search(r"between (0\.\d\d) and (0\.\d\d) on five splits", " ".join(card.split()))
    assert [min(found), max(found)] == pytest.approx([float(number) for number in said.groups()], abs=0.02)


def test_the_word_counter_would_notice_a_leak(tweets):
    labels = [row["label"] for row in tweets]
    leaking = [f"{row['text']} mood{row['label']}" for row in tweets]
    assert min(scores(leaking, labels, WORDS)) > 0.75


def test_neither_length_nor_marks_give_the_label_away(tweets):
    """Words, characters, question and exclamation marks, digits, capitals, hashtags and emoji of a post; four folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    patterns = [r"\S+", r".", r"\?", r"!", r"\d", r"[A-Z]{2,}", r"#", r"[^\x00-\u024f]", r"[.,]", r"\""]
    shapes = [[len(re.findall(pattern, row["text"])) for pattern in patterns] for row in tweets]
    labels = [row["label"] for row in tweets]
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    assert f1_score(labels, cross_val_predict(model, shapes, labels, cv=4), average="macro") < 0.62


def test_an_emoji_is_never_alone_and_rare(tweets):
    with_emoji = [row for row in tweets if re.search(r"[\u2600-\u27bf\U0001f300-\U0001faff]", row["text"])]
    assert 5 <= len(with_emoji) <= 0.05 * len(tweets)
    assert all(len(words_of(row["text"])) >= 5 for row in with_emoji)


def test_the_card_agrees_with_the_file(tweets, card):
    counts = Counter(row["label"] for row in tweets)
    text = " ".join(card.split())
    shown = ", ".join(f"{counts[label]} {label}" for label in LABELS)
    assert f"{len(tweets)} rows: {shown}" in text
    lengths = [len(row["text"].split()) for row in tweets]
    assert f"{min(lengths)} to {max(lengths)} words" in text
    examples = re.findall(r"```json\n(.*?)\n```", card, re.DOTALL)
    assert examples
    assert all(json.loads(line) in tweets for block in examples for line in block.splitlines())
    parts = split_by_group(tweets, "id", SIZES)
    for name, rows in parts.items():
        counts = Counter(row["label"] for row in rows)
        cells = " | ".join(str(counts[label]) for label in LABELS)
        assert f"| {name} | {len(rows)} | {cells} |" in card
    overview = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    assert f"| `tweets.jsonl` | {len(tweets)} |" in overview
