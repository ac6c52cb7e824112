# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 03: Tokenizing
#
# Five exercises on the tiny model; each takes five to fifteen minutes. Replace what stands below each task, run
# the cell, then run the check in the next cell. A failing check says what is probably wrong. Solutions:
# `notebooks/solutions/03_tokenizing.ipynb`.

# %%
import torch

from finetune_utils import hardware
from finetune_utils.models import load_model, load_tokenizer

hardware.quiet()
model, tokenizer = load_model("tiny", say=lambda message: None)  # SmolLM2's tokenizer, random weights
minilm = load_tokenizer("minilm")

# %% [markdown]
# ## 03.1 What a text costs (easy, 5 minutes)
#
# Write `cost(text, tokenizer)`: how many tokens the text itself takes, without the special tokens that some
# tokenizers put around it. Example: `cost(" otorhinolaryngology", tokenizer)` is `6`.
#
# <details><summary>Hint</summary>Calling a tokenizer gives a dictionary; you want the length of its
# <code>input_ids</code>. Look at <code>minilm("Hi")</code>, then try
# <code>add_special_tokens=False</code>.</details>


# %% tags=["exercise"]
def cost(text, tokenizer):
    # solution
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
    # stub: return None  # your line
    # end solution


# %% tags=["check"]
got = cost(" otorhinolaryngology", tokenizer)
assert got is not None, "03.1: cost() returns None. Call the tokenizer and count the input_ids it gives back."
assert got != 20, "You counted the letters. Call the tokenizer first, then count its ids."
assert got != 2, "You counted the entries of the dictionary (input_ids and attention_mask), not the ids in it."
assert got == 6, (
    f"The word has 6 pieces in SmolLM2's tokenizer, you return {got}. Pass the text on as it is, with its space."
)
got = cost("2024", minilm)
assert got != 4, "MiniLM cuts 2024 into 2 pieces, you count 4: [CLS] and [SEP] are no part of the text. Leave them out."
assert got == 2, f"MiniLM cuts 2024 into 2 pieces, you return {got}. Use the tokenizer that is passed in."
print("03.1 is right.")

# %% [markdown]
# ## 03.2 One training example (medium, 10 minutes)
#
# Write `build(prompt_ids, answer_ids, end_id)`. It returns `{"input_ids": [...], "labels": [...]}`: the prompt,
# the answer and the end-of-turn token, with labels for the answer and the end only. Do not shift.
#
# Example: `build([5, 6], [7], 9)` gives ids `[5, 6, 7, 9]` and labels `[-100, -100, 7, 9]`.
#
# <details><summary>Hint</summary>Join the lists first. The labels have the same length: one -100 for every prompt
# token, then the same ids as the input. Decide by <em>position</em>; the prompt may hold the end token
# too.</details>


# %% tags=["exercise"]
def build(prompt_ids, answer_ids, end_id):
    # solution
    supervised = answer_ids + [end_id]
    return {"input_ids": prompt_ids + supervised, "labels": [-100] * len(prompt_ids) + supervised}
    # stub: ids = prompt_ids + answer_ids
    # stub: return {"input_ids": ids, "labels": list(ids)}
    # end solution


# %% tags=["check"]
got = build([5, 9, 6], [7, 5], 9)
ids, labels = got["input_ids"], got["labels"]
assert ids[-1:] == [9], (
    f"The example must end with the end-of-turn token 9, or nothing teaches the model to stop; ids: {ids}."
)
assert ids == [5, 9, 6, 7, 5, 9], f"The ids are prompt, answer, end: [5, 9, 6, 7, 5, 9]; yours are {ids}."
assert len(labels) == len(ids), f"There are {len(ids)} ids and {len(labels)} labels: every position needs a label."
assert labels[:3] == [-100] * 3, (
    f"The three prompt positions must be -100; your labels start {labels[:3]}. Also mask the 9 in the prompt: it ends the "
    "user's turn."
)
assert labels[-1] == 9, "The last label is the end-of-turn token itself. Masked, the model never learns to stop."
assert labels != [-100, -100, 7, 5, 9, -100], "Your labels are shifted by one. The model does that; leave them in line."
assert labels[3:] == [7, 5, 9], f"The answer 7, 5 and the end 9 are trained; your labels there are {labels[3:]}."
print("03.2 is right.")

# %% [markdown]
# ## 03.3 A collator that lets the model stop (medium, 10 minutes)
#
# Write `collate(examples, pad_id)`: pad a list of examples on the right to the longest. Return a dictionary of
# three lists of lists: `input_ids`, `attention_mask` (1 real, 0 padding) and `labels` (padding gets -100).
#
# The pad id may also be the end-of-turn token, and it may be 0.
#
# <details><summary>Hint</summary>How many pads a row needs follows from lengths alone: <code>longest -
# len(ids)</code>. Never compare an id with <code>pad_id</code>.</details>


# %% tags=["exercise"]
def collate(examples, pad_id):
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    # solution
    longest = max(len(example["input_ids"]) for example in examples)
    for example in examples:
        real = len(example["input_ids"])
        filling = longest - real
        batch["input_ids"].append(example["input_ids"] + [pad_id] * filling)
        batch["attention_mask"].append([1] * real + [0] * filling)
        batch["labels"].append(example["labels"] + [-100] * filling)
    # stub: ...  # fill the three lists, one entry a row
    # end solution
    return batch


# %% tags=["check"]
pair = [{"input_ids": [5, 7, 9], "labels": [-100, 7, 9]}, {"input_ids": [6, 8, 7, 4, 9], "labels": [-100, 8, 7, 4, 9]}]
batch = collate(pair, 9)
ids, mask, labels = (batch[name] for name in ("input_ids", "attention_mask", "labels"))
assert len(ids) == len(mask) == len(labels) == 2, "03.3: two examples go in, so each of the three lists has two rows."
assert {len(row) for row in ids + mask + labels} == {5}, "All rows must be as long as the longest: 5 positions."
assert ids[0] == [5, 7, 9, 9, 9], f"Pad on the right with pad_id; your first row is {ids[0]}."
assert mask[0] != [1, 1, 0, 0, 0], "The first 9 is real, the end of the turn: mask by length, not by id."
assert mask == [[1, 1, 1, 0, 0], [1] * 5], f"The mask is 1 for real and 0 for padding; yours: {mask}."
assert labels[0] != [-100, 7, -100, -100, -100], "You masked every 9, the real end with it: this model never stops."
assert labels[0] != [-100, 7, 9, 9, 9], "The padding is trained here: its labels must be -100, not the pad id."
assert labels[0] == [-100, 7, 9, -100, -100], f"Keep the labels and add -100 on the right; yours: {labels[0]}."
assert labels[1] == [-100, 8, 7, 4, 9], f"The longest row needs no padding; its labels became {labels[1]}."
assert collate(pair, 0)["input_ids"][0] == [5, 7, 9, 0, 0], "With pad id 0, pad with 0: it is an id like any other."
print("03.3 is right.")

# %% [markdown]
# ## 03.4 The loss by hand (hard, 15 minutes)
#
# Write `masked_loss(logits, labels)`: the mean NLL (nats per token) over the supervised positions. `logits` is a
# tensor of shape (length, vocabulary), `labels` a list of the same length, not shifted. Return a number. Use
# `log_softmax`, not `cross_entropy`.
#
# <details><summary>Hint</summary>Position i predicts token i + 1. So drop the last row of the logits and the
# first label. Collect <code>-log_probabilities[i, label]</code> where the label is not -100, and divide by how
# many you collected.</details>


# %%
ids = tokenizer("The dog ran away.<|im_end|>")["input_ids"]
labels = [-100, -100, *ids[2:]]
with torch.inference_mode():
    logits = model(torch.tensor([ids], device=model.device)).logits[0].float().cpu() * 30  # sharper, so mistakes show
    out = model(torch.tensor([ids], device=model.device), labels=torch.tensor([labels], device=model.device))


# %% tags=["exercise"]
def masked_loss(logits, labels):
    # solution
    log_probabilities = logits[:-1].log_softmax(-1)
    losses = [-log_probabilities[i, label].item() for i, label in enumerate(labels[1:]) if label != -100]
    return sum(losses) / len(losses)
    # stub: return None  # three lines will do
    # end solution


# %% tags=["check"]
got = masked_loss(logits, labels)
losses = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
right = losses[1:].mean().item()
assert got is not None, "03.4: masked_loss() returns None. Shift, take -log p of each supervised label, and average."
assert abs(got - losses.mean()) > 1e-4, "You averaged all positions. Leave out those whose label is -100."
assert abs(got - 4 * right / 6) > 1e-4, "Divide by the number of supervised tokens, 4, not by the length."
assert abs(got - 4 * right) > 1e-4, "You return the sum. Divide it by the number of supervised tokens."
assert abs(got - right) < 1e-4, (
    f"You return {got:.4f}, expected {right:.4f}: does row i of the logits meet label i + 1?"
)
assert abs(masked_loss(out.logits[0].cpu(), labels) - out.loss.item()) < 1e-4, (
    "The model's own loss differs from yours."
)
print("03.4 is right, and the model agrees.")

# %% [markdown]
# ## 03.5 Count the waste (medium, 10 minutes)
#
# Write `padding_share(lengths, batch_size)`: cut the rows into batches in the given order, pad each batch to its
# longest row, and return the share of positions that are padding, between 0 and 1. A last, smaller batch counts.
#
# Example: lengths `3, 9, 4, 8` in batches of 2 take 18 + 16 = 34 positions for 24 tokens, so the share is `10 /
# 34`.
#
# <details><summary>Hint</summary><code>lengths[i : i + batch_size]</code> for every <code>i</code> in
# <code>range(0, len(lengths), batch_size)</code>. A batch takes its length times its maximum.</details>


# %% tags=["exercise"]
def padding_share(lengths, batch_size):
    # solution
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    positions = sum(len(batch) * max(batch) for batch in batches)
    return 1 - sum(lengths) / positions
    # stub: return 1 - sum(lengths) / (len(lengths) * max(lengths))
    # end solution


# %% tags=["check"]
got = padding_share([3, 9, 4, 8], 2)
assert got != 1 - 24 / 36, "You pad every row to the longest of all. Pad to the longest of each batch."
assert abs(got - 10 / 24) > 1e-9, "You divided the padding by the real tokens. Divide it by all positions."
assert abs(got - 10 / 34) < 1e-9, f"3, 9, 4, 8 in batches of 2 give 10 / 34 = {10 / 34:.3f}; you return {got:.3f}."
assert abs(padding_share([5, 5, 2], 2)) < 1e-9, (
    "5, 5 and then 2 alone need no padding: the last batch has one row only."
)
mixed = [70, 120, 64, 110, 90, 75, 100, 66]
print(f"03.5 is right. Mixed {padding_share(mixed, 2):.0%}, sorted {padding_share(sorted(mixed), 2):.0%} padding.")
