# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 07: Betting-prediction case study
#
# Six exercises on a handful of numbers; each takes five to ten minutes and needs no model. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/07_betting.ipynb`.

# %%
import random

from finetune_utils.betting.answers import BadAnswer, parse_answer
from finetune_utils.betting.stakes import price

# %% [markdown]
# ## 07.1 The Brier score (easy, 5 minutes)
#
# Write `brier_score(forecasts, outcomes)`: the mean squared distance between probabilities and outcomes (0 or 1). Example: `brier_score([0.5, 1.0], [1, 0])` is `0.625`, because the
# squared errors are 0.25 and 1.
#
# <details><summary>Hint</summary><code>zip(forecasts, outcomes)</code> gives the pairs. Square each difference, add them up, divide by how many there are.</details>

# %% tags=["exercise"]
def brier_score(forecasts, outcomes):
    # solution
    return sum((p - y) ** 2 for p, y in zip(forecasts, outcomes)) / len(forecasts)
    # stub: return None
    # end solution


# %% tags=["check"]
got = brier_score([0.5, 1.0], [1, 0])
assert got is not None, "07.1 returns None: return the mean of (p - y) squared."
assert got != 0.75, "You average the distances without squaring them. That rewards forecasters who always say 0 or 1, so it is not proper."
assert got != 1.25, "You return the sum of the squared errors: divide by the number of games, or seasons of different length cannot be compared."
assert got != 0.375, "That is 1 minus the Brier score: return the mean squared error itself, where lower is better."
assert abs(got - 0.625) < 1e-9, f"For these two games the score is 0.625, you return {got}: squared errors 0.25 and 1.0, and their mean."
assert brier_score([0.7] * 10, [1] * 7 + [0] * 3) < min(brier_score([p] * 10, [1] * 7 + [0] * 3) for p in (0.6, 0.8)), "Whoever says what is true must score best."
print("07.1 is right.")

# %% [markdown]
# ## 07.2 One Elo step (easy, 5 minutes)
#
# Write `elo_step(home, away, home_won, home_edge=60, k=20)`: return both ratings after one game, as a pair. The home team is expected to win with `1 / (1 + 10 ** (-d / 400))`, where `d` is
# home minus away plus the home edge. The home team gains `k` times (result minus expectation), and the away team loses as much. No margin of victory here.
# Example: `elo_step(1500, 1560, 1)` is `(1510.0, 1550.0)`.
#
# <details><summary>Hint</summary>In the example the home edge makes up for the 60 points, so the expectation is one half.</details>

# %% tags=["exercise"]
def elo_step(home, away, home_won, home_edge=60, k=20):
    # solution
    expected = 1 / (1 + 10 ** (-(home - away + home_edge) / 400))
    step = k * (home_won - expected)
    return home + step, away - step
    # stub: raise NotImplementedError("expectation, step, both ratings")
    # end solution


# %% tags=["check"]
try:
    got = elo_step(1500, 1560, 1)
except NotImplementedError:
    got = None
assert got is not None, "07.2 is not written yet: return the two ratings after the game as a pair."
assert abs(sum(got) - 3060) < 1e-6, f"Points are neither made nor lost: the ratings must still sum to 3060, yours sum to {sum(got):.1f}."
assert abs(got[0] - 1511.7) > 0.2, "You left out the home edge: add it to home minus away before you take the expectation."
assert got[0] > 1500, "The home team won and loses points: the step is k times (result minus expectation), added to the home rating."
assert abs(got[0] - 1510) < 1e-6 and abs(got[1] - 1550) < 1e-6, f"By hand it is (1510, 1550), you return {got}."
upset = elo_step(1400, 1600, 1)[0] - 1400
assert upset > elo_step(1600, 1400, 1)[0] - 1600, "A surprise must move more points than a win of the favorite."
print("07.2 is right.")

# %% [markdown]
# ## 07.3 Only what was known before (medium, 5 minutes)
#
# `margins` are the margins of one team, in order of date. Write `form_before(margins, last=3)`: for each game the mean margin of up to `last` games *before* it, and `None` for the first game.
# Example: `form_before([4, -2, 7])` is `[None, 4.0, 1.0]`.
#
# <details><summary>Hint</summary><code>margins[max(0, i - last) : i]</code> ends just before game <code>i</code>.</details>

# %% tags=["exercise"]
def form_before(margins, last=3):
    # solution
    before = [margins[max(0, i - last) : i] for i in range(len(margins))]
    return [sum(games) / len(games) if games else None for games in before]
    # stub: return None
    # end solution


# %% tags=["check"]
got = form_before([4, -2, 7])
assert got is not None, "07.3 returns None: return a list with one entry a game."
assert got != [4.0, 1.0, 3.0], "This is the leak of the lesson: entry i contains game i itself. Take only the games before it."
assert len(got) == 3, f"Three games need three entries, you return {len(got)}: the first game gets None."
assert got[0] is None, f"Nothing is known before the first game, you say {got[0]}: return None there, not 0, which would mean an average team."
assert got == [None, 4.0, 1.0], f"Expected [None, 4.0, 1.0], you return {got}."
assert form_before([4, -2, 7, 10, 0])[4] == 5.0, "Before the fifth game the last three are -2, 7 and 10: only the last `last` games count."
shuffled = random.Random(0).sample(range(-20, 21), 12)
assert form_before(shuffled)[:6] == form_before(shuffled[:6]), "Cutting off the future changed the past: some entry looks ahead."
print("07.3 is right: throwing the future away changes nothing.")

# %% [markdown]
# ## 07.4 Score what was answered (medium, 10 minutes)
#
# Write `probabilities(texts)`: one probability for each answer of a model. `parse_answer(text)` returns an object with `.estimate`, or raises `BadAnswer` when the text is not the JSON that was asked for. An invalid
# answer counts as 0.5. Nothing is dropped and nothing is repaired.
#
# <details><summary>Hint</summary>A loop with <code>try</code> and <code>except BadAnswer</code>, which appends in both cases.</details>

# %% tags=["exercise"]
def probabilities(texts):
    # solution
    found = []
    for text in texts:
        try:
            found.append(parse_answer(text).estimate)
        except BadAnswer:
            found.append(0.5)
    return found
    # stub: return None
    # end solution


# %% tags=["check"]
GOOD = '{"probability": 0.62, "confidence_interval": [0.48, 0.74]}'
texts = [GOOD, "Sure! " + GOOD, '{"probability": 0.9, "confidence_interval": [0.48, 0.74]}', "", GOOD.replace("0.62", "0.50")]
try:
    got = probabilities(texts)
except BadAnswer as error:
    got = f"stopped by: {error}"
assert got is not None, "07.4 returns None: return a list of probabilities."
assert not isinstance(got, str), f"One invalid answer stops everything ({got}): catch BadAnswer inside the loop."
assert len(got) == len(texts), f"{len(texts)} answers went in and {len(got)} numbers came out. A model must not lose its worst games: count an invalid answer as 0.5."
assert got[1] != 0.62, "The second answer has text before the JSON, and you cut it out. That is a repair: then you score your parser, not the model."
assert got[2] != 0.9, "0.9 lies outside its own interval, so the answer is invalid. parse_answer notices that; do not read the number yourself."
assert got == [0.62, 0.5, 0.5, 0.5, 0.5], f"Expected [0.62, 0.5, 0.5, 0.5, 0.5], you return {got}."
print("07.4 is right.")

# %% [markdown]
# ## 07.5 The mean of the digits (medium, 10 minutes)
#
# After `"probability": 0.` a model gives a probability to each of the ten digits. `first[a]` is that of the first digit `a`, and `second[a][b]` that of the second digit `b` once `a` was chosen. Write `expected_number(first, second)`: the mean of all
# numbers `0.ab`, each weighted by how probable the model finds it.
#
# <details><summary>Hint</summary>The number <code>0.ab</code> is <code>a / 10 + b / 100</code>, and its probability is <code>first[a] * second[a][b]</code>.</details>

# %% tags=["exercise"]
def expected_number(first, second):
    # solution
    return sum(first[a] * second[a][b] * (a / 10 + b / 100) for a in range(10) for b in range(10))
    # stub: return None
    # end solution


# %% tags=["check"]
def one(digit):
    return [float(d == digit) for d in range(10)]


certain = expected_number(one(6), [one(2)] * 10)
assert certain is not None, "07.5 returns None: add up probability times number over all hundred numbers."
assert abs(certain - 8) > 1e-9, "You add the digits as they are: the first counts tenths, the second hundredths."
assert abs(certain - 0.62) < 1e-9, f"A model that is certain of 6 and then of 2 says 0.62, you get {certain}."
split = [0.0] * 10
split[5], split[6] = 0.4, 0.6
got = expected_number(split, [one(9) if a == 5 else one(0) for a in range(10)])
assert abs(got - 0.6) > 1e-9, "You take the likeliest digit. The point of this reading is the mean: 0.59 has probability 0.4 here."
assert abs(got - 0.596) < 1e-9, f"0.59 with probability 0.4 and 0.60 with 0.6 have the mean 0.596, you return {got}: use the row second[a] that belongs to the first digit."
print("07.5 is right.")

# %% [markdown]
# ## 07.6 How good must a bettor be? (easy, 5 minutes)
#
# At decimal odds of `1.91` a stake of 1 pays back 1.91 when the bet wins. Write `break_even(odds)`: the probability of winning at which the expected profit is 0. Then `needed_edge(p, vig)`: how much more probable than the bookmaker's
# own `p` a win must be to break even, when his probabilities sum to `1 + vig`. `price(p, vig)` gives his odds on both sides; the first are those on the side with probability `p`.
#
# <details><summary>Hint</summary>The expected profit is <code>p * odds - 1</code>. Set it to 0 and solve for p.</details>

# %% tags=["exercise"]
def break_even(odds):
    # solution
    return 1 / odds
    # stub: return None
    # end solution


def needed_edge(p, vig):
    # solution
    return break_even(price([p], vig)[0][0]) - p
    # stub: return None
    # end solution


# %% tags=["check"]
assert break_even(2.0) is not None, "07.6 returns None: solve p * odds - 1 = 0 for p."
assert break_even(4.0) != 3.0, "odds - 1 is the profit of a won bet. The question is how probable the win must be."
assert abs(break_even(2.0) - 0.5) < 1e-9 and abs(break_even(4.0) - 0.25) < 1e-9, "At odds of 4.00 one win in four breaks even: 1 / odds."
edge = needed_edge(0.5, 0.045)
assert edge is not None, "needed_edge still returns None: break-even probability at the bookmaker's odds, minus his p."
assert edge > 0, f"You get {edge:+.4f}: with a vig the bettor has to know more than the bookmaker, so the edge is positive."
assert abs(needed_edge(0.5, 0.0)) < 1e-9, "Without a vig, whoever agrees with the bookmaker breaks even: the needed edge is 0."
assert abs(edge - 0.0225) < 1e-9, f"At p = 0.5 and a vig of 4.5 percent the odds are 1.914, and 1 / 1.914 - 0.5 = 0.0225; you return {edge:.4f}."
print("07.6 is right: knowing as much as the bookmaker is not enough.")
