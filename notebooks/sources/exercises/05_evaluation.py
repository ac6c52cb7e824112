# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 05: Evaluation
#
# Five exercises on toy texts and the tiny model; each takes five to fifteen minutes. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/05_evaluation.ipynb`.

# %%
from collections import Counter

import numpy as np

from finetune_utils import hardware
from finetune_utils.data import load_rows
from finetune_utils.models import load_model
from finetune_utils.multiple_choice import multiple_choice

hardware.quiet()
model, tokenizer = load_model("tiny", say=lambda message: None)

# %% [markdown]
# ## 05.1 Clipped matches (easy, 5 minutes)
#
# Write `clipped(said, wanted, n)`: how many n-grams of the words `said` also stand in `wanted`, where each counts at most as often as `wanted` has
# it. Example: `clipped(["cold"] * 4, ["it", "is", "cold"], 1)` is 1.
#
# <details><summary>Hint</summary><code>Counter</code> of both lists of n-grams; the operator <code>&</code> of two counters takes the smaller
# count of each.</details>

# %% tags=["exercise"]
def clipped(said, wanted, n):
    # solution
    grams = [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (said, wanted)]
    return (grams[0] & grams[1]).total()
    # stub: return None
    # end solution


# %% tags=["check"]
said, wanted = "it is cold very cold it is".split(), "it is cold and it is wet".split()
got = clipped(["cold"] * 4, ["it", "is", "cold"], 1)
assert got is not None, "05.1 returns None: count the n-grams of both lists and add up what they share."
assert got != 4, "You count all four colds: the reference has one, so only one counts."
assert got == 1, f"clipped(['cold'] * 4, ...) is 1, you return {got}."
assert clipped(said, wanted, 1) == 5, "Twice 'it', twice 'is', once 'cold' make 5 shared words: does a word count as often as both sides have it?"
assert clipped(said, wanted, 2) == 3, "For n = 2 compare pairs of neighbors: 'it is' twice and 'is cold' once are 3."
assert clipped(["cold"], wanted, 2) == 0, "One word has no pair of neighbors: range(len(words) - n + 1) must be empty then."
print("05.1 is right.")

# %% [markdown]
# ## 05.2 Draw facts, not rows (medium, 15 minutes)
#
# Write `draw(changes, facts, rng)`: one bootstrap draw of a mean change. `changes[i]` is the change on row i, `facts[i]` its fact. Draw as many facts as there are, with
# replacement, and return the mean over all rows of the drawn facts. A fact that is drawn twice brings its rows twice.
#
# <details><summary>Hint</summary>Collect the rows of each fact in a dict. <code>rng.choice(names, len(names))</code> draws with replacement. Join the rows
# of the drawn facts and take the mean.</details>

# %% tags=["exercise"]
def draw(changes, facts, rng):
    # solution
    names = sorted(set(facts))
    rows = {name: [c for c, fact in zip(changes, facts, strict=True) if fact == name] for name in names}
    return float(np.mean([c for name in rng.choice(names, len(names)) for c in rows[name]]))
    # stub: return None
    # end solution


# %% tags=["check"]
facts, changes = [f"fact {i // 5}" for i in range(50)], [float(i // 5 % 2) for i in range(50)]
rng = np.random.default_rng(0)
means = [draw(changes, facts, rng) for _ in range(2000)]
assert means[0] is not None, "05.2 returns None: draw facts with replacement and return the mean over their rows."
assert len(set(means)) > 1, "Every draw gives the same mean: draw with replacement, or nothing varies."
assert abs(np.mean(means) - 0.5) < 0.02, f"The draws should center on 0.5, yours on {np.mean(means):.2f}: is every fact equally likely?"
message = f"The draws spread by {np.std(means):.3f}; drawing ten whole facts gives about 0.158, drawing fifty single rows 0.071. Which do you draw?"
assert 0.13 < np.std(means) < 0.19, message
uneven = {draw([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], rng) for _ in range(50)}
assert 0.75 in uneven, "Rows weigh the same: 'a' with three rows and 'b' with one give 3/4, not the mean of two means."
print("05.2 is right: a test with five wordings a fact is as large as its number of facts.")

# %% [markdown]
# ## 05.3 A judge that minds the place (easy, 5 minutes)
#
# A `judge(first, second)` returns `"first"` or `"second"`. Write `fair(judge, a, b)`: ask in both orders and return `"a"`, `"b"`, or `"tie"` when the two
# verdicts do not name the same answer.
#
# <details><summary>Hint</summary>In the swapped order "first" means b.</details>

# %% tags=["exercise"]
def fair(judge, a, b):
    # solution
    straight = "a" if judge(a, b) == "first" else "b"
    swapped = "b" if judge(b, a) == "first" else "a"
    return straight if straight == swapped else "tie"
    # stub: return None
    # end solution


# %% tags=["check"]
def longer(first, second):
    return "first" if len(first) > len(second) else "second"


got = fair(longer, "a long answer", "short")
assert got is not None, "05.3 returns None: ask judge(a, b) and judge(b, a), and compare whom they name."
assert got in ("a", "b", "tie"), f"Return 'a', 'b' or 'tie', not {got!r}: 'first' names a place, not an answer."
assert got == "a", "This judge takes the longer answer in both orders, so a wins: in the swapped order 'second' means a."
assert fair(longer, "short", "a long answer") == "b", "Swap the arguments and b must win."
assert fair(lambda first, second: "first", "x", "y") == "tie", "A judge that always says 'first' has no verdict: that is a tie."
assert fair(lambda first, second: "second", "x", "y") == "tie", "A judge that always says 'second' has no verdict either."
print("05.3 is right.")

# %% [markdown]
# ## 05.4 Multiple choice by likelihood (medium, 10 minutes)
#
# Write `pick(scores, choices, per_character)`: the position of the choice that a model finds most likely. `scores[i]` is the log-likelihood of `choices[i]` in nats, summed over its
# tokens. With `per_character=True`, divide by the number of characters of the choice first. Of equal ones, the first counts.
#
# <details><summary>Hint</summary>Log-likelihoods are negative: the most likely is the largest, the one nearest to 0.</details>

# %% tags=["exercise"]
def pick(scores, choices, per_character):
    # solution
    if per_character:
        scores = [score / len(choice) for score, choice in zip(scores, choices, strict=True)]
    return max(range(len(scores)), key=lambda i: scores[i])
    # stub: return None
    # end solution


# %% tags=["check"]
scores, choices = [-6.0, -4.0, -9.0], ["the heart", "lung", "the left kidney"]
got = pick(scores, choices, False)
assert got is not None, "05.4 returns None: return the position of the largest score."
assert got == 1, f"You pick {got}. The most likely choice has the largest log-likelihood, -4.0, at position 1."
assert pick(scores, choices, True) == 2, "Per character: -6/9, -4/4 and -9/15 nats; the largest is -0.6, at position 2."
rows = load_rows("science_mcq")[:24]
found = multiple_choice(model, tokenizer, rows)
mine = [pick(list(s), row["choices"], False) for s, row in zip(found.log_likelihoods, rows, strict=True)]
assert mine == found.picked.tolist(), "On real questions you and the package differ: is it the first of equal scores?"
mine = [pick(list(s), row["choices"], True) for s, row in zip(found.log_likelihoods, rows, strict=True)]
assert mine == found.picked_norm.tolist(), "Per character you and the package differ: divide by len(choice), without the blank before it."
print("05.4 is right, and the package agrees.")

# %% [markdown]
# ## 05.5 How many facts do you need? (easy, 5 minutes)
#
# A test of `facts` facts can show a change of `detectable` or more. Write `facts_needed(facts, detectable, wanted)`: how many facts show a change of `wanted`, rounded
# up. The detectable change shrinks with the square root of the number of facts. Example: 40 facts show 0.1; for 0.05 you need 160.
# Floating-point numbers may give 160.00000000000003: round to nine digits before you round up.
#
# <details><summary>Hint</summary>Half the change, four times the facts: the ratio counts squared.</details>

# %% tags=["exercise"]
def facts_needed(facts, detectable, wanted):
    # solution
    return int(np.ceil(round(facts * (detectable / wanted) ** 2, 9)))
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.evaluation import groups_needed, mean_difference, minimum_detectable_difference

got = facts_needed(40, 0.1, 0.05)
assert got is not None, "05.5 returns None: scale the number of facts by the squared ratio of the two changes."
assert got != 80, "You say 80: that is the ratio itself. Half the change needs four times the facts."
assert got == 160, f"40 facts show 0.1, so 0.05 needs 160; you return {got}. (161 is rounding noise: use round(..., 9) first.)"
assert facts_needed(40, 0.1, 0.2) == 10, "A change twice as large needs a quarter of the facts: 10."
assert facts_needed(30, 0.1, 0.07) == 62, "30 * (0.1 / 0.07) ** 2 is 61.2: round up, since 61 facts are too few."
change = mean_difference([0.2] * 30, list(np.random.default_rng(1).random(30)), range(30))
same = groups_needed(change, 30, 0.11) == facts_needed(30, minimum_detectable_difference(change), 0.11)
assert same, "groups_needed() of the package gives another number on the same comparison."
print("05.5 is right, and the package agrees.")
