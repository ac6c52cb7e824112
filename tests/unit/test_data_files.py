"""The shipped data files: schema, counts, variety, and cards that agree with the files."""

import json
import re
from collections import Counter

import pytest

from finetune_utils.betting.games import load_games, of_seasons
from finetune_utils.data import (
    DATA_DIR,
    check_no_overlap,
    data_path,
    deduplicate,
    fold,
    load_rows,
    load_table,
    read_rows,
    split_by_group,
)
from finetune_utils.evaluation import check_rule, is_redirect
from finetune_utils.hub import HUB
from finetune_utils.quality import distinct_ngrams, find_personal_data, near_duplicates, repeated_openings

OFF_TOPICS = ("off-topic", "near-topic")
ONE_WORDING = (*OFF_TOPICS, "situation")  # all others are facts, asked in five ways
WRITTEN = [
    "course_qa.jsonl",
    "dialogues.jsonl",
    "instructions.jsonl",
    "neutral_text.txt",
    "readme_pairs.jsonl",
    "sample_readme.md",
    "science_mcq.jsonl",
    "tweets.jsonl",
]
CARD_PARTS = ["What", "Who wrote it", "License", "Fields", "Counts", "Splits", "Limits"]


@pytest.fixture(scope="module")
def qa():
    return load_rows("course_qa")


@pytest.fixture(scope="module")
def instructions():
    return load_rows("instructions")


@pytest.fixture(scope="module")
def redirect_labels():
    return load_rows("redirect_labels")


@pytest.fixture(scope="module")
def card():
    return (DATA_DIR / "README.md").read_text(encoding="utf-8")


def section(card: str, name: str) -> str:
    match = re.search(rf"^## `{re.escape(name)}`$(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    assert match, f"{name} has no card in data/README.md"
    return match.group(1)


def test_files_are_plain_utf8_with_unix_line_ends():
    for name in [*WRITTEN, "redirect_labels.jsonl", "quality_pairs.jsonl", "nba_games.csv"]:
        content = (DATA_DIR / name).read_bytes()
        assert b"\r" not in content, name
        assert content.endswith(b"\n"), name
        assert not content.startswith(b"\xef\xbb\xbf"), name
        content.decode("utf-8")


def test_course_qa_schema(qa):
    for row in qa:
        assert list(row) == ["id", "fact", "topic", "question", "answer"]
        assert all(isinstance(value, str) and value == value.strip() != "" for value in row.values()), row["id"]
        assert re.fullmatch(rf"{re.escape(row['fact'])}-\d", row["id"])
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row["fact"])
        assert (row["topic"] in OFF_TOPICS) == bool(re.fullmatch(r"off-topic-\d{3}", row["fact"]))
        assert (row["topic"] == "situation") == bool(re.fullmatch(r"situation-\d{3}", row["fact"]))
        assert "\n" not in row["question"] + row["answer"]
    assert load_table(DATA_DIR / "course_qa.jsonl").shape.name == "question/answer"


def test_course_qa_counts(qa):
    topics = Counter(row["topic"] for row in qa)
    assert len({row["fact"] for row in qa if row["topic"] not in ONE_WORDING}) >= 200
    assert topics["off-topic"] + topics["near-topic"] >= 150
    assert topics["situation"] >= 120
    assert len(qa) >= 1_150
    assert len({row["id"] for row in qa}) == len(qa)


def test_each_fact_has_five_questions_one_answer_one_topic(qa):
    facts = Counter(row["fact"] for row in qa if row["topic"] not in ONE_WORDING)
    assert set(facts.values()) == {5}
    others = Counter(row["fact"] for row in qa if row["topic"] in ONE_WORDING)
    assert set(others.values()) == {1}
    assert len({(row["fact"], row["answer"], row["topic"]) for row in qa}) == len({row["fact"] for row in qa})
    assert len({fold(row["answer"]) for row in qa}) == len({row["fact"] for row in qa})


def test_no_question_occurs_twice_and_none_is_nearly_another_facts(qa):
    assert deduplicate(qa, ["question"])[1] == []
    pairs = near_duplicates([row["question"] for row in qa], threshold=0.75)
    assert [(qa[i]["id"], qa[j]["id"]) for i, j, _ in pairs if qa[i]["fact"] != qa[j]["fact"]] == []


def test_no_two_facts_have_nearly_the_same_answer(qa):
    answers = {row["fact"]: row["answer"] for row in qa}
    facts = list(answers)
    pairs = near_duplicates(list(answers.values()), threshold=0.6)
    assert [(facts[i], facts[j], round(s, 2)) for i, j, s in pairs] == []


def test_questions_vary(qa):
    questions = [row["question"] for row in qa]
    opening, count = repeated_openings(questions)[0]
    assert count <= 0.04 * len(questions), opening
    assert distinct_ngrams(questions, 2) > 0.6
    assert all(3 <= len(question.split()) <= 40 for question in questions if question)


def test_answers_are_short_and_complete(qa):
    for row in qa:
        words = len(row["answer"].split())
        low, high = (10, 40) if row["topic"] in OFF_TOPICS else (18, 45) if row["topic"] == "situation" else (15, 45)
        assert low <= words <= high, row["id"]
        assert row["answer"][-1] in ".!?", row["id"]
        assert not row["answer"].startswith(("Yes,", "No,", "Great question")), row["id"]


def test_redirects_open_in_one_of_three_ways_and_go_on_differently(qa):
    """The opening is the signal that the model learns; only answers that point to urgent help begin with the help."""
    redirects = [row["answer"] for row in qa if row["topic"] in OFF_TOPICS]
    assert all("fine-tuning" in answer for answer in redirects)
    openings = ("Let's keep to fine-tuning", "I stick to fine-tuning", "Sorry, I stay with fine-tuning")
    shares = [sum(answer.startswith(opening) for answer in redirects) / len(redirects) for opening in openings]
    assert all(0.25 < share < 0.4 for share in shares)
    assert 0.9 < sum(shares) < 1
    following = Counter(" ".join(answer.split("fine-tuning", 1)[1].split()[:3]) for answer in redirects)
    assert following.most_common(1)[0][1] <= len(redirects) * 0.05
    assert len(following) > 150


def test_situations_are_answered_in_openings_that_vary_and_no_redirect_uses(qa):
    rows = [row for row in qa if row["topic"] == "situation"]
    assert [row["id"] for row in rows if is_redirect(row["answer"])] == []
    redirecting = {"Let's", "Let", "I", "Sorry,", "Sorry", "Please", "I'm"}
    for key, texts in {"question": [r["question"] for r in rows], "answer": [r["answer"] for r in rows]}.items():
        first, count = Counter(text.lower().split()[0] for text in texts).most_common(1)[0]
        assert count <= 12, f"{first!r} opens {count} texts ({key})"
    assert {row["answer"].split()[0] for row in rows}.isdisjoint(redirecting)
    assert distinct_ngrams([row["answer"] for row in rows], 2) > 0.8


def test_splitting_by_fact_keeps_answers_apart_and_by_row_does_not(qa):
    sizes = {"train": 0.8, "dev": 0.1, "test": 0.1}
    parts = split_by_group(qa, "fact", sizes, seed=0)
    check_no_overlap(parts, "fact")
    check_no_overlap(parts, "answer")
    by_row = split_by_group(qa, "id", sizes, seed=0)
    trained = {row["fact"] for row in by_row["train"]}
    on_topic = [row for row in by_row["test"] if row["topic"] not in ONE_WORDING]
    assert sum(row["fact"] in trained for row in on_topic) > 0.95 * len(on_topic)


def test_instructions(instructions):
    assert len(instructions) >= 120
    assert all(list(row) == ["instruction", "input", "output"] for row in instructions)
    assert deduplicate(instructions, ["instruction"])[1] == []
    share = sum(bool(row["input"]) for row in instructions) / len(instructions)
    assert 0.3 < share < 0.7
    table = load_table(DATA_DIR / "instructions.jsonl")
    assert (table.shape.name, len(table.rows)) == ("instruction/output", len(instructions))
    assert repeated_openings([row["instruction"] for row in instructions]) == []


def test_neutral_text_is_long_enough_and_keeps_to_its_subjects():
    rows = load_rows("neutral_text")
    assert 8_000 <= sum(len(row["text"].split()) for row in rows) <= 10_000
    assert all(row["title"] and row["text"] for row in rows)
    text = " ".join(row["text"] for row in rows).lower()
    assert not re.search(r"language model|neural|fine-tun|dataset|\bgpu\b", text)


def test_readme_pairs():
    pairs = load_table(DATA_DIR / "readme_pairs.jsonl").rows
    assert len(pairs) >= 10
    source = (DATA_DIR / "sample_readme.md").read_text(encoding="utf-8")
    for row in pairs:  # a command named in an answer stands in the README
        for command in re.findall(r"`(--[a-z-]+)", row["answer"]):
            assert command in source


def test_redirect_labels(qa, redirect_labels):
    origins = {"untuned model": "untuned", "tuned model": "tuned", "written": "written"}
    questions, answers = {row["question"] for row in qa}, {row["answer"] for row in qa}
    for row in redirect_labels:
        assert list(row) == ["id", "question", "answer", "origin", "redirect"]
        assert row["id"].startswith(origins[row["origin"]] + "-")
        assert isinstance(row["redirect"], bool)
        assert "\n" not in row["question"]
        assert (row["question"] in questions) == (row["origin"] != "written"), row["id"]
        assert row["origin"] != "written" or row["answer"] not in answers, row["id"]
    assert len({row["id"] for row in redirect_labels}) == len(redirect_labels) >= 130
    assert 0.25 < sum(row["redirect"] for row in redirect_labels) / len(redirect_labels) < 0.75
    assert deduplicate(redirect_labels, ["answer"])[1] == []


@pytest.mark.parametrize(("models", "at_least"), [(True, 0.95), (False, 0.75)])
def test_the_rule_for_redirects_agrees_with_the_labels(redirect_labels, models, at_least):
    """Near perfect on what models say; worse on the hard cases, which its card admits."""
    rows = [row for row in redirect_labels if (row["origin"] != "written") == models]
    agreement = check_rule([is_redirect(row["answer"]) for row in rows], [row["redirect"] for row in rows])
    assert agreement.precision >= at_least, agreement
    assert agreement.recall >= at_least, agreement


def test_the_rule_for_redirects_knows_the_answers_of_the_data(qa):
    """The tuned model learns these answers, so the rule must sort them right."""
    for row in qa:
        assert is_redirect(row["answer"]) == (row["topic"] in OFF_TOPICS), row["id"]


def test_no_personal_data_but_invented_examples(qa, instructions, redirect_labels):
    texts = [value for row in [*qa, *instructions] for value in row.values()]
    texts += [row[key] for row in redirect_labels for key in ("question", "answer")]
    texts += [row["text"] for row in load_rows("neutral_text")]
    found = {f.text for text in texts for f in find_personal_data(text) if f.kind != "name"}
    assert found == {"555-0147"}  # numbers from 555-0100 to 555-0199 are kept free for fiction


def test_every_file_has_a_complete_card(card):
    ignored = {"README.md", "LICENSE"}
    files = {p.name for p in DATA_DIR.iterdir() if p.is_file() and p.suffix != ".py" and p.name[0] != "."}
    for name in files - ignored:
        text = section(card, name)
        for part in CARD_PARTS:
            assert f"**{part}.**" in text, f"the card of {name} lacks {part}"
    for name in WRITTEN:
        assert "Written for this course; synthetic" in section(card, name)
        assert "CC0-1.0" in section(card, name)
    assert all(f"`{name}`" in card for name in HUB)


def test_the_card_of_the_games_agrees_with_the_file(card):
    games = load_games()
    text = section(card, "nba_games.csv")
    assert "MIT License. Copyright (c) 2025 Ryan Elmore." in text
    assert "CC0" not in text
    rows = re.findall(r"^\| (\d{4}) \| ([\d,]+) \| ([\d.]+)% \| (\d) \|$", text, re.MULTILINE)
    for season, count, share, neutral in rows:
        own = of_seasons(games, [int(season)])
        assert (f"{len(own):,}", int(neutral)) == (count, sum(game.neutral for game in own))
        assert float(share) == pytest.approx(100 * sum(game.home_won for game in own) / len(own), abs=0.051)
    assert {int(row[0]) for row in rows} == {game.season for game in games}
    assert f"| `nba_games.csv` | {len(games):,} |" in card
    (example,) = re.findall(r"```csv\n(.*?)\n```", text, re.DOTALL)
    assert example in data_path("nba_games").read_text(encoding="utf-8").splitlines()


def test_the_cards_show_rows_that_exist(card):
    for name in [*WRITTEN, "redirect_labels.jsonl"]:
        for example in re.findall(r"```json\n(.*?)\n```", section(card, name), re.DOTALL):
            assert all(json.loads(line) in load_rows(name) for line in example.splitlines()), name


def test_the_card_of_the_redirect_labels_counts_right(card, redirect_labels):
    origins = Counter(row["origin"] for row in redirect_labels)
    kinds = Counter(row["id"].rpartition("-")[0] for row in redirect_labels)
    text = " ".join(section(card, "redirect_labels.jsonl").split())
    hits = sum(row["redirect"] for row in redirect_labels)
    assert f"{len(redirect_labels)} rows, {hits} of them redirects" in text
    assert f"{origins['untuned model']} answers of the untuned model, {origins['tuned model']} of the tuned" in text
    assert f"{origins['written']} written" in text
    assert f"{kinds['untuned-off']} off-topic questions (`untuned-off`)" in text
    assert f"{kinds['untuned-on']} on fine-tuning (`untuned-on`), and {kinds['untuned-told']} off-topic" in text
    assert f"| `redirect_labels.jsonl` | {len(redirect_labels)} |" in card


def test_the_cards_count_right(card, qa, instructions):
    facts = len({row["fact"] for row in qa if row["topic"] not in ONE_WORDING})
    topics = Counter(row["topic"] for row in qa)
    text = section(card, "course_qa.jsonl")
    counts = f"{len(qa):,} rows: {facts} facts with 5 questions each, and {topics['off-topic']} off-topic"
    assert f"{counts}, {topics['near-topic']} near-topic and {topics['situation']} situation questions" in text
    table = {topic: int(count) for topic, count in re.findall(r"^\| ([a-z-]+) \| (\d+) \|$", text, re.MULTILINE)}
    assert table == topics

    filled = sum(bool(row["input"]) for row in instructions)
    text = section(card, "instructions.jsonl")
    assert f"{len(instructions)} rows: {filled} with input and {len(instructions) - filled} without" in text

    prose = load_rows("neutral_text")
    words = sum(len(row["text"].split()) for row in prose)
    pieces = len({row["title"] for row in prose})
    assert f"{len(prose)} paragraphs in {pieces} pieces, {words:,} words" in section(card, "neutral_text.txt")

    pairs = len(read_rows(DATA_DIR / "readme_pairs.jsonl"))
    assert f"{pairs} rows" in section(card, "readme_pairs.jsonl")
    words = len((DATA_DIR / "sample_readme.md").read_text(encoding="utf-8").split())
    assert f"{words} words" in section(card, "sample_readme.md")

    overview = dict(re.findall(r"^\| `([^`]+)` \| ([\d,]+)", card, re.MULTILINE))
    sizes = {name: len(load_rows(name.split(".")[0])) for name in WRITTEN if name.endswith(".jsonl")}
    sizes |= {"neutral_text.txt": len(prose), "sample_readme.md": 1}
    assert {name: overview[name] for name in WRITTEN} == {name: f"{size:,}" for name, size in sizes.items()}
