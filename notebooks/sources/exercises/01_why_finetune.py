# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 01: Why fine-tune
#
# Five exercises; each takes five to ten minutes. They run in seconds on the tiny model, which has random weights, and need no network. Replace what
# stands below each task, run the cell, then run the check in the next cell. A failing check says what is probably wrong. Solutions:
# `notebooks/solutions/01_why_finetune.ipynb`.

# %% [markdown]
# ## 01.1 A model that counts (easy, 5 minutes)
#
# Write `next_word(text, word)`. It returns a dictionary from each word that follows `word` in `text` to its probability. Words are separated by
# spaces. If `word` is never followed by anything, return an empty dictionary.
#
# Example: `next_word("a b a c a b", "a")` is `{"b": 2/3, "c": 1/3}`.
#
# <details><summary>Hint</summary>
#
# `itertools.pairwise(text.split())` gives all pairs of neighbors. Count the second word of each pair whose first word is `word`, then divide by
# how many pairs you counted.
#
# </details>

# %% tags=["exercise"]
from collections import Counter
from itertools import pairwise


def next_word(text, word):
    # solution
    following = Counter(second for first, second in pairwise(text.split()) if first == word)
    return {second: count / following.total() for second, count in following.items()}
    # stub: return {}  # your code here
    # end solution

# %% tags=["check"]
found = next_word("a b a c a b", "a")
assert set(found) == {"b", "c"}, (
    f"'a' is followed by 'b' and by 'c', so these two must be the keys; yours are {sorted(found)}. Look at pairs of neighbors."
)
assert abs(sum(found.values()) - 1) < 1e-9, (
    f"The probabilities add up to {sum(found.values()):.3f}, but something must come next: divide by the number of followers of 'a'."
)
assert abs(found["b"] - 2 / 3) < 1e-9, f"'b' follows 'a' twice and 'c' once, so 'b' has 2/3; yours is {found['b']:.3f}. Count how often, not only which."
found = next_word("the cat saw the mat and the", "the")
assert found == {"cat": 0.5, "mat": 0.5}, (
    f"The last 'the' is followed by nothing, so it must not be counted: expected one half each, got {found}."
)
assert next_word("a b", "b") == {}, "'b' ends the text and is followed by nothing: return an empty dictionary, and do not divide by 0."
print("Exercise 01.1 is right.")

# %% [markdown]
# ## 01.2 How probable is an answer? (medium, 10 minutes)
#
# A model gives a probability to every next token, so it also gives one to a whole answer: the product of the probabilities of its tokens, each after
# everything before it. Write `answer_nats(model, prompt_ids, answer_ids)`. It returns minus the natural logarithm of that product, a number in nats.
#
# Both arguments are lists of token ids. Example: if the answer has two tokens with probabilities `0.5` and `0.25`, the result is
# `-log(0.5) - log(0.25)`, which is `2.079`.

# %%
import torch

from finetune_utils import hardware
from finetune_utils.models import load_model
from finetune_utils.nll import token_nll

hardware.quiet()
model, tokenizer = load_model("tiny", say=lambda message: None)
prompt_ids = tokenizer("The capital of France is")["input_ids"]
answer_ids = tokenizer(" Paris, of course.")["input_ids"]

# %% [markdown]
# <details><summary>Hint</summary>
#
# Run the model once on `prompt_ids + answer_ids`. The logits at position `i` predict the token at position `i + 1`. So the first token of the
# answer is predicted at the last position of the prompt. `torch.log_softmax(logits, dim=-1)` gives the logarithms.
#
# </details>

# %% tags=["exercise"]
def answer_nats(model, prompt_ids, answer_ids):
    ids = torch.tensor([prompt_ids + answer_ids], device=model.device)
    with torch.inference_mode():
        logits = model(ids).logits[0].float()
    # solution
    logs = torch.log_softmax(logits, dim=-1)
    start = len(prompt_ids) - 1
    return -sum(logs[start + i, token].item() for i, token in enumerate(answer_ids))
    # stub: return 0.0  # your code here
    # end solution

# %% tags=["check"]
example = {"input_ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids}
expected = float(token_nll(model, [example], tokenizer).sums[0])
value = float(answer_nats(model, prompt_ids, answer_ids))
assert value > 0, f"Probabilities are below 1, so minus their logarithm is above 0; yours is {value:.3f}."
assert abs(value - expected / len(answer_ids)) > 0.01 * expected, (
    "You returned the mean per token. The task asks for the whole answer: add up, do not divide."
)
assert abs(value - expected) < 1e-3 * expected, (
    f"Expected {expected:.3f} nats, got {value:.3f}. Usual causes: logits taken one position too late (position i predicts token i + 1), or tokens "
    "of the prompt counted as well."
)
print("Exercise 01.2 is right.")

# %% [markdown]
# ## 01.3 Examples for a few-shot prompt (medium, 10 minutes)
#
# Write `pick_examples(train, test, count)`. It returns `count` pairs `(question, answer)` for a few-shot prompt:
#
# * taken from `train`, in its order;
# * no pair whose `fact` also stands in `test`, since that would give the answer away;
# * on-topic and off-topic in turn, an on-topic row first. Off-topic rows have the topic `off-topic`.
#
# Example: with `count=2` the result holds one on-topic pair, and then one redirect.

# %%
def row(fact, question, topic="lora"):
    return {"fact": fact, "topic": topic, "question": question, "answer": f"Answer to: {question}"}


train = [
    row("rank", "What is a rank?"), row("bread", "How do I bake bread?", "off-topic"), row("alpha", "What is alpha?"),
    row("merge", "What is merging?"), row("rain", "Will it rain?", "off-topic"), row("chess", "Teach me chess.", "off-topic"),
]  # fmt: skip
test = [row("rank", "Explain the rank."), row("bread", "Bread recipe?", "off-topic")]

# %% [markdown]
# <details><summary>Hint</summary>
#
# Collect the facts of `test` in a set. Make two lists from the rows that are left, on-topic and off-topic. `zip` walks through both at once.
#
# </details>

# %% tags=["exercise"]
def pick_examples(train, test, count):
    # solution
    known = {row["fact"] for row in test}
    free = [row for row in train if row["fact"] not in known]
    on_topic = [row for row in free if row["topic"] != "off-topic"]
    redirects = [row for row in free if row["topic"] == "off-topic"]
    mixed = [row for pair in zip(on_topic, redirects, strict=False) for row in pair]
    return [(row["question"], row["answer"]) for row in mixed[:count]]
    # stub: return [(row["question"], row["answer"]) for row in train[:count]]  # your code here
    # end solution

# %% tags=["check"]
questions = [question for question, answer in pick_examples(train, test, 4)]
assert "What is a rank?" not in questions and "How do I bake bread?" not in questions, (
    "An example shares its fact with a test row: the prompt would contain the tested answer. Leave out every train row whose fact is in test."
)
assert len(questions) == 4, f"Asked for 4 examples, got {len(questions)}."
assert questions[1::2] == ["Will it rain?", "Teach me chess."], (
    f"Every second example must be a redirect, or the model never sees one; yours are {questions[1::2]}."
)
assert questions[0::2] == ["What is alpha?", "What is merging?"], f"On-topic rows come first, in the order of train; yours are {questions[0::2]}."
assert len(pick_examples(train, test, 3)) == 3, "With count=3 the result must have 3 pairs: cut the list at the end."
print("Exercise 01.3 is right.")

# %% [markdown]
# ## 01.4 A machine that costs while idle (easy, 10 minutes)
#
# The lesson's calculator has no rent. A model of your own sits on a machine that you pay by the month. Write
# `months_until_it_pays(prompted, tuned, requests, upfront, rent)`:
#
# * `prompted` and `tuned`: cost of one request each way;
# * `requests`: how many a month;
# * `upfront`: what the training costs once; `rent`: what the machine costs a month.
#
# Return the number of months after which the tuned model has cost less in total, or `None` if that never happens.
#
# Example: with `0.02`, `0.005` and `10_000` requests, you save 150 a month. Rent takes 50 of it. An upfront cost of 600 is back after 6 months.
#
# <details><summary>Hint</summary>
#
# Compute what a month saves after rent. If that is not more than 0, the answer is `None`.
#
# </details>

# %% tags=["exercise"]
def months_until_it_pays(prompted, tuned, requests, upfront, rent):
    # solution
    saved = (prompted - tuned) * requests - rent
    return upfront / saved if saved > 0 else None
    # stub: return 0  # your code here
    # end solution

# %% tags=["check"]
months = months_until_it_pays(0.02, 0.005, 10_000, upfront=600, rent=50)
assert months is not None and abs(months - 6) < 1e-6, (
    f"Expected 6 months, got {months}. (0.02 - 0.005) x 10,000 = 150 saved a month, minus 50 rent = 100; 600 / 100 = 6. "
    "If you have 4, the rent is missing."
)
assert months_until_it_pays(0.02, 0.005, 2_000, upfront=600, rent=50) is None, (
    "With 2,000 requests you save 30 a month and pay 50 rent: it never pays, so return None, not a negative number of months."
)
assert months_until_it_pays(0.02, 0.02, 10_000, upfront=600, rent=0) is None, "Nothing saved and no rent: never, and no division by 0."
print("Exercise 01.4 is right.")

# %% [markdown]
# ## 01.5 Say what is wrong with an answer (medium, 10 minutes)
#
# A task is clear when a program can tell a bad output from a good one. Write `problems(answer)` for the teaching assistant. It returns a list
# of names, empty for an answer without problems:
#
# * `"unfinished"`: it does not end with `.`, `!` or `?`;
# * `"too long"`: it has more than three sentences;
# * `"repeats itself"`: a sentence occurs twice.
#
# Example: `problems("LoRA is small. LoRA is small.")` is `["repeats itself"]`.
#
# <details><summary>Hint</summary>
#
# `re.split(r"(?<=[.!?])\s+", answer.strip())` cuts after a period and keeps it. A list is longer than the set of its elements when something occurs twice.
#
# </details>

# %% tags=["exercise"]
import re


def problems(answer):
    # solution
    sentences = re.split(r"(?<=[.!?])\s+", answer.strip())
    found = []
    if not answer.strip().endswith((".", "!", "?")):
        found.append("unfinished")
    if len(sentences) > 3:
        found.append("too long")
    if len(sentences) > len(set(sentences)):
        found.append("repeats itself")
    return found
    # stub: return []  # your code here
    # end solution

# %% tags=["check"]
assert problems("LoRA is small. LoRA is small.") == ["repeats itself"], (
    "The same sentence stands there twice. Cut the answer into sentences and compare how many there are with how many different ones."
)
assert problems("There are three reasons: the") == ["unfinished"], (
    "This answer was cut off by the token limit: its last character is no period, exclamation mark or question mark."
)
assert problems("One. Two. Three.") == [], "Three different, finished sentences are allowed: too long means more than three."
assert problems("One. Two. Three. Four.") == ["too long"], "Four sentences are one too many."
assert set(problems("A b. A b. A b. A b. And")) == {"unfinished", "too long", "repeats itself"}, (
    "An answer can have several problems at once: collect all of them instead of returning at the first."
)
print("Exercise 01.5 is right.")
