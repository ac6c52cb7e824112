# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 10: Scaling up
#
# Five exercises, five to ten minutes each; they need no model and no network. Replace what stands below each task, run the cell, then run the check in
# the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/10_scaling_up.ipynb`.

# %%
from finetune_utils import hardware
from finetune_utils.cards import CARDS, Card

hardware.quiet()

# %% [markdown]
# ## 10.1 One loss from several processes (easy, 5 minutes)
#
# Each process reports the sum of the losses of its tokens and how many there were. Write `global_loss(parts)` for a list of `(sum, tokens)`: the mean over all tokens. A process may have got no token at all. Example:
# `global_loss([(6.0, 2), (6.0, 6)])` is 1.5.
#
# <details><summary>Hint</summary>Add up the sums, add up the counts, divide once.</details>

# %% tags=["exercise"]
def global_loss(parts):
    # solution
    return sum(total for total, _ in parts) / sum(tokens for _, tokens in parts)
    # stub: return None
    # end solution


# %% tags=["check"]
try:
    got, empty = global_loss([(6.0, 2), (6.0, 6)]), global_loss([(3.0, 2), (0.0, 0)])
except ZeroDivisionError:
    got = empty = "zero division"
assert got is not None, "10.1 returns None: divide the sum of all losses by the number of all tokens."
assert got != "zero division", "You divide by the tokens of one process, and one process had none: divide once, by the tokens of all."
assert got != 2.0, "2.0 is the mean of the two means: the two tokens of the first process weigh as much as the six of the second."
assert got == 1.5, f"Twelve nats over eight tokens are 1.5, you return {got}."
assert empty == 1.5, f"A process without tokens adds nothing: 3 nats over 2 tokens are 1.5, you return {empty}."
print("10.1 is right.")

# %% [markdown]
# ## 10.2 Deal out a batch (medium, 10 minutes)
#
# Write `shares(rows, processes)`: a list with one list of rows for each process. The first process takes the first rows, all get equally many, and what is missing at the end is filled up with `None`. Example:
# `shares([1, 2, 3, 4, 5], 2)` is `[[1, 2, 3], [4, 5, None]]`.
#
# <details><summary>Hint</summary>The share of each is the number of rows divided by the processes, rounded up: <code>-(-len(rows) // processes)</code>.</details>

# %% tags=["exercise"]
def shares(rows, processes):
    # solution
    each = -(-len(rows) // processes)
    filled = list(rows) + [None] * (each * processes - len(rows))
    return [filled[i * each : (i + 1) * each] for i in range(processes)]
    # stub: return None
    # end solution


# %% tags=["check"]
got = shares([1, 2, 3, 4, 5], 2)
assert got is not None, "10.2 returns None: return one list of rows for each process."
assert len(got) == 2, f"There are 2 processes, you return {len(got)} lists."
flat = [row for part in got for row in part]
assert flat.count(1) == 1 and flat.count(2) == 1, "A row of the beginning comes twice: it would count twice in the loss. Fill up with None."
assert len(got[0]) == len(got[1]), "The processes have unequal shares: one of them would wait for the other forever."
assert 5 in flat, "Row 5 is gone: fill the last share up instead of dropping rows."
assert got == [[1, 2, 3], [4, 5, None]], f"You return {got}: the first process takes the first rows."
assert shares([1], 3) == [[1], [None], [None]], "With one row for three processes, two of them get only None."
assert shares([1, 2], 2) == [[1], [2]], "When the rows can be dealt out evenly, nothing is filled up."
print("10.2 is right.")

# %% [markdown]
# ## 10.3 Bytes before activations (easy, 5 minutes)
#
# Write `bytes_needed(parameters, trained, method)`: weights, gradients and optimizer averages under 16-bit autocast. `"full"`: every parameter takes 4 + 2 + 4 + 8 bytes. `"lora"`: every
# parameter takes 2, and each of the `trained` adapter weights 4 + 4 + 8 more. `"inference"`: 2 for each parameter. Example: `bytes_needed(1000, 10, "lora")` is 2,160.
#
# <details><summary>Hint</summary>Only trained weights have gradients and averages.</details>

# %% tags=["exercise"]
def bytes_needed(parameters, trained, method):
    # solution
    if method == "full":
        return 18 * parameters
    return 2 * parameters + (16 * trained if method == "lora" else 0)
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.memory import memory_table

got = bytes_needed(1000, 10, "lora")
assert got is not None, "10.3 returns None: add up the bytes of each part."
assert got != 18_000 + 160, "A frozen weight has no gradient and no averages: it takes 2 bytes."
assert got != 2_000 + 120, "The adapter is stored too: 4 bytes of weight, 4 of gradient, 8 of averages."
assert got == 2_160, f"1000 x 2 + 10 x 16 = 2,160, you return {got}."
assert bytes_needed(1000, 10, "inference") == 2_000, "Answering needs the weights only."
need = memory_table(["SmolLM2-135M"])["SmolLM2-135M"]["full"]
wanted = need.weights + need.gradients + need.optimizer
assert bytes_needed(134_515_008, 0, "full") == wanted, f"The package counts {wanted:,} bytes for the 135M model: 18 for each weight."
print("10.3 is right, and the package agrees.")

# %% [markdown]
# ## 10.4 The cheapest card with room (medium, 10 minutes)
#
# Write `choose_card(need, cards, prices)`: the name of the cheapest card that has room for `need` bytes when a tenth of its memory stays free, or None when there is no such card. `cards` is a list of `Card` (look at `card.name` and
# `card.memory`), `prices` a dict from name to price.
#
# <details><summary>Hint</summary>First keep the cards with <code>need &lt;= 0.9 * card.memory</code>, then take the <code>min</code> of them by price.</details>

# %% tags=["exercise"]
def choose_card(need, cards, prices):
    # solution
    room = [card.name for card in cards if need <= 0.9 * card.memory]
    return min(room, key=lambda name: prices[name], default=None)
    # stub: raise NotImplementedError("the cheapest card with room")
    # end solution


# %% tags=["check"]
shop = [Card("large", 100, 1, True, "invented"), Card("middle", 50, 1, True, "invented"), Card("small", 20, 1, True, "invented")]
prices = {"large": 3.0, "middle": 4.0, "small": 1.0}  # the middle one is dear
try:
    got = [choose_card(need, shop, prices) for need in (10, 19, 40, 95)]
except NotImplementedError:
    got = None
except ValueError:
    got = "min of nothing"
assert got is not None, "10.4 is not written yet: keep the cards with room, then take the cheapest."
assert got != "min of nothing", "No card has room for 95 bytes, and min of an empty list fails: pass default=None."
assert got[0] == "small", f"10 bytes fit everywhere and small is cheapest, you choose {got[0]}."
assert got[1] != "small", "19 of 20 bytes leave too little free: only nine tenths of a card count."
assert got[2] != "middle", "For 40 bytes you take the smallest card with room. The large one costs less here: compare prices."
assert got == ["small", "large", "large", None], f"You choose {got}, expected small, large, large and None."
print("10.4 is right. Real cards:", [card.name for card in CARDS])

# %% [markdown]
# ## 10.5 A line for the model card (medium, 10 minutes)
#
# Write `verdict(results)`. `results` has `nll_before`, `nll_after`, `nll_change_low` and `nll_change_high`. Return `"better"` when the whole interval of the change lies below zero, `"worse"` when it lies above, `"no difference shown"` when
# zero is inside, and `"not measured"` when there are no results at all.
#
# <details><summary>Hint</summary>The two NLLs are there to tempt you. A lower NLL with an interval that includes zero is not a result.</details>

# %% tags=["exercise"]
def verdict(results):
    # solution
    if not results:
        return "not measured"
    if results["nll_change_high"] < 0:
        return "better"
    return "worse" if results["nll_change_low"] > 0 else "no difference shown"
    # stub: return None
    # end solution


# %% tags=["check"]
def case(before, after, low, high):
    return {"nll_before": before, "nll_after": after, "nll_change_low": low, "nll_change_high": high}


assert verdict(case(4.0, 3.0, -1.2, -0.8)) is not None, "10.5 returns None: look where the interval lies."
try:
    nothing = verdict({})
except KeyError as error:
    nothing = f"a KeyError for {error}"
assert nothing == "not measured", f"A run without test rows has no results: say 'not measured', not {nothing}."
assert verdict(case(4.0, 3.9, -0.3, 0.1)) != "better", "The NLL fell, but the interval includes zero: that is no difference shown."
got = [verdict(case(4.0, 3.0, -1.2, -0.8)), verdict(case(4.0, 4.4, 0.1, 0.7)), verdict(case(4.0, 3.9, -0.3, 0.1))]
assert got == ["better", "worse", "no difference shown"], f"You return {got}, expected better, worse and no difference shown."
print("10.5 is right.")
