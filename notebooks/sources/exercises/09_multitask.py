# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 09: Summaries and several tasks
#
# Four exercises on dialogues, shares and batches; each takes five to ten minutes. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/09_multitask.ipynb`.

# %%
from finetune_utils import hardware
from finetune_utils.models import load_model

hardware.quiet()
TALK = "Ana: Tea or coffee?\nBo: Coffee.\nAna: We have none.\nBo: Then tea."

# %% [markdown]
# ## 09.1 Another free baseline (easy, 5 minutes)
#
# In a dialogue the outcome comes late. Write `last_turns(dialogue, count)`: the last `count` turns as one line of text, in their order, joined by a blank. A dialogue with
# fewer turns is returned whole. Example: `last_turns(TALK, 2)` is `"Ana: We have none. Bo: Then tea."`.
#
# <details><summary>Hint</summary>Every turn is a line: <code>dialogue.split("\n")</code>. A slice with a negative start counts from the end.</details>

# %% tags=["exercise"]
def last_turns(dialogue, count):
    # solution
    return " ".join(dialogue.split("\n")[-count:])
    # stub: return None
    # end solution


# %% tags=["check"]
got = last_turns(TALK, 2)
assert got is not None, "09.1 returns None: cut the dialogue into lines, take the last ones, join them."
assert got != "Ana: Tea or coffee? Bo: Coffee.", "These are the first two turns, the lesson's baseline. Take them from the end."
assert got != "Bo: Then tea. Ana: We have none.", "The turns are in reverse: who answers must stand after who asks."
assert "\n" not in got, "The turns still stand on lines of their own: join them with a blank."
assert got == "Ana: We have none. Bo: Then tea.", f"You return {got!r}: keep the names, and join with one blank."
assert last_turns(TALK, 9) == TALK.replace("\n", " "), "With a count above the number of turns, return the whole dialogue."
print("09.1 is right.")

# %% [markdown]
# Which end of a dialogue makes the better baseline? **Predict**, then run, and read a few of both.

# %%
from finetune_utils.data import load_rows
from finetune_utils.scores import rouge
from finetune_utils.summaries import first_turns

rows = load_rows("dialogues", limit=60)
for name, rule in {"first two turns": first_turns, "last two turns": lambda text: last_turns(text, 2)}.items():
    found = rouge([rule(row["dialogue"]) for row in rows], [row["summary"] for row in rows])["rougeL"]
    print(f"ROUGE-L of the {name}: {sum(found) / len(found):.3f}")

# %% [markdown]
# ## 09.2 Shares with a cap (easy, 5 minutes)
#
# Write `capped_shares(sizes, cap)`: each task's share of the batches by size, where a task with more than `cap` rows counts as if it had `cap`. The shares sum to 1. Example:
# `capped_shares({"small": 100, "huge": 9900}, 300)` is `{"small": 0.25, "huge": 0.75}`.
#
# <details><summary>Hint</summary>Cap every size first, then divide by the sum of the capped sizes.</details>

# %% tags=["exercise"]
def capped_shares(sizes, cap):
    # solution
    capped = {name: min(size, cap) for name, size in sizes.items()}
    return {name: size / sum(capped.values()) for name, size in capped.items()}
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.multitask import sampling_shares

sizes = {"small": 100, "huge": 9900}
got = capped_shares(sizes, 300)
assert got is not None, "09.2 returns None: return one share for each task, by its name."
assert abs(sum(got.values()) - 1) < 1e-9, f"Your shares sum to {sum(got.values()):.3f}: divide by the sum of the capped sizes, not by the sum of all rows."
assert abs(got["small"] - 0.01) > 1e-9, "The huge task still takes nearly everything: cap the sizes before you divide."
assert all(abs(got[name] - share) < 1e-9 for name, share in {"small": 0.25, "huge": 0.75}.items()), f"You return {got}: 100 and 300 of 400 are a quarter and three quarters."
assert all(abs(share - sampling_shares(sizes)[name]) < 1e-9 for name, share in capped_shares(sizes, 100_000).items()), "A cap above all sizes must change nothing."
three, wanted = capped_shares({"a": 5, "b": 7, "c": 50}, 6), sampling_shares({"a": 5, "b": 7, "c": 50}, limit=6)
assert all(abs(three[name] - share) < 1e-9 for name, share in wanted.items()), "With three tasks the shares are off: is every size capped?"
print("09.2 is right, and the course's function agrees.")

# %% [markdown]
# ## 09.3 Batches of one task (medium, 10 minutes)
#
# `rows` is a mixed list of pairs (task, row). Write `one_task_batches(rows, size)`: a list of batches, each a list of `size` pairs of the *same* task. Keep the order of the rows within a task,
# and put a batch into the list when it becomes full. What does not fill a batch at the end is left out. Example with size 2: `[("a", 1), ("b", 2), ("a", 3), ("a", 4)]` gives
# `[[("a", 1), ("a", 3)]]`.
#
# <details><summary>Hint</summary>Keep one open batch for each task in a dict. When it has <code>size</code> rows, move it to the result and open a new one.</details>

# %% tags=["exercise"]
def one_task_batches(rows, size):
    # solution
    batches, open_batches = [], {}
    for task, row in rows:
        batch = open_batches.setdefault(task, [])
        batch.append((task, row))
        if len(batch) == size:
            batches.append(open_batches.pop(task))
    return batches
    # stub: return None
    # end solution


# %% tags=["check"]
mixed = [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5), ("c", 6), ("a", 7)]
got = one_task_batches(mixed, 2)
assert got is not None, "09.3 returns None: return a list of batches."
assert all(len({task for task, _ in batch}) == 1 for batch in got), "A batch holds two tasks: the one with the longer answers would decide its loss. Keep one open batch for each task."
assert all(len(batch) == 2 for batch in got), "A batch is not full: leave out what remains at the end."
assert [("a", 1), ("a", 3)] in got, "The first rows of task a are missing: rows 1 and 3 fill its first batch."
wanted = [[("a", 1), ("a", 3)], [("b", 2), ("b", 5)], [("a", 4), ("a", 7)]]
assert sorted(got) == sorted(wanted), f"You return {got}; expected the batches {wanted}."
assert got == wanted, "The batches are right, but tasks do not take turns: put a batch into the list at the moment it is full, not task by task."
print("09.3 is right.")

# %% [markdown]
# ## 09.4 A row for an encoder-decoder (medium, 10 minutes)
#
# Write `pair(question, answer, tokenizer)`: a dict with `input_ids`, the tokens of the question, and `labels`, the tokens of the answer. Both end with the tokenizer's end token
# (`tokenizer.eos_token_id`). Nothing is masked. Call the tokenizer with `add_special_tokens=False`, so that it adds nothing by itself.
#
# <details><summary>Hint</summary><code>tokenizer(text, add_special_tokens=False)["input_ids"]</code> is a list; add a list with one id to it.</details>

# %% tags=["exercise"]
def pair(question, answer, tokenizer):
    # solution
    end = [tokenizer.eos_token_id]
    return {
        "input_ids": tokenizer(question, add_special_tokens=False)["input_ids"] + end,
        "labels": tokenizer(answer, add_special_tokens=False)["input_ids"] + end,
    }
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.seq2seq import encode_pairs

tokenizer = load_model("tiny", say=lambda message: None)[1]
end = tokenizer.eos_token_id
got = pair("What do they drink?", "Tea.", tokenizer)
assert got is not None, "09.4 returns None: return a dict with input_ids and labels."
assert set(got) == {"input_ids", "labels"}, f"Expected the keys input_ids and labels, found {sorted(got)}."
assert -100 not in got["labels"], "Nothing is masked here: the encoder reads the question, and labels hold the answer alone."
assert len(got["labels"]) < len(got["input_ids"]), "The labels are as long as the question: in an encoder-decoder they hold the answer only, and may have another length."
assert got["labels"][-1] == end, "The answer has no end token, so the model would never learn to stop."
assert got["input_ids"][-1] == end, "The question has no end token. T5 saw one at the end of every input when it was pretrained."
assert got["input_ids"].count(end) == got["labels"].count(end) == 1, "There is more than one end token in a text: add it once."
assert got == encode_pairs([{"question": "What do they drink?", "answer": "Tea."}], tokenizer)[0], "The tokens differ from the course's own: encode the two texts apart."
print("09.4 is right.")
