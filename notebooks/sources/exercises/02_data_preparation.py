# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 02: Data preparation
#
# Five exercises. Write your code where the cell says so, run it, then run the check below it. The check says what is
# probably wrong. No training, no network; every cell takes a moment.

# %%
import re

from finetune_utils.data import load_rows, normalize
from finetune_utils.errors import UserError
from finetune_utils.quality import near_duplicates, words_of
from finetune_utils.runs import course_rows

# %% [markdown]
# ## 02.1 Choose the right template (easy, 5 minutes)
#
# Write `hydrate(row)` for a row with `instruction` and `input`. If the input holds nothing but spaces or line breaks, or is
# absent, use the template `WITHOUT`, else `WITH`.
#
# Example: `hydrate({"instruction": "Name a fruit.", "input": "  "})` gives
# `"### Instruction:\nName a fruit.\n\n### Response:\n"`.
#
# <details><summary>Hint</summary>An absent key is found with `row.get("input", "")`. `"  ".strip()` is an empty string,
# and an empty string counts as false.</details>

# %% tags=["exercise"]
WITH = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
WITHOUT = "### Instruction:\n{instruction}\n\n### Response:\n"


def hydrate(row):
    # solution
    if row.get("input", "").strip():
        return WITH.format(instruction=row["instruction"], input=row["input"])
    return WITHOUT.format(instruction=row["instruction"])
    # stub: return WITH.format(**row)
    # end solution


# %% tags=["check"]
blank = hydrate({"instruction": "Name a fruit.", "input": "  "})
assert "### Input:" not in blank, (
    "A row whose input is blank still gets the heading '### Input:'. Strip the input before you ask whether it is empty."
)
assert blank == "### Instruction:\nName a fruit.\n\n### Response:\n", f"Use WITHOUT as it stands; got {blank!r}."
assert hydrate({"instruction": "Name a fruit."}) == blank, "A row without the key `input` should be treated the same."
full = hydrate({"instruction": "Sort.", "input": "b a"})
assert "### Input:\nb a\n" in full, "When there is an input, it has to stand in the prompt: the model cannot guess it."
print("Right.")

# %% [markdown]
# ## 02.2 Measure a leak (easy, 5 minutes)
#
# Write `leak(train, test, key)`: the share of test rows whose value of `key` also occurs among the training rows.
#
# Example: with training answers `a, b` and test answers `a, a, c`, the leak by `answer` is two thirds.
#
# <details><summary>Hint</summary>Collect the training values in a set first. Then go through the test rows, not through the set of their
# values: a value that occurs twice in the test counts twice.</details>

# %% tags=["exercise"]
def leak(train, test, key):
    # solution
    known = {row[key] for row in train}
    return sum(row[key] in known for row in test) / len(test)
    # stub: return 0.0
    # end solution


# %% tags=["check"]
train = [{"question": "1", "answer": "a"}, {"question": "2", "answer": "b"}]
test = [{"question": "3", "answer": "a"}, {"question": "4", "answer": "a"}, {"question": "5", "answer": "c"}]
assert abs(leak(train, test, "answer") - 2 / 3) < 1e-9, (
    f"Two of the three test rows have an answer that was trained on, so the leak is 2/3; got {leak(train, test, 'answer')}. "
    "Count test rows, not distinct values, and divide by the number of test rows."
)
assert leak(train, test, "question") == 0, "No question occurs in both parts, so the leak by question is 0: use `key`."
print("Right: by question the split looks clean, by answer it is not.")

# %% [markdown]
# ## 02.3 Split by group, on every machine the same (medium, 12 minutes)
#
# Write `split(rows, key, share)` that returns `(train, test)`. All rows with an equal `key` land on the same side, `share` of the distinct keys
# (rounded) go to train, and the result must not depend on the order of the rows: shuffle them, and every row stays on its side.
#
# Example: with ten facts and `share=0.8`, eight facts are in train, with all their rows.
#
# <details><summary>Hint</summary>Put the distinct keys into an order that looks random and is fixed: sort them by
# `hashlib.sha256(key.encode()).hexdigest()`. Python's own `hash()` of a text changes with every start. The first keys are the training keys.</details>

# %% tags=["exercise"]
import hashlib


def split(rows, key, share):
    # solution
    groups = sorted({row[key] for row in rows}, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    chosen = set(groups[: round(share * len(groups))])
    return [row for row in rows if row[key] in chosen], [row for row in rows if row[key] not in chosen]
    # stub: cut = round(share * len(rows))
    # stub: return rows[:cut], rows[cut:]
    # end solution


# %% tags=["check"]
rows = [{"id": f"{fact}-{i}", "fact": fact} for i in range(3) for fact in "abcdefghij"]
parts = split(rows, "fact", 0.8)
facts = [{row["fact"] for row in part} for part in parts]
assert not facts[0] & facts[1], (
    f"The facts {sorted(facts[0] & facts[1])} are on both sides. Decide per fact, not per row: first choose the training "
    "facts, then send each row after its fact."
)
assert len(facts[0]) == 8, f"8 of 10 facts belong to train; got {len(facts[0])}. Take the share of facts, not of rows."
assert len(parts[0]) + len(parts[1]) == 30, "A row got lost, or was dealt out twice."
back = split(rows[::-1], "fact", 0.8)
assert {row["id"] for row in back[0]} == {row["id"] for row in parts[0]}, (
    "With the rows in reverse order, other facts go to train. Sort the keys by something that depends on the key alone."
)
assert facts[0] != set("abcdefgh"), "Alphabetical order is no chance order: facts on one topic often share a prefix."
print("Right.")

# %% [markdown]
# ## 02.4 Write a pair (medium, 10 minutes)
#
# Nobody has asked about the option `--format` of the README yet. Read that part, then write one pair of your own about it.
# The question: at least four words, in a user's voice. The answer: at most 30 words, names both output formats and which of them is the default.

# %%
readme = load_rows("sample_readme")
print(next(row["text"] for row in readme if "--format" in row["text"]))
CSV_IS_DEFAULT = r"defaults?( is| to|:)? `?csv|csv`?( is|,)? \(?(the |by )?default(?!s?( is| to|:)? `?text)"  # for the check

# %% [markdown]
# <details><summary>Hint</summary>Start from a situation: someone wants to open the list in a spreadsheet. What would they
# type into a search box? Then answer with words that the README uses.</details>

# %% tags=["exercise"]
# solution
my_pair = {
    "question": "How can I open my seed list in a spreadsheet program?",
    "answer": "Use `--format csv` with `list`. The output format can be text or csv, and the default is text.",
}
# stub: my_pair = {"question": "", "answer": ""}
# end solution

# %% tags=["check"]
try:
    pair = normalize([my_pair]).rows[0]
except UserError as error:
    raise AssertionError(f"The pair is not complete yet ({error}) Fill in both fields.") from None
answer, known = words_of(pair["answer"]), words_of(" ".join(row["text"] for row in readme))
assert len(words_of(pair["question"])) >= 4, "The question is shorter than four words: write it as a person would ask."
assert {"csv", "text"} <= set(answer) and any(word.startswith("default") for word in answer), "The answer should name `csv` and `text`, and say which is the default."
assert not re.search(CSV_IS_DEFAULT, pair["answer"].lower()), "Read the part on `--format` again: is `csv` the default?"
assert len(answer) <= 30, f"The answer has {len(answer)} words; at most 30 keep it readable."
share = sum(word in known for word in answer) / len(answer)
assert share >= 0.5, f"Only {share:.0%} of the answer's words are in the README. Is everything in it really said there?"
old = [row["question"] for row in load_rows("readme_pairs")]
alike = [old[i] for i, j, _ in near_duplicates([*old, pair["question"]], 0.6) if j == len(old)]
assert not alike, f"Your question is nearly a copy of {alike[0]!r}: ask it in another way."
print("A good pair. Read it once more: would you be content if a model answered so?")

# %% [markdown]
# ## 02.5 Find stamped rows (harder, 15 minutes)
#
# Write `opening_share(texts, words)`: the share of texts that begin with the most frequent opening of length `words`. Letter case does not
# matter. Texts with fewer words than that count as texts, but have no opening.
#
# Example: for `"What is X?"`, `"what is Y?"`, `"Why?"`, `"How does Z work?"` and two words, it is one half.
#
# <details><summary>Hint</summary>`words_of(text)[:words]` gives the opening in lower case. Turn it into a tuple and count with
# `collections.Counter`. Divide by the number of all texts.</details>

# %% tags=["exercise"]
from collections import Counter


def opening_share(texts, words):
    # solution
    openings = Counter(tuple(words_of(text)[:words]) for text in texts if len(words_of(text)) >= words)
    return max(openings.values(), default=0) / len(texts)
    # stub: ...
    # end solution


# %% tags=["check"]
four = ["What is X?", "what is Y?", "Why?", "How does Z work?"]
assert opening_share(four, 2) == 0.5, (
    f"'What is' begins two of the four texts, so the share is 0.5; got {opening_share(four, 2)}. Ignore case, and divide by all texts."
)
assert opening_share(["Why?", "Why?", "Why not ask?"], 2) == 1 / 3, "'Why?' has one word, so it has no opening of two words."
assert opening_share(["Why?"], 2) == 0, "When no text is long enough, the share is 0: give `max` a default."
part = course_rows().unseen
stamped = [f"What is {row['fact']}?" for row in part]
ours, theirs = (opening_share(texts, 2) for texts in ([row["question"] for row in part], stamped))
assert ours < 0.2 < theirs == 1, "On stamped rows the share is 1, on written rows it is small."
print(f"Right: {ours:.0%} of the course's questions share an opening of two words, and {theirs:.0%} of the stamped ones.")
