"""The dialogues and their summaries: schema, lengths, style, names that exist, and an outcome that comes late."""

import json
import re
from collections import Counter
from statistics import mean, median

import pytest

from finetune_utils.data import DATA_DIR, check_no_overlap, deduplicate, load_rows, split_by_group
from finetune_utils.hub import load_hub
from finetune_utils.quality import find_personal_data, near_duplicates, repeated_openings, words_of
from finetune_utils.scores import rouge

TOPICS = words_of(
    """friends family shopping work school health travel repairs neighbors clubs
    housing sports cooking pets money technology"""
)
SIZES = {"train": 100, "dev": 20, "test": 40}
ALIKE = 0.35  # the most alike pair of dialogues has 0.23; copies with other names have above 0.5
NOT_THIRD = re.compile(r"\b(?:I|me|my|mine|we|us|our|ours|you|your|yours)\b", re.IGNORECASE)
PAST = re.compile(r"(?<!\bis )(?<!\bare )\b(?:said|asked|told|wanted|agreed|decided|offered|suggested)\b")
SENTENCE = re.compile(r"(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)[.!?]\s+")
OPENERS = """A After Although As At Because Bowling Despite During Facing Four He Hearing Her Impressed In Instead Neither
No Once Plums Rather She Shocked Shopping Since The They Three To When While With"""
LITTLE_WORDS = set(
    words_of(
        """a an the of to in on at by for from with as and but or so than if when because since who which what that
        it its he she his her they their them is are was has have be not will can"""
    )
)


@pytest.fixture(scope="module")
def dialogues():
    return load_rows("dialogues")


def turns(row):
    return [tuple(line.split(": ", 1)) for line in row["dialogue"].split("\n")]


def speakers(row):
    return {name for name, _ in turns(row)}


def unquoted(text):
    return re.sub(r'"[^"]*"', "", text)


def first_two_turns(row):
    return " ".join(row["dialogue"].split("\n")[:2])


def unknown_names(row):
    """Capitalized words of the summary that stand nowhere in the dialogue."""
    known = set(re.findall(r"[A-Za-z][\w-]*", row["dialogue"]))
    unknown = []
    for sentence in SENTENCE.split(unquoted(row["summary"])):
        for place, word in enumerate(re.findall(r"[A-Za-z][\w-]*", sentence)):
            if word[0].isupper() and word not in known and not (place == 0 and word in OPENERS.split()):
                unknown.append(word)
    return unknown


def test_rows_have_the_fields_and_one_turn_a_line(dialogues):
    for row in dialogues:
        assert list(row) == ["id", "topic", "dialogue", "summary"]
        assert re.fullmatch(rf"{row['topic']}-\d\d", row["id"])
        lines = row["dialogue"].split("\n")
        assert 4 <= len(lines) <= 14, row["id"]
        assert all(re.fullmatch(r"[A-Z][\w.-]*( [\w.-]+){0,2}: \S.*[.!?\"]", line) for line in lines), row["id"]
        assert 2 <= len(speakers(row)) <= 4, row["id"]
        for text in [*lines, row["summary"]]:
            assert " ".join(text.split()) == text, row["id"]
            assert text.isascii(), row["id"]
    assert len({row["id"] for row in dialogues}) == len(dialogues) == 160


def test_no_topic_outweighs_the_others_in_the_file_or_at_its_top(dialogues):
    assert Counter(row["topic"] for row in dialogues) == dict.fromkeys(TOPICS, 10)
    assert len({row["topic"] for row in dialogues[: len(TOPICS)]}) == len(TOPICS)


def test_lengths_suit_a_small_context(dialogues):
    lengths = [len(row["dialogue"].split()) for row in dialogues]
    assert min(lengths) >= 50
    assert max(lengths) <= 170
    assert sum(len(turns(row)) <= 8 for row in dialogues) >= 25  # short ones with long turns are there as well


def test_summaries_are_one_or_two_sentences_in_the_third_person_and_the_present(dialogues):
    for row in dialogues:
        assert 12 <= len(row["summary"].split()) <= 40, row["id"]
        assert len(SENTENCE.split(row["summary"])) in (1, 2), row["id"]
        assert row["summary"].endswith("."), row["id"]
        assert not NOT_THIRD.search(unquoted(row["summary"])), row["id"]
        assert not PAST.search(unquoted(row["summary"])), row["id"]


def test_names_in_a_summary_stand_in_its_dialogue(dialogues):
    assert {row["id"]: unknown_names(row) for row in dialogues if unknown_names(row)} == {}


def test_a_wrong_name_in_a_summary_would_be_noticed(dialogues):
    row = next(row for row in dialogues if row["summary"].startswith("Keisha"))
    assert unknown_names({**row, "summary": row["summary"].replace("Keisha", "Keesha")}) == ["Keesha"]
    assert unknown_names({**row, "summary": row["summary"].replace("Tomasz", "Thomas")}) == ["Thomas"]


def test_every_summary_names_a_speaker_and_nearly_all_name_two_or_all(dialogues):
    named = []
    for row in dialogues:
        words = set(words_of(row["summary"].replace("'s", "")))
        named.append(sum(words_of(name)[-1] in words for name in speakers(row)))
        assert named[-1] >= 1 or "roommates" in words or "knitting" in words, row["id"]
    assert sum(count >= 2 for count in named) > 0.8 * len(named)


def test_summaries_do_not_all_open_alike(dialogues):
    assert repeated_openings([row["summary"] for row in dialogues], 3) == []
    first = Counter(words_of(row["summary"])[0] for row in dialogues)
    assert first.most_common(1)[0][1] <= 0.15 * len(dialogues)
    openings = repeated_openings([turns(row)[0][1] for row in dialogues], 3)
    assert all(count <= 2 for _, count in openings), openings


@pytest.mark.parametrize("column", ["dialogue", "summary"])
def test_no_two_rows_are_nearly_the_same_in_any_seeded_split(dialogues, column):
    assert deduplicate(dialogues, [column])[1] == []
    pairs = near_duplicates([row[column] for row in dialogues], ALIKE)
    assert [(dialogues[i]["id"], dialogues[j]["id"], round(s, 2)) for i, j, s in pairs] == []
    for seed in range(3):
        parts = split_by_group(dialogues, "id", SIZES, seed=seed)
        assert {name: len(rows) for name, rows in parts.items()} == SIZES
        check_no_overlap(parts, column)


def test_a_copy_with_other_names_would_count_as_a_near_duplicate(dialogues):
    copies = []
    for row in dialogues[::20]:
        copy = row["dialogue"]
        for number, name in enumerate(sorted(speakers(row))):
            copy = copy.replace(name, ["Xenia", "Quentin", "Zuzana", "Wolfgang"][number])
        copies.append(copy)
    found = near_duplicates([*(row["dialogue"] for row in dialogues), *copies], ALIKE)
    pairs = [(i, j, similarity) for i, j, similarity in found if i < len(dialogues)]
    assert {(i, j) for i, j, _ in pairs} == {(20 * k, len(dialogues) + k) for k in range(len(copies))}
    assert min(similarity for *_, similarity in pairs) > ALIKE + 0.1


def test_the_first_two_turns_are_a_weak_summary(dialogues):
    scores = rouge([first_two_turns(row) for row in dialogues], [row["summary"] for row in dialogues])
    assert 0.1 < mean(scores["rougeL"]) < 0.3
    assert mean(scores["rouge1"]) < 0.35


def test_what_a_summary_tells_mostly_comes_after_the_first_two_turns(dialogues):
    late = []
    for row in dialogues:
        names = set(words_of(" ".join(speakers(row))))
        told = set(words_of(row["summary"])) - LITTLE_WORDS - names
        first = set(words_of(first_two_turns(row))) & told
        rest = (set(words_of(" ".join(row["dialogue"].split("\n")[2:]))) & told) - first
        late.append(len(rest) / max(len(first | rest), 1))
    assert sum(share >= 0.5 for share in late) > 0.75 * len(late)


def test_rows_from_the_hub_have_the_same_columns(dialogues, tmp_path):
    path = tmp_path / "dialogsum.jsonl"
    path.write_text(json.dumps({**dialogues[0], "extra": 1}) + "\n", encoding="utf-8")
    (row,) = load_hub("knkarthick/dialogsum", data_files=path)
    assert list(row) == list(dialogues[0])
    assert row == dialogues[0]


def test_no_personal_data(dialogues):
    texts = [row[key] for row in dialogues for key in ("dialogue", "summary")]
    assert [f.text for text in texts for f in find_personal_data(text) if f.kind != "name"] == []


def test_the_card_counts_right_and_shows_a_row(dialogues):
    card = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    section = card.partition("## `dialogues.jsonl`")[2].partition("\n## ")[0]
    text = " ".join(section.split())
    assert f"{len(dialogues)} rows: 10 in each of {', '.join(TOPICS)}" in text
    sizes = [len(turns(row)) for row in dialogues]
    words = [len(row["dialogue"].split()) for row in dialogues]
    summaries = [len(row["summary"].split()) for row in dialogues]
    many = sum(len(speakers(row)) > 2 for row in dialogues)
    assert f"{min(sizes)} to {max(sizes)} turns (median {median(sizes):g})" in text
    assert f"{min(words)} to {max(words)} words (median {median(words):g}) a dialogue" in text
    assert f"{min(summaries)} to {max(summaries)} (median {median(summaries):g}) a summary" in text
    assert f"{many} have three or four speakers" in text
    assert f"| `dialogues.jsonl` | {len(dialogues)} |" in card
    (example,) = re.findall(r"```json\n(.*?)\n```", section, re.DOTALL)
    assert json.loads(example) in dialogues
