# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 8, gpu: 8}
#     needs: the model (fetched once), about 4 GB of free memory
#     data: [nba_games.csv]
#     teaching:
#       waits: [Train, "The test season, once"]
#       skippable:
#         - "Which numbers does it like?"
#         - "Does it contradict itself?"
#         - "Where is it good, and where not?"
#         - What the stored study adds
#         - Larger models, other games
#       watch:
#         home_rate_brier: Brier score of the home rate, test season
#         elo_brier: the same, Elo
#         yes_no_brier: the same, Yes/No reading of the tuned model
#         leak_three_leaks: Brier score with three leaks, dev season
#         valid: answers that are valid JSON
#       mistakes:
#         - "The running mean contains the game that is to be forecast: one `shift(1)` is missing. Every score looks better for it (exercise 07.3)."
#         - "A straight reliability curve is taken as proof that nothing leaks. A leak is calibrated perfectly; the ladder of simple forecasters gives it away."
#         - "Invalid answers are dropped or repaired. Count them as `0.5`, or a model gains by breaking its answers on hard games (exercise 07.4)."
#         - "A good forecast is taken as a reason to bet. Teach *What a bettor would have got* to its end, also when time is short."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 07: Betting-prediction case study
#
# You will teach a small language model to say how probable it is that the home team wins, for real basketball games. Then you will find out whether its numbers
# deserve trust. After this lesson you can
#
# * make features that use only what was known before a game, and prove it;
# * score probabilities with Brier score, log loss and reliability, and compare forecasters on the same games;
# * recognize a leak, although every calibration plot looks perfect;
# * train a model on soft labels, and read the same model in three ways;
# * say why a good forecast is no reason to bet.
#
# This is a lesson about forecasting. It is not betting advice. Near its end you will see what a bettor would have got.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## The games, and two traps
#
# The file holds results of real games of the NBA, the North American professional league. A season is named by the year in which it ends: `2024` is the season 2023-24.

# %%
from finetune_utils.betting.games import DEV, TEST, TRAIN, load_games, of_seasons

games = load_games()
table = []
for season in sorted({game.season for game in games}):
    some = of_seasons(games, [season])
    table.append({"season": season, "games": len(some), "first day": str(some[0].date), "last day": str(some[-1].date),
                  "home team won": f"{sum(g.home_won for g in some) / len(some):.1%}", "neutral site": sum(g.neutral for g in some)})
course.show_table(table, caption=f"{len(games):,} games; train {TRAIN}, dev {DEV}, test {TEST}")

# %% [markdown]
# Do you see the two traps? Season 2022 is missing, so two summers lie between the first two seasons. And a few games have no home team: both teams traveled. A join of "home" with
# "away" rows drops those games silently. Here they are kept and marked.
#
# The split is by whole seasons, since a forecaster only ever has the past. All choices are made on 2023-24. The games of 2024-25 are scored once, near the end.
#
# ## Only what was known before
#
# The obvious feature is a team's average margin so far. **Predict:** what is wrong with this first version?

# %%
import pandas as pd

margins = pd.Series([g.margin if g.home == "BOS" else -g.margin for g in games if "BOS" in (g.home, g.away)][:4])
print("margin of each game:  ", margins.tolist())
print("mean so far, version 1:", margins.expanding().mean().round(1).tolist())
print("mean so far, version 2:", margins.shift(1).expanding().mean().round(1).tolist())

# %% [markdown]
# Version 1 includes the game that is to be forecast. Version 2 is shifted by one game, so the first game has no mean at all. One missing `shift(1)` is the most
# common leak in sports notebooks, and you will see soon how good it looks.
#
# The tested version walks through the games in order of date. It writes a row first and takes in the result afterwards. `elo_gap` comes in a moment; columns that end in `_gap` are home minus away.

# %%
from finetune_utils.betting.elo import fit_elo
from finetune_utils.betting.features import feature_table, judged

elo = fit_elo(games, TRAIN)  # uses the training seasons only
features = feature_table(games, elo)
shown = ["date", "home", "away", "home_games", "elo_gap", "margin_gap", "recent_gap", "win_share_gap", "home_rest", "away_rest", "home_won"]
course.show_table(features[shown].iloc[[1200, 1201, 1202]].round(2).to_dict("records"), width=12)

# %% [markdown]
# Do not believe it, test it. Take a game, throw away everything else from its day on, and swap the points of the two teams. Nothing may change but the two columns that say how it ended. **Predict:** would
# version 1 pass?

# %%
import random
from dataclasses import replace

OUTCOME = ["home_won", "home_lead"]


def uses_the_past_only(number, table, leaks=()):
    game = games[number]
    past = [other for other in games if other.date < game.date]
    ended_otherwise = replace(game, home_points=game.away_points, away_points=game.home_points)
    again = feature_table([*past, ended_otherwise], elo, leaks).iloc[-1]
    return again.drop(OUTCOME).equals(table.iloc[number].drop(OUTCOME))


# %%
checked = random.Random(0).sample(range(len(games)), 6 if PROFILE != "smoke" else 2)
same_past = all(uses_the_past_only(i, features) for i in checked)
version_1 = feature_table(games, elo, ("unshifted_form",))  # version 1 from above, over three games
leak_found = not any(uses_the_past_only(i, version_1, ("unshifted_form",)) for i in checked)
print(f"{len(checked)} games with another result: rows of the tested version unchanged: {same_past}; every row of version 1 changed: {leak_found}")

# %% [markdown]
# Early in a season nobody knows much. So games are scored from here on when both teams have played at least `5`.

# %%
from finetune_utils.betting.forecasts import some_games

train_games, dev_games, test_games = (judged(features, seasons) for seasons in (TRAIN, DEV, TEST))
small = PROFILE == "smoke"
if small:  # a handful of games, at equal distances
    train_games, dev_games, test_games = (some_games(part, n) for part, n in [(train_games, 300), (dev_games, 12), (test_games, 16)])
if profile.shrunk:  # no 16-bit arithmetic: half the speed
    dev_games, test_games = some_games(dev_games, 320), some_games(test_games, 320)
print(f"train {len(train_games):,}, dev {len(dev_games):,}, test {len(test_games):,} games")

# %% [markdown]
# ## Elo by hand
#
# Elo gives every team one number. The difference of two numbers is a probability: `400` points are ten wins for each loss. After a game, points move from the loser to the winner, and more of them
# when the result was a surprise. Three games between two teams, at a neutral site:

# %%
def expected(difference):
    return 1 / (1 + 10 ** (-difference / 400))


ratings = {"A": 1505.0, "B": 1505.0}
for home, away, home_won in [("A", "B", 1), ("B", "A", 0), ("A", "B", 0)]:
    p = expected(ratings[home] - ratings[away])
    step = 20 * (home_won - p)
    ratings[home], ratings[away] = ratings[home] + step, ratings[away] - step
    print(f"{home} against {away}: p = {p:.3f}, won {home_won}, step {step:+.2f}, now A {ratings['A']:.1f}, B {ratings['B']:.1f}")

# %% [markdown]
# Check the first line with a pencil: equal ratings, so p is one half, and the winner gains half of `20`. The second win is less of a surprise and brings less; the defeat of the favorite costs it more.
#
# The second version is the recipe that FiveThirtyEight used; `1505` is the mean rating there. A larger margin moves more points, and the home team starts with an edge. **Predict:** does the home edge make a home win worth more points or fewer?

# %%
import datetime

from finetune_utils.betting.elo import EloSettings, rate_games
from finetune_utils.betting.games import Game


def step_of(difference, margin, k=20):
    surprise = (margin > 0) - expected(difference)
    lead = difference if margin > 0 else -difference  # winner minus loser
    return k * (abs(margin) + 3) ** 0.8 / (7.5 + 0.006 * lead) * surprise


day = datetime.date(2024, 1, 1)
three = [Game(day + datetime.timedelta(days=i), 2024, *who, *points) for i, (who, points) in
         enumerate([(("A", "B"), (110, 100)), (("B", "A"), (90, 95)), (("A", "B"), (99, 120))])]

# %%
settings, mine, a, b = EloSettings(home_edge=60), [], 1505.0, 1505.0
for game in three:
    mine.append((a, b) if game.home == "A" else (b, a))
    gap = (a - b if game.home == "A" else b - a) + settings.home_edge
    step = step_of(gap, game.margin) * (1 if game.home == "A" else -1)
    a, b = a + step, b - step
    print(f"home side rated {gap:+6.1f} higher, edge included; result {game.margin:+d}: A moves by {step:+.2f}")
elo_gap_to_package = abs(rate_games(three, settings) - mine).max()
print(f"largest difference to finetune_utils.betting.elo: {elo_gap_to_package:.1e} points")

# %% [markdown]
# It makes a home win worth fewer: a win that was expected is no surprise.
#
# Two constants are not in the recipe: what home is worth today, and how much of a rating survives a summer. Both were fitted above, by log loss on the training seasons. The
# missing season counts as one more summer.

# %%
print(f"home edge {elo.home_edge:g} points, that is {expected(elo.home_edge):.1%} between equal teams")
print(f"carry-over {elo.carry_over:g} a summer; after two summers {elo.carry_over ** 2:.2f} of the distance to the mean is left")

# %% [markdown]
# ## How to score a probability
#
# A forecast says `0.7` and the team wins. Was it right? One game cannot tell. Average over many games: the Brier score is the mean of the squared distance between forecast and outcome. `0` is perfect, a coin gets `0.25`.

# %%
for p, y in [(0.7, 1), (0.7, 0), (1.0, 0), (0.5, 1)]:
    print(f"said {p:.1f}, happened {y}: squared error {(p - y) ** 2:.2f}")

# %% [markdown]
# **Predict, then run.** A team wins 7 of 10 games. Which forecaster does best: one who always says `0.7`, one who always says `1.0`, or one who always says `0.6`? And by accuracy?

# %%
from finetune_utils.betting.scoring import accuracy, brier, log_loss

outcomes = [1] * 7 + [0] * 3
for p in (0.6, 0.7, 1.0):
    said = [p] * 10
    print(f"always {p:.1f}: Brier {brier(said, outcomes):.3f}, log loss {log_loss(said, outcomes)[0]:.3f} nats, accuracy {accuracy(said, outcomes):.0%}")

# %% [markdown]
# Accuracy cannot tell them apart. Brier score and log loss are best for the forecaster who says what is true: such scores are called proper. Log loss punishes certainty hard, so forecasts
# are moved into `0.01` to `0.99` before it is taken.
#
# ## The ladder to climb
#
# A language model is only interesting if it beats something simple. These are the rungs: a coin, the home rate, the record, Elo, and a logistic regression on ratings, form and rest.
# **Predict** their order on 2023-24, and how far apart they are.

# %%
from finetune_utils.betting.baselines import FULL, fit_regression, ladder
from finetune_utils.betting.scoring import paired_brier

rungs = ladder(train_games, elo)
won, days = dev_games["home_won"].to_numpy(), dev_games["date"]
on_dev = {name: rung(dev_games) for name, rung in rungs.items()}
table = []
for name, p in on_dev.items():
    against = "-" if name == "home rate" else str(paired_brier(p, on_dev["home rate"], won, days))
    table.append({"forecaster": name, "Brier": f"{brier(p, won):.4f}", "log loss": f"{log_loss(p, won)[0]:.4f}",
                  "accuracy": f"{accuracy(p, won):.1%}", "minus home rate [95 %]": against})
course.show_table(table, caption=f"Dev season 2023-24, {len(won):,} games; intervals by day, paired game by game")

# %% [markdown]
# The last column compares two forecasters on the same games, so what is luck for both drops out. Whole days are resampled: the games of an evening may share what was special about it.
#
# Most of a game is chance. Bookmakers, who know about injuries and line-ups, reach a Brier score of about `0.20` (closing odds of 2007 to 2015). So remember two numbers: the home rate near `0.25`, and the regression near `0.21`.
# Whoever reports less than `0.195` from box scores has probably found a leak.
#
# ## The leakage lab
#
# Switch one on. `unshifted_form` is version 1 from above, over three games. **Predict:** what does it do to the Brier score? And to the calibration plot? (The calibration slope is 1 when the stated numbers are right, and below 1 when they are too extreme.)

# %%
from finetune_utils.betting.features import LEAKS
from finetune_utils.betting.scoring import calibration_line, reliability

with_leaks = feature_table(games, elo, leaks=tuple(LEAKS))
leak_train, leak_dev = judged(with_leaks, TRAIN), judged(with_leaks, DEV)
leak_won = leak_dev["home_won"].to_numpy()
columns = {"no leak": FULL, "unshifted form": (*FULL, "leak_unshifted_form"), "three leaks": (*FULL, *(f"leak_{name}" for name in LEAKS))}
leaky = {name: fit_regression(leak_train, some)(leak_dev) for name, some in columns.items()}
for name, p in leaky.items():
    slope = calibration_line(p, leak_won)[0]
    print(f"{name:15} Brier {brier(p, leak_won):.4f}, accuracy {accuracy(p, leak_won):.1%}, calibration slope {slope:.2f}")

# %%
from finetune_utils.betting import plots

plots.leakage_lab({name: (brier(p, leak_won), reliability(p, leak_won)) for name, p in leaky.items()})

# %% [markdown]
# The leaky forecasters look better in every respect, and their reliability is flawless. Calibration asks whether the numbers fit the outcomes, and a leak *is* the outcome. No calibration plot will
# ever find it. What raises the alarm is the ladder: nobody is that good. What finds the guilty column is the test from above, with another result.
#
# The control for the other direction: train on shuffled outcomes. What is learned then is luck, so the score must fall back to the home rate, whatever the columns.

# %%
import numpy as np

rng = np.random.default_rng(0)
shuffled = []
for _ in range(20):
    wrong_labels = leak_train.assign(home_won=rng.permutation(leak_train["home_won"].to_numpy()))
    shuffled.append(brier(fit_regression(wrong_labels)(leak_dev), leak_won))
print(f"20 regressions on shuffled outcomes: Brier {np.mean(shuffled):.4f} on average, from {min(shuffled):.4f} to {max(shuffled):.4f}")

# %% [markdown]
# Look at the spread. One shuffle can be lucky, because shuffled labels still agree with the true ones in about half of the games. So a control needs more than one draw.
#
# ## The question and its answer
#
# Now put a game into words. A model that reads digit by digit is bad at subtracting, so the text holds differences, and words for the most important one. The words count the home edge: in trials on 2023-24 the
# model had to add it up itself, and forgot it in its JSON answers.

# %%
from finetune_utils.betting.forecaster import TEACHER
from finetune_utils.betting.questions import win_rows

print("the teacher knows:", ", ".join(TEACHER))
teacher = fit_regression(train_games, TEACHER)
row = win_rows(dev_games.iloc[[0]], teacher(dev_games.iloc[[0]]), sides=(1,), wording=0)[0]
for field in ("id", "question", "outcome", "probability", "confidence_interval"):
    print(f"{field}: {row[field]}")

# %% [markdown]
# Five fields. `outcome` is what happened, and it is never in the prompt. `probability` is what a reference says: here a regression on the few columns that the text tells. Every token of every row
# costs time, so what hardly changes a forecast was left out, on the evidence of 2023-24.
#
# What can `confidence_interval` mean? Not a range for the outcome: that is `0` or `1` and never lies inside. It is the range in which nine of ten market prices for such a game would lie:
# `logit(p) ± 0.7`, where `logit(p) = log(p / (1 - p))` is the logarithm of the odds, and `± 1.0` early and late in a season, when ratings know least. It says how much there is to know that the ratings do not see.
#
# The answer is JSON, so that any program can read it.

# %%
from finetune_utils.betting.answers import BadAnswer, parse_answer, row_answer

print(row_answer(row), "\n")
for text in (row_answer(row), '{"probability": 0.62}', '{"probability": 62, "confidence_interval": [0.5, 0.7]}',
             '{"probability": 0.62, "confidence_interval": [0.7, 0.5]}', 'Sure! {"probability": 0.62, "confidence_interval": [0.5, 0.7]}'):
    try:
        print("valid:  ", parse_answer(text))
    except BadAnswer as error:
        print("invalid:", error)

# %% [markdown]
# The parser is strict and repairs nothing. If it did, you would measure the repair. An invalid answer counts as "no opinion", `0.5`, and is never dropped: a model must not improve its score by
# breaking its answers on hard games.
#
# As a data set by season, whole or in the size of a small classic:

# %%
from finetune_utils.betting.baselines import cross_fit
from finetune_utils.betting.questions import CLASSIC, to_splits

labels = np.concatenate([cross_fit(train_games, TEACHER), *(teacher(part) for part in (dev_games, test_games))])
everything = win_rows(pd.concat([train_games, dev_games, test_games]), labels)
splits = to_splits(everything, CLASSIC if PROFILE != "smoke" else None)
print({name: len(part) for name, part in splits.items()}, "columns:", splits["train"].column_names)

# %% [markdown]
# ## First ask the untuned model
#
# Zero-shot: the question and a description of the answer. Few-shot: four solved games before it. **Predict:** which share of the answers is valid JSON, and how good are the numbers?

# %%
from finetune_utils.betting.teaching import json_prompt, yes_no_prompt
from finetune_utils.generation import fast_copy
from finetune_utils.models import load_model
from finetune_utils.prompts import chat_prompt

model, tokenizer = load_model(profile.model)
few = some_games(dev_games, 2 if small else profile.generate_rows // 2)
few_rows = win_rows(few, teacher(few), sides=(1,), wording=0)
four = some_games(train_games, 4)
solved = [(r["question"], row_answer(r)) for r in win_rows(four, teacher(four), sides=(1,), wording=0)]
task = 'Answer with JSON only: {"probability": p, "confidence_interval": [low, high]}, numbers between 0 and 1.'
prompts = {"zero-shot": [chat_prompt(tokenizer, r["question"], system=task) for r in few_rows],
           "few-shot": [chat_prompt(tokenizer, r["question"], system=task, examples=solved) for r in few_rows]}

# %%
from finetune_utils.betting.readings import stated, yes_no

untuned = fast_copy(model)
first_tries = {name: stated(untuned, tokenizer, texts) for name, texts in prompts.items()}
for name, (reading, texts) in first_tries.items():
    print(f"{name}: {reading.valid_share:.0%} of {len(texts)} answers are valid. The first two:")
    print("  ", *[text[:110].replace("\n", " ") for text in texts[:2]], sep="\n   ")

# %% [markdown]
# Count what is wrong, then score. An invalid answer is `0.5`.

# %%
from collections import Counter

few_won = few["home_won"].to_numpy()
for name, (reading, _) in first_tries.items():
    wrong = Counter(problem.split(",")[0].split(":")[0] for _, problem in reading.problems).most_common(3)
    valid = [a.estimate for a in reading.answers if a is not None]
    told = f"{len(set(valid))} different numbers in {len(valid)} valid answers"
    print(f"{name}: Brier {brier(reading.estimates, few_won):.3f}; {told}; most frequent problems {wrong}")
first_p, first_mass = yes_no(untuned, tokenizer, [yes_no_prompt(r, tokenizer) for r in few_rows])
print(f"Yes/No token: Brier {brier(first_p, few_won):.3f}; Yes and No together get {first_mass.mean():.0%} of the probability")
print(f"on the same {len(few)} games: home rate {brier(rungs['home rate'](few), few_won):.3f}, Elo {brier(rungs['Elo'](few), few_won):.3f}")

# %% [markdown]
# Few games, so the scores are rough. The point: examples in the prompt can teach the form. They do not teach how much an Elo difference is worth.
#
# ## What to teach: three targets
#
# The obvious target is the outcome, written as text: `1.00` when the team won, `0.00` when it lost. It is the classic mistake. Greedy decoding gives the likeliest text, so a team with 60 wins in 100 such games gets `1.00`
# every time. You can see what that costs without any language model: round the regression.

# %%
rounded = (on_dev["regression"] > 0.5).astype(float)
print(f"regression {brier(on_dev['regression'], won):.4f}, rounded to 0 or 1 {brier(rounded, won):.4f}, coin 0.2500")

# %% [markdown]
# Even a perfect learner would end there: its Brier score is the share of wrong picks.
#
# The second target is a teacher's probability as text. The third is one token, ` Yes` or ` No`, trained to be as probable as the teacher says: a *soft label*. Its loss for a question with label `0.75`:

# %%
def soft_loss(q, label):
    return -(label * np.log(q) + (1 - label) * np.log(1 - q))


grid = np.linspace(0.05, 0.95, 19)
hard = np.mean([soft_loss(grid, y) for y in (1, 1, 1, 0)], axis=0)  # four games, three won
soft = soft_loss(grid, 0.75)
print(f"lowest loss: four hard labels at q = {grid[hard.argmin()]:.2f}, one soft label at q = {grid[soft.argmin()]:.2f}; the curves differ by {abs(hard - soft).max():.1e}")

# %% [markdown]
# Both have the same lowest point, so outcomes as labels are not wrong. They are noisy: four games in one soft label. A teacher that has seen thousands of games takes out most of the noise, but its student
# cannot become much better than the teacher.
#
# The teacher must not have seen the game it labels. So each training season is labeled by a regression fitted on the *other* season. That is cross-fitting.

# %%
from finetune_utils.betting.baselines import Regression, fit_margin
from finetune_utils.betting.questions import margin_rows
from finetune_utils.betting.scoring import conformal_half_width

soft_labels = cross_fit(train_games, TEACHER)
expected_margins = cross_fit(train_games, TEACHER, fit_margin, Regression.score)
half_width = conformal_half_width(train_games["home_lead"] - expected_margins, level=0.8)
wins, leads = win_rows(train_games, soft_labels), margin_rows(train_games, expected_margins, half_width)
print(f"{len(wins):,} win questions and {len(leads):,} margin questions (both sides of each game)")
print(leads[0]["question"], row_answer(leads[0]))

# %% [markdown]
# ## Train
#
# The run has three kinds of examples: Yes/No with a soft label, JSON about winning, JSON about the margin. Each gets a share of the steps, and as many games as its steps will use, with both sides
# of a game next to each other.
#
# Which games? Most are close. A model that sees the others rarely keeps all its answers near the middle. So lopsided games are drawn more often than they happen. **Predict:** does that make the answers wrong? It would if games
# were chosen by how they ended. These are chosen by what is known before the game, and how probable a win is *given this question* stays true however often the question is asked.

# %%
import math

from finetune_utils.betting import forecaster
from finetune_utils.betting.teaching import draw_games, json_examples, mix, yes_no_examples

steps, batch = (4, 4) if small else (forecaster.FORECAST_STEPS, forecaster.FORECAST_BATCH)
if profile.shrunk:  # more for the rarest kind
    steps = 140
    forecaster.SHARES.update(yes_no=0.48, margin=0.18)
rng, drawn, parts = random.Random(0), {}, {}
for kind, rows, make in [("yes_no", wins, yes_no_examples), ("json", wins, json_examples), ("margin", leads, json_examples)]:
    drawn[kind] = draw_games(rows, math.ceil(steps * forecaster.SHARES[kind] + 1) * batch, rng)
    parts[kind] = make(drawn[kind], tokenizer)
    print(f"{kind}: {forecaster.SHARES[kind]:.0%} of the steps, {len(drawn[kind])} examples")
for name, rows in [("all games", wins), ("drawn for Yes/No", drawn["yes_no"])]:
    print(f"{name}: {np.mean([abs(r['probability'] - 0.5) > 0.2 for r in rows]):.0%} have a label below 0.3 or above 0.7")

# %% [markdown]
# Look at one of the first kind. Its answer is one token and the end mark, and the soft label beside it says how probable the other answer is.

# %%
example = parts["yes_no"][0]
print(tokenizer.decode(example["input_ids"]))
print("soft label beside the answer:", [(tokenizer.decode([token]), round(p, 2)) for _, token, p in example["soft_labels"]])

# %% [markdown]
# Now the order. A step sees one kind only: in a mixed batch the loss is a mean over tokens, and the single token of a Yes/No row would drown among the many of a JSON row.
# Yes/No rows have the first steps for themselves: they are short, and they teach what the facts mean. With all kinds from the start, trials on 2023-24 learned
# more slowly. Then all three take turns.

# %%
examples = mix(parts, forecaster.SHARES, steps * batch, batch, *forecaster.HEAD_START)
lengths = [sum(label != -100 for example in examples[i : i + batch] for label in example["labels"]) for i in range(0, len(examples), batch)]
print(f"{steps} steps of {batch} examples, {sum(len(e['input_ids']) for e in examples):,} tokens")
print("trained tokens of the first steps:", lengths[:6], "and of the last:", lengths[-6:])

# %% [markdown]
# The tested version lives in `finetune_utils.betting.forecaster`, and it must give the same examples in the same order.

# %%
data = forecaster.ForecastData(elo, train_games, dev_games, test_games, soft_labels, expected_margins, half_width, rungs,
                               teacher, fit_margin(train_games, TEACHER))
same_examples = forecaster.forecaster_examples(data, tokenizer, steps, batch_size=batch) == examples
print("the package makes the same examples:", same_examples)

# %% [markdown]
# Shares, rate and steps were chosen on 2023-24. The rest you know from lessons 04 and 06: a LoRA adapter and the course's `train()`.

# %%
from finetune_utils.lora import add_lora
from finetune_utils.plots import LiveLoss, loss_curve
from finetune_utils.training import TrainSettings, train

tuned = add_lora(model, rank=forecaster.FORECAST_RANK)
settings = TrainSettings(max_steps=steps, batch_size=batch, learning_rate=forecaster.FORECAST_RATE, shuffle=False)
live = LiveLoss()
result = train(tuned, tokenizer, examples, settings, on_step=live)
live.close()
loss_curve(result.history)
print(f"{result.seconds:.0f} s, {result.tokens_per_second:.0f} tokens/s")

# %% [markdown]
# The loss of a Yes/No step cannot fall to 0: the label itself says that the outcome is uncertain. Where both kinds of steps alternate, so do their losses.
#
# ## Three readings of one model
#
# 1. **Yes/No**: the probability of ` Yes` against ` No`, read off one token.
# 2. **Stated**: let the model write its JSON, greedily and freely, and take the number.
# 3. **Digits**: after `{"probability": 0.` the probabilities of the ten digits are a histogram. Read its mean instead of its peak.

# %%
from finetune_utils.betting.readings import digit_distribution

reader = fast_copy(tuned)  # adapter merged, 16-bit weights: for answering only
question = json_prompt(row, tokenizer)
by_token = yes_no(reader, tokenizer, [yes_no_prompt(row, tokenizer)])[0][0].item()
by_text, text = stated(reader, tokenizer, [question])
by_digits = digit_distribution(reader, tokenizer, [question])
print(text[0])
plots.digit_bars(by_digits.grid[0].flatten().numpy(), {"Yes/No": by_token, "stated": by_text.estimates[0], "mean of the digits": by_digits.expected[0].item()})

# %% [markdown]
# The first tries of the untuned model were on dev games. Here they are in one table with the tuned model on the same games, and with the mistake of certain answers: the regression, rounded to 0 or 1.

# %%
tuned_json = stated(reader, tokenizer, [json_prompt(r, tokenizer) for r in few_rows])[0]
tries = {"home rate": rungs["home rate"](few), "rounded regression": (rungs["regression"](few) > 0.5).astype(float), "Elo": rungs["Elo"](few)}
tries |= {name: np.array(reading.estimates) for name, (reading, _) in first_tries.items()} | {"untuned Yes/No": first_p.double().numpy()}
tries |= {"tuned stated": np.array(tuned_json.estimates)}
tries |= {"tuned Yes/No": yes_no(reader, tokenizer, [yes_no_prompt(r, tokenizer) for r in few_rows])[0].double().numpy()}
table = [{"forecaster": name, "Brier": f"{brier(p, few_won):.3f}",
          "minus home rate [95 %]": "-" if name == "home rate" else str(paired_brier(p, tries["home rate"], few_won, few["date"]))} for name, p in tries.items()]
course.show_table(table, caption=f"The same {len(few)} games of 2023-24 for all; invalid answers count as 0.5")

# %% [markdown]
# Few games, wide intervals. In the stored run the rounded regression looks best here; over the whole season it scored {{lesson07.rounded_brier:.3f}}.
#
# ## Before the test: two repairs on the dev season
#
# **From both sides.** A game can be asked about twice: will the home team win, will the away team win? The two answers should sum to 1. **Predict:** do they, and which of the two is the better forecast?

# %%
from finetune_utils.betting.forecasts import read_forecaster

dev_some = some_games(dev_games, 8 if small else 300)  # so many, at equal distances over the season
if profile.shrunk:
    dev_some = some_games(dev_games, 160)
twice = read_forecaster(reader, tokenizer, dev_some, answers=0, digits=0)
print(f"p(home) + p(away) - 1: median {np.median(twice.asked_home + twice.asked_away - 1):+.3f}")
for name, p in {"home team": twice.asked_home, "away team": 1 - twice.asked_away, "mean of both": twice.yes_no}.items():
    print(f"{name:13} Brier {brier(p, dev_some['home_won']):.4f}, distance to the teacher {np.abs(p - teacher(dev_some)).mean():.3f}")

# %% [markdown]
# A pull toward one word raises both answers, so it drops out of `(p(home) + 1 - p(away)) / 2`. So does part of the noise: the mean lies nearer to the teacher than either side. By Brier score so small a
# difference drowns in luck. The mean is chosen for its smaller noise, not for its score here. From here on, it is the Yes/No reading.
#
# **The width of the margins.** The model also states margins with an interval that should hold `80` of `100` outcomes. Unlike the range of prices this can be checked: a margin lies inside or outside. Ask for the margin of every game in 2023-24,
# again from both sides, and take the mean as the center. Measure how far the outcomes lie from it, and take the width that holds `80` of `100` of them. That is split conformal prediction. The center needs only the first number of each answer, so the rest is not written.

# %%
from finetune_utils.betting.forecasts import read_centers, read_margins

print("an answer:", read_margins(reader, tokenizer, dev_games.head(1))[1][0], "and the margin was", dev_games["home_lead"][0])
dev_centers = read_centers(reader, tokenizer, dev_games)  # all games: with a few hundred, luck decides the coverage
repaired = conformal_half_width(dev_games["home_lead"] - dev_centers, level=0.8)
print(f"half width taught {half_width:.1f} points; conformal half width from {len(dev_games):,} games of 2023-24: {repaired:.1f} points")

# %% [markdown]
# Everything is fixed now: features, teacher, training, widths. If you change something from here on because of what you see, you need another test season.
#
# ## The test season, once
#
# Yes/No and the stated number for all test games; the digits for some, at equal distances over the season. `read_forecaster` does for a season what you just did for one game.

# %%
said = read_forecaster(reader, tokenizer, test_games, digits=8 if small else 100)
home = said.yes_no
won, days = test_games["home_won"].to_numpy(), test_games["date"]
print(f"valid JSON: {said.reading.valid_share:.1%} of {len(said.texts)} answers. The first three:", *said.texts[:3], sep="\n")
print("problems:", Counter(problem for _, problem in said.reading.problems).most_common(3) or "none")

# %% [markdown]
# ### The ladder again, with the language model on it
#
# **Predict:** between which rungs does each reading land?

# %%
on_test = {name: rung(test_games) for name, rung in rungs.items()}
on_test |= {"LM, Yes/No": home, "LM, stated": said.stated}
plots.ladder({name: (brier(p, won), paired_brier(p, on_test["home rate"], won, days)) for name, p in on_test.items()}, "home rate", ("LM, Yes/No", "LM, stated"))

# %%
from finetune_utils.betting.scoring import ece, ece_null

table, slopes = [], {}
for name, p in on_test.items():
    loss, clipped = log_loss(p, won)
    slopes[name] = calibration_line(p, won)[0] if len(set(p)) > 2 else 0.0  # a constant has no slope
    table.append({"forecaster": name, "Brier": f"{brier(p, won):.4f}", "log loss": f"{loss:.4f} ({clipped} clipped)", "accuracy": f"{accuracy(p, won):.1%}",
                  "slope": f"{slopes[name]:.2f}" if slopes[name] else "-", "ECE": f"{ece(p, won):.3f}", "ECE if perfect": f"{ece_null(p)[0]:.3f}"})
course.show_table(table, caption=f"Test season 2024-25, {len(won):,} games")

# %% [markdown]
# The slope is that of a line from stated to observed logits: below `1` means overconfident. ECE, the expected calibration error, is the mean distance of the reliability curve from the diagonal, weighted by the games in each bin. The column beside it says what even a perfect
# forecaster would get on so many games. Never read an ECE without it.
#
# Differences on the same games are what counts. The digits were read for fewer games: compare their score in its own line only.

# %%
from finetune_utils.betting.forecasts import score_forecasts
from finetune_utils.evaluation import Interval

scores, against, table = score_forecasts(said, test_games, rungs), {}, []
for name in ("yes_no", "stated", "digits"):
    for rung in ("home_rate", "elo", "regression"):
        against[name, rung] = Interval(*(scores[f"{name}_vs_{rung}{end}"] for end in ("", "_low", "_high")))
    table.append({"reading": name, "games": scores[f"{name}_games"], "Brier": f"{scores[f'{name}_brier']:.4f}"}
                 | {f"minus {rung}": str(against[name, rung]) for rung in ("home_rate", "elo", "regression")})
course.show_table(table, caption="Brier differences, paired game by game, 95 % intervals by day; below 0 the language model is better")

# %%
for rung in ("home_rate", "elo", "regression"):
    gap = against["yes_no", rung]
    verdict = ("better" if gap.estimate < 0 else "worse") if gap.excludes_zero else "no difference shown"
    print(f"Yes/No reading against {rung}: {verdict}")
copied = np.corrcoef(home, teacher(test_games))[0, 1]
print(f"correlation with its teacher: {copied:.3f}; Brier of the teacher itself {brier(teacher(test_games), won):.4f}")

# %% [markdown]
# The model learned to read the text much as its teacher reads the numbers. It sees nothing that the teacher does not see, so the teacher's {{lesson07.teacher_brier:.4f}} is the best it can expect. In the stored run it got
# {{lesson07.yes_no_brier:.4f}}. Against Elo that is {{lesson07.yes_no_vs_elo:+.4f}} [{{lesson07.yes_no_vs_elo_low:+.4f}}, {{lesson07.yes_no_vs_elo_high:+.4f}}]: no worse, and hardly better. Against the regression it is
# {{lesson07.yes_no_vs_regression:+.4f}}.
#
# ### Reliability, and how sure it was when wrong

# %%
plots.reliability({name: reliability(on_test[name], won) for name in ("Elo", "LM, Yes/No", "LM, stated")})

# %%
plots.right_and_wrong(home, won)

# %% [markdown]
# The two overlap. That is not a defect: a forecaster who says `0.65` *should* be wrong in 35 of 100 such games. If right and wrong were far apart, you would look for a leak.
#
# ### Which numbers does it like?
#
# People and language models like round numbers. **Predict:** does this model state `0.65` more often than it was taught?

# %%
plots.heaping({"taught": [r["probability"] for r in drawn["json"]], "stated": said.stated})

# %% [markdown]
# It has favorites, but not because they are round: multiples of `0.05` are about as frequent as in the labels it was taught. They go with the words for the lead: whoever is called a huge favorite gets much the same number.
#
# ### The intervals
#
# First the ranges of prices that come with each stated probability, beside the rule that they were taught by.

# %%
valid = [answer for answer in said.reading.answers if answer is not None]
inside = sum(answer.low <= answer.estimate <= answer.high for answer in valid) / len(said.texts)
if valid:
    plots.widths([a.estimate for a in valid], [a.low for a in valid], [a.high for a in valid])
print(f"answers that are valid, with their probability inside its own range: {inside:.1%}")

# %% [markdown]
# The ranges follow one curve nearly everywhere. Early and late in a season they should follow the wider one, and few do. The model learned the shape of the range, and hardly the exception.
#
# Then the margins, which can be wrong. **Predict** the coverage of the stated intervals and of the repaired ones. Wider ones cover more, so there is also a score: the mean width plus a penalty for misses. Lower is better.

# %%
from finetune_utils.betting.scoring import interval_score
from finetune_utils.evaluation import rate

test_some = some_games(test_games, 8 if small else 200)  # an interval takes a full answer, a center a third of one
said_margin, _ = read_margins(reader, tokenizer, test_some)
centers = read_centers(reader, tokenizer, test_games)
asked, lead = test_games["id"].isin(test_some["id"]).to_numpy(), test_games["home_lead"].to_numpy()
stated_ends = np.array([(a.low, a.high) if a else (0.0, 0.0) for a in said_margin.answers]).T
repaired_ends = np.array([centers - repaired, centers + repaired])
found = {}
for name, (low, high), outcomes in [("stated", stated_ends, lead[asked]), ("repaired", repaired_ends, lead)]:
    found[f"{name}, {len(outcomes):,} games"] = rate((low <= outcomes) & (outcomes <= high)), float((high - low).mean())
plots.coverage(found)
for name, (low, high) in {"stated": stated_ends, "repaired": repaired_ends[:, asked]}.items():
    print(f"{name}, the same {asked.sum()} games: interval score {interval_score(low, high, lead[asked]):.1f} points")

# %% [markdown]
# In the stored run the stated intervals held {{lesson07.margin_stated_coverage:.1%}} and the repaired ones {{lesson07.margin_coverage:.1%}}. The repair keeps its promise on average over many draws of games, not in each. It gives a reason for the width:
# what the model missed by in games it was not trained on, not what it was told to say. A warning: the center became the mean of both sides after an earlier stored run had covered too much of this season, so its coverage is no blind result.
#
# ### Does it contradict itself?
#
# Once more from both sides, now on the test games. Then change nothing but the Elo difference in the text: the probability should only go up.

# %%
swap = said.asked_home + said.asked_away - 1
print(f"p(home) + p(away) - 1 in {len(swap)} games: median {np.median(swap):+.3f}, median distance from 0 {np.median(abs(swap)):.3f}")
print(f"Brier of the home question alone {scores['one_side_brier']:.4f}, of the mean of both {scores['yes_no_brier']:.4f}")
game = test_games.iloc[len(test_games) // 2].to_dict()
sweep = pd.DataFrame([game | {"elo_gap": float(gap), "elo_lead": gap + elo.home_edge * game["site"]} for gap in range(-240, 241, 40)])
asked = win_rows(sweep, [0.5] * len(sweep), sides=(1,), wording=0)
climb = yes_no(reader, tokenizer, [yes_no_prompt(r, tokenizer) for r in asked])[0].numpy()
steps_up = int((np.diff(climb) >= 0).sum())
print("P(home win) as Elo goes from -240 to +240:", *[f"{p:.2f}" for p in climb])
print(f"{steps_up} of {len(climb) - 1} steps go up")

# %% [markdown]
# Mostly it does go up. Nearly every step changes the word for the lead, too ("fair favorite" to "clear favorite"). Where the word stays, the number hardly moves. That suggests that the model reads the words rather than +85.
#
# Does it use what it may remember about teams? Call them "Reds" and "Blues" instead. If the names mattered, the answers would move and the score would change.

# %%
places = range(0, len(test_games), 4 if small else 9)
renamed = [win_rows(test_games.iloc[[i]], [0.5], (1,), 0, {test_games.home[i]: "Reds", test_games.away[i]: "Blues"})[0] for i in places]
nameless = yes_no(reader, tokenizer, [yes_no_prompt(r, tokenizer) for r in renamed])[0].double().numpy()
print(f"{len(places)} games with invented names: median change {np.median(abs(nameless - said.asked_home[places])):.3f}; "
      f"Brier {brier(nameless, won[places]):.4f}, with real names {brier(said.asked_home[places], won[places]):.4f}")

# %% [markdown]
# The median answer hardly moves. The score moves more, but of so few games that proves nothing: there is no sign that the names help.
#
# ### Where is it good, and where not?
#
# Slices invite self-deception: with ten of them one looks special by chance. Read the intervals.

# %%
month = pd.to_datetime(test_games["date"]).dt.month
gap = test_games["elo_gap"].abs()
slices = {"all": gap >= 0, "October to December": month >= 10, "January to April": month < 10, "Elo gap below 75": gap < 75, "Elo gap 75 or more": gap >= 75,
          "someone plays two days in a row": test_games["home_tired"] + test_games["away_tired"] > 0}
table = []
for name, chosen in slices.items():
    chosen = chosen.to_numpy()
    if len(set(days[chosen])) > 1:
        versus = paired_brier(home[chosen], on_test["Elo"][chosen], won[chosen], days[chosen])
        table.append({"games": name, "n": int(chosen.sum()), "Brier": f"{brier(home[chosen], won[chosen]):.4f}", "minus Elo [95 %]": str(versus)})
course.show_table(table, caption="Yes/No reading on parts of the test season")

# %% [markdown]
# And read some answers. These are the games on which the model was most certain and wrong, and the ones in the middle.

# %%
errors = np.abs(home - won)
home_rows, checks = win_rows(test_games, home, sides=(1,), wording=0), []
for i in [*np.argsort(-errors)[:3], *np.argsort(np.abs(home - 0.5))[:2]]:
    answer = said.reading.answers[i]
    checks.append({"question": home_rows[i]["question"], "answer": said.texts[i], "Yes/No": f"{home[i]:.2f}", "margin of the game": int(test_games.home_lead[i]),
                   "complete": "yes" if answer else "no", "coherent": "yes" if answer and abs(swap[i]) <= 0.05 and abs(answer.estimate - home[i]) <= 0.05 else "no"})
course.show_table(checks, width=36)

# %% [markdown]
# "Complete" means valid JSON. "Coherent" means that both sides sum to 1 within `0.05`, and that number and token agree within `0.05`. Reliability is not a property of one row: a certain forecast that failed may have been right to be
# certain. Only the reliability curve can tell.
#
# Token and stated number come from the same weights, and mostly agree. In trials with fewer JSON steps they did not: the number shied away from the ends, and forgot the home edge. In this run its slope is
# {{lesson07.stated_slope:.2f}}; three seeds of the study below gave {{study.forecaster.stated_slope_low:.2f}} to {{study.forecaster.stated_slope_high:.2f}}.
#
# ## What the stored study adds
#
# One run is one draw. `make study NAME=forecaster` trains with three seeds, then on one kind of example only: soft or hard labels on Yes/No, the teacher's probability or the outcome as text. It asks the untuned model with and without examples, and
# it has two controls: shuffled outcomes, and a leaky feature in the text. **Predict** the Brier score of the outcome as text, and of the two controls.

# %%
study = course.stored("study.forecaster")["rows"]
readings = {"yes_no_brier": "Yes/No", "stated_brier": "stated", "digits_brier": "digits", "yes_no_slope": "slope", "valid": "valid JSON"}
table = []
for line in study:
    found = {name: f"{line[key]:.4f}" if key in line else "-" for key, name in readings.items()}
    table.append({"run": line["name"], "seed": line["seed"], "games": line["yes_no_games"]} | found)
course.show_table(table, caption="Stored: Brier scores of each reading on test games, one row a run ('-': not read)")

# %% [markdown]
# Not every run was scored on all games: the column says on how many for Yes/No (where it says 400, half of them for the stated numbers). Compare rows of equal numbers. What it says:
#
# * Three seeds of the forecaster: Yes/No {{study.forecaster.yes_no_brier_low:.4f}} to {{study.forecaster.yes_no_brier_high:.4f}}, stated {{study.forecaster.stated_brier_low:.4f}} to {{study.forecaster.stated_brier_high:.4f}}. The run above has the first of these seeds and scored {{lesson07.yes_no_brier:.4f}}: three runs do not bound a fourth.
# * The outcome as text: {{study.forecaster.outcome_text_stated_brier:.3f}}. It states certainties and is worse than a coin, as the rounded regression had told. The teacher's number as text, with as many steps: {{study.forecaster.teacher_text_stated_brier:.3f}}.
# * Hard labels on the Yes/No token: {{study.forecaster.yes_no_hard_yes_no_brier:.4f}}, soft ones {{study.forecaster.yes_no_soft_yes_no_brier:.4f}}. The optimum is the same; the noise is not. (One seed each.)
# * Shuffled outcomes: {{study.forecaster.shuffled_outcomes_yes_no_brier:.4f}}, no better than the home rate. One draw: it shows no skill, and no more.
# * The leaky feature: {{study.forecaster.leaky_feature_yes_no_brier:.3f}} with a calibration slope of {{study.forecaster.leaky_feature_yes_no_slope:.2f}}. Better than any bookmaker, and as well calibrated.
# * The untuned model without and with solved games: {{study.forecaster.zero_shot_yes_no_brier:.3f}} and {{study.forecaster.few_shot_yes_no_brier:.3f}} by its Yes/No token, and no valid answer.
#
# ## What a bettor would have got
#
# A bookmaker turns probabilities into prices, as if they summed to more than 1; the excess is the *vig*. With a vig of `4.5` percent he keeps `0.045 / 1.045` of the stakes on average. Decimal odds of `2.00` pay back twice the stake. By hand: a fair coin would be priced `2.00` on both sides; with a vig, both are less.

# %%
from finetune_utils.betting.stakes import expected_value, growth, kelly, price

odds = float(price([0.5], vig=0.045)[0][0])
print(f"odds on a coin: {odds:.3f} instead of 2.000; expected profit of a stake of 1 at p = 0.50: {expected_value(0.5, odds):+.3f}")
print(f"a bettor who believes p = 0.56 expects {expected_value(0.56, odds):+.3f}, and Kelly's rule stakes {kelly(0.56, odds):.1%} of the bankroll")

# %% [markdown]
# Kelly's rule stakes more, the larger the believed advantage. It makes the bankroll grow fastest *if the belief is exactly right*. **Predict:** what if the true probability is `0.50`?

# %%
for truth in (0.56, 0.53, 0.50):
    per_bet = growth(truth, odds, float(kelly(0.56, odds)))
    print(f"true p {truth:.2f}: the bankroll grows by {per_bet:+.4f} a bet in the log, that is by a factor of {np.exp(200 * per_bet):.2f} in 200 bets")

# %% [markdown]
# No betting odds are in this course's data. So the bookmaker here is simulated, and this is how: his fair price is the model's own probability, moved by as much as closing prices and Elo usually
# differ (the rule `± 0.7` on the logit scale for nine of ten games). The outcomes are drawn from *his* price, because he knows about injuries and line-ups and you do not. Then he adds a vig of `4.5` percent.
#
# The bettor takes every bet that has value by the model's numbers.

# %%
from finetune_utils.betting.questions import RANGE
from finetune_utils.betting.stakes import VIG, bankroll, value_bets


def season(seed):
    rng = np.random.default_rng(seed)
    moved = np.log(home / (1 - home)) + rng.normal(0, RANGE / 1.645, len(home))
    fair = np.clip(1 / (1 + np.exp(-moved)), 0.05, 0.95)
    return price(fair, VIG), (rng.random(len(fair)) < fair).astype(int)


many = [season(seed) for seed in range(200)]

# %% [markdown]
# **Predict:** the bettor asks for an advantage of `0`, `5` and `10` percent before betting. Who loses least?

# %%
returns = {}
for minimum in (0.0, 0.05, 0.10):
    bets = [value_bets(home, *odds, drawn, minimum) for odds, drawn in many]
    claimed = np.concatenate([b.edge[b.side != 0] for b in bets])
    profits = np.concatenate([b.profit[b.side != 0] for b in bets])
    returns[minimum] = profits.mean()
    spread = np.std([b.roi for b in bets])
    print(f"above {minimum:3.0%}: {len(profits) / len(bets):.0f} bets a season, believed {claimed.mean():+.1%} a bet, got {profits.mean():+.1%} (single seasons vary by ± {spread:.1%})")
print(f"what a bet at a right price with this vig loses on average: {-VIG / (1 + VIG):+.1%}")

# %% [markdown]
# A larger believed advantage does not help. Where model and bookmaker disagree most, the model is most wrong: the "advantage" is its error, and the loss is the vig. And look at how much single seasons vary. Luck hides the loss
# for a long time, so one good season proves nothing.
#
# Now with stakes by Kelly's rule, in full and in parts:

# %%
rules = {"full Kelly": 1.0, "half Kelly": 0.5, "a tenth of Kelly": 0.1}
paths = {name: np.array([bankroll(home, *odds, drawn, times) for odds, drawn in many]) for name, times in rules.items()}
plots.bankroll_paths(paths)

# %% [markdown]
# Is the model badly calibrated against this bookmaker's outcomes?

# %%
slope, intercept = calibration_line(np.tile(home, len(many)), np.concatenate([drawn for _, drawn in many]))
print(f"calibration over {len(many)} simulated seasons: slope {slope:.2f}, intercept {intercept:+.2f}")

# %% [markdown]
# Hardly, and still the bettor is ruined. Calibrated means right on average over all games. A bettor does not bet on all games, only on those where the price is
# better than the model's number, and there the one who set the price knows more.
#
# The same with real results of 2024-25, and with a bookmaker who knows no more than the regression of this lesson:

# %%
odds = price(np.clip(on_test["regression"], 0.05, 0.95), VIG)
real = value_bets(home, *odds, won)
print(f"{real.count} bets on {len(won)} games; profit {real.roi:+.1%} a bet, standard error {real.roi_error:.1%}" if real.count > 1 else f"{real.count} bets: the vig is wider than what model and price differ by")

# %% [markdown]
# One season cannot tell a result like that from the vig, nor from zero: two standard errors are wider than both. A profit of the same size would have proved as little.
#
# ### Nobody should bet on this
#
# * The model knows a handful of numbers about a game. A bookmaker knows those, and injuries, line-ups, travel and what everyone else bets.
# * It was taught by a regression that anyone can fit in a second. At best it repeats it.
# * Prices include the vig. To break even, a forecast must be better than the price by more than that, on the very games where it disagrees.
#
# **This is not betting advice.** No number in this lesson is a reason to risk money.
#
# If betting hurts you or someone near you, help is free and confidential in many countries. Look up the helpline for problem gambling of your own country. In the United States the National Council on
# Problem Gambling runs one; its current number is on ncpgambling.org.
#
# ## Larger models, other games
#
# Three ways to go on, without stored figures.
#
# **Older games from the hub.** `GEM/sportsett_basketball` has box scores of earlier seasons. The same checks and features take them.

# %%
from finetune_utils.betting.larger import sportsett_games

OLDER_GAMES = False  # True fetches games from the Hugging Face hub
if OLDER_GAMES:
    older = sportsett_games(split="validation")
    print(f"{len(older)} games from {older[0].date} to {older[-1].date}")
else:
    print("Not fetched: set OLDER_GAMES to True where the hub can be reached.")

# %% [markdown]
# **An encoder.** SportsBERT (`microsoft/SportsBERT`) is a BERT that read sports news. An encoder writes no text: it gets a head with one number and is trained on soft labels with the same loss. Here the code path runs on a tiny encoder with random weights.

# %%
from finetune_utils.betting.larger import encoder_forecaster, encoder_probabilities, train_encoder

ENCODER = "tiny"  # "microsoft/SportsBERT" fetches the real one from the hub; then take a few hundred steps
encoder, encoder_tokenizer = encoder_forecaster(ENCODER)
losses = train_encoder(encoder, encoder_tokenizer, random.Random(0).sample(wins, 64), steps=8)
by_encoder = encoder_probabilities(encoder, encoder_tokenizer, [r["question"] for r in wins[:8]])
print(f"encoder {ENCODER}: loss {losses[0]:.3f} to {losses[-1]:.3f}; first probabilities {[round(float(p), 2) for p in by_encoder[:3]]}")

# %% [markdown]
# **Seven billion parameters.** On a GPU, `Mistral-7B` fits in 4 bits, and the adapter trains as above. Lesson 06 explains QLoRA.

# %%
import importlib.util

from finetune_utils.betting.larger import train_larger

if PROFILE == "gpu" and importlib.util.find_spec("bitsandbytes"):
    seven, seven_tokenizer, seven_result = train_larger("mistralai/Mistral-7B-v0.1", random.Random(0).sample(wins, 480), steps=60)
    print(f"Mistral-7B: {seven_result.seconds:.0f} s for {seven_result.steps} steps")
else:
    print("This needs PROFILE = \"gpu\", a GPU and bitsandbytes: the cell did nothing.")

# %% [markdown]
# ## Check your run

# %%
from finetune_utils.betting.forecasts import score_margins, score_repair

kept = ("_brier", "valid", "inside", "_median", "yes_no_log_loss", "yes_no_slope", "stated_slope", "_vs_elo", "_vs_elo_low", "_vs_elo_high",
        "yes_no_vs_home_rate", "yes_no_vs_home_rate_high", "stated_vs_home_rate_high", "yes_no_vs_regression")
numbers = {key: value for key, value in scores.items() if key.endswith(kept) and not key.startswith("digits_vs")}
intervals = score_margins(said_margin, test_some) | score_repair(centers, test_games, dev_centers, dev_games)
numbers |= {key: value for key, value in intervals.items() if not key.endswith("games")}
numbers |= {f"dev_{name.lower().replace(' ', '_')}": brier(on_dev[name], dev_games["home_won"]) for name in ("Elo", "regression")}
numbers |= {f"leak_{name.replace(' ', '_')}": brier(p, leak_won) for name, p in leaky.items()}
numbers |= {f"{name.replace('-', '_')}_valid": reading.valid_share for name, (reading, _) in first_tries.items()}

# %%
course.check_run(
    "lesson07", profile, **numbers, same_past=same_past, leak_found=leak_found, same_examples=same_examples, elo_by_hand_gap=elo_gap_to_package,
    home_edge=elo.home_edge, carry_over=elo.carry_over, shuffled=float(np.mean(shuffled)), rounded_brier=brier(rounded, dev_games["home_won"]),
    teacher_brier=brier(teacher(test_games), won), teacher_correlation=copied, ece=ece(home, won), ece_if_perfect=ece_null(home)[0],
    steps_up=steps_up, value_bet_return=float(returns[0.0]), kelly_median=float(np.median(paths["full Kelly"][:, -1])), training_seconds=result.seconds,
)

# %% [markdown]
# ## What you learned
#
# * Features must come from strictly earlier dates. Prove it: compute rows again from the past alone, with another result of the game.
# * A proper score rewards the truth. Compare forecasters on the same games, with an interval by day, against rungs that anyone can climb.
# * A leak makes everything look better, calibration included. Suspect whatever stands far above the ladder, then compute rows again with another result.
# * On 2024-25 the Yes/No reading scored {{lesson07.yes_no_brier:.4f}}, the stated number {{lesson07.stated_brier:.4f}}; Elo {{lesson07.elo_brier:.4f}}, the regression {{lesson07.regression_brier:.4f}}, the home rate
#   {{lesson07.home_rate_brier:.4f}}. {{lesson07.valid:.1%}} of the answers were valid JSON.
# * A language model that learns from a regression can at best become that regression, in words. What it adds is the interface, not the forecast.
#
# ## Where this breaks
#
# * One test season, and not an untouched one: early prototypes of this case study had seen results of 2024-25 before the splits were fixed, and so had the figures that set its goals.
# * Three seeds say how much the training varies, not what another season would bring.
# * The ratings know nothing about injuries, trades and rested players.
# * Another league, another season, other rules: fit again.
# * The range of prices was set from closing odds of 2011 to 2015. Today's market is not tested.
# * The bookmaker was simulated. A real one is often better.
#
# The model card of this result is `docs/forecaster_card.md`, that of the games is in `data/README.md`.
#
# ## Further reading
#
# * Brier, *Verification of Forecasts Expressed in Terms of Probability*, Monthly Weather Review 78 (1950).
# * Lin, Hilton and Evans, *Teaching Models to Express Their Uncertainty in Words*, arXiv 2205.14334.
# * Kadavath et al., *Language Models (Mostly) Know What They Know*, arXiv 2207.05221.
# * Halawi et al., *Approaching Human-Level Forecasting with Language Models*, arXiv 2402.18563.
# * Lei et al., *Distribution-Free Predictive Inference for Regression*, arXiv 1604.04173 (split conformal prediction).
# * Kelly, *A New Interpretation of Information Rate*, Bell System Technical Journal 35 (1956).
