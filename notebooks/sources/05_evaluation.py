# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 3, gpu: 4}
#     needs: the model (fetched once), about 4 GB of free memory
#     data: [course_qa.jsonl, quality_pairs.jsonl, science_mcq.jsonl, neutral_text.txt, adapters/course-assistant]
#     teaching:
#       half_day: true
#       waits: [Read the answers first, A model as a judge]
#       skippable:
#         - BLEU, and why its counts are clipped
#         - "Is the interval itself right?"
#         - The ratings
#         - "Batched, or one by one?"
#         - "The same as everyone else's?"
#       watch:
#         redirects_tuned: off-topic questions turned back, tuned
#         nll_unseen_drop: NLL on unseen facts, fall
#         rouge_unseen_change: ROUGE-L on unseen facts, change
#         rule_agreement: labels that the closeness rule agrees with
#         judge_flips: verdicts of the model that flip with the order
#       mistakes:
#         - "Rows are resampled instead of facts. Wordings of one fact rise and fall together, so the interval comes out too narrow (exercise 05.2)."
#         - "\"No difference shown\" is read as \"no difference\". Put the minimum detectable difference beside it."
#         - "A high ROUGE-L is read as a right answer. Show the sentence with the \"not\" again."
#         - "A model is used as a judge in one order only. Swap the order and count the flips before you believe a verdict (exercise 05.3)."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 05: Evaluation
#
# You have two models, one from before the training and one from after it. Is the second one better? At what, by how much, and could it be luck?
# After this lesson you can
#
# * count ROUGE and BLEU by hand, and say when they lie;
# * compare two models on the same rows with an interval, and check that the interval can be trusted;
# * sort errors into categories and read from them which rows to write next;
# * let systems play against each other, and test the judge before you believe it;
# * score multiple choice as benchmarks do, and measure what a model forgot.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## Read the answers first
#
# Three systems take the same test. The *untuned* model gets the question. *Few-shot* is the same model with rules and solved examples in its
# prompt. The *tuned* model carries the committed adapter, which was trained in lesson 04's way. This lesson uses the small model in every profile,
# since the adapter was made for it.

# %%
from finetune_utils import runs
from finetune_utils.generation import fast_copy
from finetune_utils.models import load_model

model, tokenizer = load_model("smollm2-135m")
assistant, _ = runs.load_assistant()
untuned, tuned = fast_copy(model), fast_copy(assistant)
del assistant

# %% [markdown]
# The test has three parts, none of which was trained on: facts that no training row mentions, new wordings of trained facts, and questions about
# something else, which should be turned back.

# %%
rows, count = runs.course_rows(), max(2, profile.generate_rows // 4)
parts = {
    "unseen facts": runs.spread(rows.unseen, count),
    "new wordings": runs.spread(rows.reworded, count),
    "off-topic": runs.spread(rows.off_topic, count),
}
asked = [row for part in parts.values() for row in part]
for name, part in parts.items():
    print(f"{name:13} {len(part):3} questions, for example: {part[0]['question']}")

# %%
from finetune_utils.prompts import chat_prompt, render_prompt

on_topic = [row for row in rows.train if runs.is_fact(row)]
redirects = [row for row in rows.train if runs.is_off_topic(row)]
solved = [(row["question"], row["answer"]) for row in (on_topic[0], redirects[0], on_topic[1])]
rules = (
    "You are the teaching assistant of a course on fine-tuning language models. Answer in one to three complete "
    "sentences. If a question is not about fine-tuning, decline politely and turn back to fine-tuning."
)
short = [render_prompt(row, tokenizer, runs.ASSISTANT_TEMPLATE) for row in asked]
told = [chat_prompt(tokenizer, row["question"], system=rules, examples=solved) for row in asked]
systems = {"untuned": (untuned, short), "few-shot": (untuned, told), "tuned": (tuned, short)}

# %% [markdown]
# Ask once and keep the answers: everything below scores the same texts.

# %%
from finetune_utils.generation import generate

answers = {name: generate(some, tokenizer, prompts, profile.max_new_tokens) for name, (some, prompts) in systems.items()}
by_id = {name: dict(zip([row["id"] for row in asked], texts, strict=True)) for name, texts in answers.items()}
print(f"{len(asked)} questions x {len(systems)} systems = {len(asked) * len(systems)} answers")

# %% [markdown]
# Before any number: read. **Predict:** which of the three systems sounds best, and which one is right most often?

# %%
some = [row for part in parts.values() for row in part[:2]]
table = [{"question": row["question"], "reference": row["answer"]} | {n: by_id[n][row["id"]][:170] for n in answers} for row in some]
course.show_table(table, width=26)

# %% [markdown]
# Sounding right and being right are two things: the tuned model sounds like the course, also where it is wrong. Check each answer against the reference beside it.
#
# Numbers come next, and each of them sees less than you just did. Write down what you noticed; then check whether any measure notices it too.
#
# ## Exact match
#
# The simplest score: is the answer the reference, word for word? The naive test with `==` also minds letter case and blanks, so fold those first.

# %%
from finetune_utils.scores import exact_match

reference = "LoRA freezes the weights."
for text in ("LoRA freezes the weights.", "lora  freezes the weights.", "With LoRA, the weights stay frozen."):
    print(f"==: {text == reference!s:5}   exact match: {exact_match([text], [reference])[0]:.0f}   {text}")

# %% [markdown]
# The third answer is right and scores 0. There are many ways to say a thing, and exact match knows one.
#
# **Predict, then run:** the exact match of the three systems.

# %%
references = [row["answer"] for row in asked]
exact = {name: exact_match(texts, references) for name, texts in answers.items()}
for name, hits in exact.items():
    print(f"{name:9} {sum(hits):.0f} of {len(hits)} answers match exactly")

# %% [markdown]
# Zero for all. Exact match fits tasks with one right wording: a label, a number, JSON. For free answers you need partial credit.
#
# ## Words in common: ROUGE
#
# Take two sentences and a pencil. The reference is "It is cold outside". The model says "It is very cold outside". Count the words they share, then
# the pairs of neighboring words. Precision divides by what was said, recall by what was wanted, F1 balances the two.

# %%
from collections import Counter


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


said, wanted = "it is very cold outside".split(), "it is cold outside".split()
for n in (1, 2):
    shared, all_said, all_wanted = (grams(said, n) & grams(wanted, n)).total(), len(said) - n + 1, len(wanted) - n + 1
    print(f"ROUGE-{n}: {shared} shared; precision {shared}/{all_said}, recall {shared}/{all_wanted}, F1 {2 * shared / (all_said + all_wanted):.4f}")

# %% [markdown]
# ROUGE-L asks for order but allows gaps. Strike out words in both sentences until the same sequence is left: here only "very" goes, so the longest common
# subsequence has four words. That is draft 1. Draft 2 counts it for any two texts with a table that grows row by row; it
# is in `finetune_utils.ngrams`, beside the counts above.
#
# **Predict:** "Outside cold is it" has all the right words. Which of the three scores notices?

# %%
from finetune_utils.ngrams import rouge_l, rouge_n

table = []
for text in ("It is very cold outside", "Outside cold is it", "It is warm outside", "cold cold cold cold"):
    found = {"ROUGE-1": rouge_n(text, "It is cold outside", 1), "ROUGE-2": rouge_n(text, "It is cold outside", 2),
             "ROUGE-L": rouge_l(text, "It is cold outside")}
    table.append({"prediction": text} | {name: f"{x.f1:.3f}" for name, x in found.items()})
course.show_table(table, caption='F1 against "It is cold outside"')

# %% [markdown]
# Everyone else uses the package `rouge_score`. A count by hand is worth something when it agrees with it, on toy sentences and on real answers.

# %%
from finetune_utils import scores

library = scores.rouge(answers["untuned"] + ["It is very cold outside"], references + ["It is cold outside"])
mine = {"rouge1": lambda a, b: rouge_n(a, b, 1), "rouge2": lambda a, b: rouge_n(a, b, 2), "rougeL": rouge_l}
both = list(zip(answers["untuned"] + ["It is very cold outside"], references + ["It is cold outside"], strict=True))
rouge_gap = max(abs(mine[n](a, b).f1 - library[n][i]) for n in mine for i, (a, b) in enumerate(both))
print(f"largest difference over {len(both)} answers and three scores: {rouge_gap:.1e}")

# %% [markdown]
# ## BLEU, and why its counts are clipped
#
# BLEU looks at precision only: how much of what was said stands in the reference? **Predict:** what is the precision of "cold cold cold cold"?

# %%
from finetune_utils.ngrams import clipped_precision

said = "cold cold cold cold".split()
print(f"naive: {sum(word in wanted for word in said)} of {len(said)} words stand in the reference")
matched, everything = clipped_precision(said, [wanted], 1)
print(f"clipped: {matched} of {everything}, because the reference says it once")

# %% [markdown]
# The naive count gives full marks for nonsense. Clipping counts a word at most as often as the reference has it.
#
# BLEU then takes the geometric mean of the clipped precisions of one to four words, and punishes answers that are too short, since precision alone would praise a
# single safe word. The counts of all rows are summed first, so BLEU belongs to a set of answers, not to one.

# %%
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from finetune_utils.ngrams import bleu

cut = Tokenizer13a()
bleu_gap = 0.0
for name, texts in answers.items():
    by_hand = bleu([cut(text).split() for text in texts], [[cut(text).split()] for text in references])
    bleu_gap = max(bleu_gap, abs(by_hand - scores.bleu(texts, references)))
    print(f"{name:9} BLEU by hand {by_hand:.4f}, sacrebleu {scores.bleu(texts, references):.4f} (0 to 100)")

# %% [markdown]
# Many tools expect scores in the shape of the `evaluate` library. Its `load("rouge")` fetches code from a hub and runs it. The course keeps small
# modules of its own, loaded from a folder, and they combine as usual.

# %%
import evaluate

from finetune_utils.metrics import load_metric

combined = evaluate.combine([load_metric(name) for name in ("exact_match", "rouge", "bleu")])
found = combined.compute(predictions=answers["tuned"], references=references)
print({name: round(value, 3) for name, value in found.items()})

# %% [markdown]
# ## Where word counts lie
#
# **Predict, then run.** Order the three answers by how right they are. Then by ROUGE-L.

# %%
truth = "Ruth does drink coffee in the morning."
candidates = ["Ruth does not drink coffee in the morning.", "Her day starts with an espresso.", "The train leaves at nine."]
for text in candidates:
    print(f"ROUGE-L {rouge_l(text, truth).f1:.2f}   {text}")

# %% [markdown]
# One "not" turns the sentence over and hardly moves the score. The paraphrase gets less than a sentence about something else that shares a common word. Word counts reward the reference's words, not its meaning.
#
# ## Sentence similarity
#
# An encoder turns a sentence into a vector, so that sentences of similar meaning point in similar directions. The cosine between two vectors is 1 for
# the same direction. The encoder here is MiniLM, a small model trained for this and nothing else.

# %%
from finetune_utils.embeddings import default_encoder
from finetune_utils.scores import embedding_similarity

encoder = default_encoder()
cosines = embedding_similarity(candidates, [truth] * 3, encoder)
for text, cosine in zip(candidates, cosines, strict=True):
    print(f"cosine {cosine:.2f}, ROUGE-L {rouge_l(text, truth).f1:.2f}   {text}")

# %% [markdown]
# Similarity sees what the paraphrase shares with the truth. It does not see the "not" either: both sentences are about Ruth, coffee and the morning. No cheap
# score reads. That is why you read first.
#
# ## Untuned against tuned
#
# Now the table that an evaluation is for. Every measure, both models, the same rows, and the change with a 95 % interval. The interval comes from a
# bootstrap: draw the test rows again and again with replacement and see how far the change moves. Wordings of one fact rise and fall
# together, so whole facts are drawn.

# %%
from finetune_utils.comparison import compare, compare_nll, mark_answers
from finetune_utils.data import load_rows
from finetune_utils.spelling import known_words

known = known_words([row["answer"] for row in load_rows("course_qa")], tokenizer)
marks, lines = {}, {}
for part, group in parts.items():
    ask, want, facts = ([row[field] for row in group] for field in ("question", "answer", "fact"))
    for name in answers:
        marks[name, part] = mark_answers(ask, [by_id[name][row["id"]] for row in group], want, known, encoder)
    lines[part] = {line.name: line for line in compare(marks["untuned", part], marks["tuned", part], want, facts)}
print(f"{len(marks)} sets of answers marked; measures:", ", ".join(list(lines["unseen facts"])[:4]), "...")

# %% [markdown]
# The negative log-likelihood (NLL) needs no generated text, so it can use more rows: how surprised is the model, per token, by the reference answer?

# %%
from finetune_utils.nll import token_nll
from finetune_utils.tokenization import tokenize_rows

nll = {}
for part, group in {"unseen facts": rows.unseen, "new wordings": rows.reworded}.items():
    scored = runs.spread(group, profile.eval_rows)
    examples = tokenize_rows(scored, tokenizer, runs.ASSISTANT_TEMPLATE).examples
    for name, some_model in (("untuned", untuned), ("tuned", tuned)):
        nll[name, part] = token_nll(some_model, examples, tokenizer)
    lines[part]["NLL (nats per token)"] = compare_nll(nll["untuned", part], nll["tuned", part], [row["fact"] for row in scored])

# %% [markdown]
# **Predict, then run:** which measures improve on unseen facts? Which on new wordings? An interval that holds 0 means: these rows do not show a difference.

# %%
measures = {part: ["NLL (nats per token)", "ROUGE-L", "similarity", "redirects, other rows", "errors of any kind"] for part in parts}
measures["off-topic"] = ["redirects, off-topic rows", "errors of any kind"]
table = [
    {"test rows": part, "measure": name, "untuned": f"{line.before:.3f}", "tuned": f"{line.after:.3f}",
     "change [95 % interval]": str(line.change), "facts": line.groups, "shown": line.verdict}
    for part in parts for name in measures[part] for line in [lines[part][name]]
]
course.show_table(table, caption="Untuned against tuned; intervals by fact, paired row by row")

# %% [markdown]
# Read it part by part. The behavior moved: off-topic questions turned back went from {{lesson05.redirects_untuned:.0%}} to {{lesson05.redirects_tuned:.0%}}. NLL fell by
# {{lesson05.nll_unseen_drop:.2f}} nats on unseen facts and by {{lesson05.nll_reworded_drop:.2f}} on new wordings of trained ones.
# ROUGE-L on unseen facts changed by {{lesson05.rouge_unseen_change:+.3f}}, interval {{lesson05.rouge_unseen_low:+.3f}} to {{lesson05.rouge_unseen_high:+.3f}}. A lower NLL
# says that the model would find the reference less surprising. It does not say that the model would write it. Even on trained facts, where the NLL fell most, ROUGE-L moved by only
# {{lesson05.rouge_reworded_change:+.3f}} [{{lesson05.rouge_reworded_low:+.3f}}, {{lesson05.rouge_reworded_high:+.3f}}]. That is a handful of answers, and one interval among a dozen that only just leaves 0 out is weak evidence, as you will see in a moment.
#
# ### Is the interval itself right?
#
# Put the instrument on a case whose answer you know. The tuned model against itself: every change must be 0, and no measure may be called better.

# %%
against_itself = []
for part, group in parts.items():
    own = marks["tuned", part]
    against_itself += compare(own, own, [row["answer"] for row in group], [row["fact"] for row in group])
against_itself += [compare_nll(nll["tuned", part], nll["tuned", part], range(len(nll["tuned", part].sums))) for part in ("unseen facts", "new wordings")]
null_covers = all(not line.change.excludes_zero for line in against_itself)
print(f"{len(against_itself)} measures of the model against itself; every interval covers 0:", null_covers)

# %% [markdown]
# That was too easy, because nothing varied. A harder null: keep the real answers and toss a coin for every fact, which model gets whose. There is no
# difference between "heads" and "tails". A 95 % interval should still claim one in about 5 of 100 cases.

# %%
import numpy as np

from finetune_utils.evaluation import mean_difference

both_parts = ("unseen facts", "new wordings")
change = np.concatenate([np.subtract(marks["tuned", part].rouge_l, marks["untuned", part].rouge_l) for part in both_parts])
fact_of = [row["fact"] for part in both_parts for row in parts[part]]
coin, tosses, alarms = np.random.default_rng(0), 200, 0
for _ in range(tosses):
    side = dict(zip(sorted(set(fact_of)), coin.choice([-1, 1], len(set(fact_of))), strict=True))
    swapped = [side[fact] * c for fact, c in zip(fact_of, change, strict=True)]
    alarms += mean_difference(0 * change, swapped, fact_of).excludes_zero
false_alarms = alarms / tosses
print(f"{tosses} comparisons without a difference: {false_alarms:.1%} claim one")

# %% [markdown]
# In the stored run {{lesson05.false_alarms:.1%}} claimed one. That agrees with one in twenty, for ROUGE-L and {{lesson05.facts:.0f}} facts. Most lines of the table rest on half as many, and with few facts a bootstrap tends to be too sure of itself: take their ends as rough, and run this check on your own test. And mind the
# table: where a dozen lines are tested, one false claim among them is nothing unusual.
#
# ### How many rows would show it?
#
# "No difference shown" can mean two things: there is none, or the test is too small. The minimum detectable difference tells them apart. It is the smallest true change that
# such a test would find four times in five.

# %%
from finetune_utils.evaluation import groups_needed

line = lines["unseen facts"]["ROUGE-L"]
print(f"change in ROUGE-L on unseen facts: {line.change}; {line.groups} facts can show {line.detectable:.3f} or more")
for difference in (0.05, 0.02, 0.01):
    print(f"a true change of {difference:.2f} would need about {groups_needed(line.change, line.groups, difference):,.0f} facts")

# %% [markdown]
# Half the difference needs four times the rows. Do this sum *before* you collect a test set.
#
# ## What went wrong?
#
# An average does not tell you what to do next. Sort the errors. The rules in `finetune_utils.error_categories` are plain, so each can give its reason. **Predict:** what is
# the untuned model's most frequent error, and what is the tuned one's?

# %%
from finetune_utils.error_categories import count_errors, find_errors

for answer, reference in [
    ("Use rank 64.", "Use rank 16 for a start."),
    ("The adapter is small. The adapter is small.", "An adapter is small."),
    ("I'm sorry, I cannot help with that.", "An adapter is small."),
]:
    print([str(finding) for finding in find_errors("What about the adapter's rank?", answer, reference)])

# %%
errors = {name: count_errors([row for part in parts for row in marks[name, part].findings]) for name in answers}
shown = [
    {"question": row["question"], "tuned": text[:150], "finding": "\n".join(map(str, findings))}
    for part in parts
    for row, text, findings in zip(parts[part], marks["tuned", part].answers, marks["tuned", part].findings, strict=True)
    if findings
]
course.show_table(shown[:5], caption="Answers of the tuned model with a finding", width=42)

# %%
from finetune_utils import evaluation_plots

evaluation_plots.error_categories(errors["untuned"], errors["tuned"], len(asked))

# %% [markdown]
# The untuned model's most frequent error is an answer that does not stop in time; the tuned one's is a wrong fact, the only frequent category that training did not shrink. In the stored run {{lesson05.errors_untuned:.0%}} of the untuned model's answers had at least one finding, and {{lesson05.errors_tuned:.0%}} of the tuned one's. Do not read the
# rest as right answers: a rule that looks for a contradicting number finds no false sentence without numbers. Nor is every finding right, so read the reasons. You read some of those above.
#
# What each category says about the data:
#
# | most frequent error | look at | write |
# |---|---|---|
# | off-topic | does every off-topic row redirect? | more redirects, also near the border |
# | harmful or refused | redirects among good questions | more on-topic rows that begin like redirects' questions |
# | too long | the length of your answers | shorter answers, end-of-turn token supervised |
# | repetition | the same phrases in many answers | varied answers, fewer epochs |
# | broken format | rows cut by the length limit | shorter rows, or a larger limit |
# | misspelling | typos in *answers* | clean answers; typos belong into questions only |
# | wrong fact | is the fact in the training rows at all? | more wordings of it, or retrieval instead |

# %% [markdown]
# ## Which one is better? Pairs and ratings
#
# A score per answer is hard to agree on. "Which of these two is better?" is easier, and pairs add up to a rating. Elo's rating, known from chess, moves after every
# game by how surprising the result was. By hand: two players with 1000 points each; the winner of the first game gets half of `k = 16`.

# %%
from finetune_utils.pairwise import Game, elo

results = [("tuned", "untuned", 1), ("tuned", "untuned", 1), ("tuned", "untuned", 0)]
played = [Game(i, a, b, score) for i, (a, b, score) in enumerate(results)]
print("after one game:   ", {k: round(v, 1) for k, v in elo(played[:1]).items()})
print("after three games:", {k: round(v, 1) for k, v in elo(played).items()})
print("the same, backward:", {k: round(v, 1) for k, v in elo(played[::-1]).items()})

# %% [markdown]
# The same three results in another order, another rating. For players who change from month to month that is intended. Your models do not change, so
# `ratings` fits all games at once, on the same scale, and gives an interval.
#
# ### First test the judge
#
# Who decides a game? Here, a stated rule: the answer that is closer to the reference wins, where closeness is the mean of ROUGE-L and similarity; a difference of at most `0.02` is a tie. You have seen
# both of them fail. So compare the rule with {{data.quality_pairs.rows}} pairs that were labeled by reading, before the rule was run on them. Some pairs are two real
# answers of the models, some a real and a written one, and some two written ones. The written ones are mostly traps: a right answer in its own words against a wrong one in the
# words of the reference.

# %%
pairs = runs.spread(load_rows("quality_pairs"), profile.eval_rows)
trap = next(row for row in pairs if row["id"].startswith("written"))
for field in ("question", "reference", "a", "b", "better", "why"):
    print(f"{field:9} {trap[field]}")

# %% [markdown]
# One word for what you will read: *kappa* is agreement beyond chance. 1 is perfect, 0 is what chance gives, below 0 is worse.
#
# **Predict:** on how many of 100 pairs will the rule agree with the labels, on real answers and on traps? And a rule that simply prefers the shorter answer?

# %%
from finetune_utils.pairwise import agreement, closeness, verdict

value_of = {"a": 1.0, "b": 0.0, "tie": 0.5}
labels = [value_of[row["better"]] for row in pairs]
close = {side: closeness([row[side] for row in pairs], [row["reference"] for row in pairs], encoder) for side in "ab"}
verdicts = {"rule: closer to the reference": [verdict(a, b) for a, b in zip(close["a"], close["b"], strict=True)]}
words = {side: [len(row[side].split()) for row in pairs] for side in "ab"}
verdicts["baseline: the shorter one"] = [verdict(b, a, 0) for a, b in zip(words["a"], words["b"], strict=True)]
verdicts["baseline: always a tie"] = [0.5] * len(pairs)
for name, given in verdicts.items():
    print(f"{name}: {agreement(given, labels)}")

# %% [markdown]
# ### A model as a judge
#
# Many evaluations ask a language model which answer is better. Try it with the untuned model: it reads the question and both answers, and we compare how likely it finds "A" and
# "B". Nothing is generated, so no verdict is lost. Every pair is asked twice, with the order swapped. **Predict:** how often does the verdict flip?

# %%
from finetune_utils.pairwise import judge_by_model

judged = judge_by_model(untuned, tokenizer, *([row[field] for row in pairs] for field in ("question", "a", "b")))
verdicts["the 135M model, both orders"] = judged.verdicts
model_agrees = agreement(judged.verdicts, labels)
print(f"The model as judge: {model_agrees}.")
print(f"Verdicts that flip when the order is swapped: {judged.flips.mean():.0%}; for whatever stood first: {judged.first_place:.0%}")

# %%
kinds = {"two real answers": "models", "real and written": "mixed", "two written (traps)": "written"}
found = {}
for kind, start in kinds.items():
    chosen = [i for i, row in enumerate(pairs) if row["id"].startswith(start)]
    found[f"{kind}\n{len(chosen)} pairs"] = {
        name: agreement([given[i] for i in chosen], [labels[i] for i in chosen]).share for name, given in verdicts.items()}
evaluation_plots.judges(found)

# %% [markdown]
# In the stored run the rule agreed with {{lesson05.rule_agreement:.0%}} of all labels, and with {{lesson05.rule_on_models:.0%}} on two real answers; on the few of these where neither side called a tie, with
# {{lesson05.rule_decided_on_models:.0%}}. On traps it agreed with {{lesson05.rule_on_traps:.0%}}: an answer in the wrong words loses, even when it is right. The model as judge
# agreed with {{lesson05.judge_agreement:.0%}}, and {{lesson05.judge_flips:.0%}} of its verdicts flipped. A verdict that depends on the order is no verdict.
#
# Look at the two baselines: the one that takes the shorter answer agreed with more of the labels than ours did. That is a flaw of the labeled set, not a merit of the baseline: in most of the written pairs the better answer is the shorter one, and on two real answers the baseline fails. There, saying "tie"
# every time does about as well as our rule. So ours has not passed as a judge of quality. The ratings below measure closeness to the reference among answers of these models, and nothing else.
#
# ### The ratings

# %%
from finetune_utils.pairwise import judge_by_rule, ratings

on_rows = [row for part in both_parts for row in parts[part]]
games = judge_by_rule({name: [by_id[name][row["id"]] for row in on_rows] for name in answers}, [row["answer"] for row in on_rows], encoder)
rated = ratings(games, [row["fact"] for row in on_rows])
evaluation_plots.ratings(rated.levels, "closeness rating")
for (one, other), gap in rated.gaps.items():
    print(f"{one} minus {other}: {gap.estimate:+.0f} [{gap.low:+.0f}, {gap.high:+.0f}]{'' if gap.excludes_zero else ', no difference shown'}")

# %% [markdown]
# Intervals that overlap settle nothing, because the systems answered the same questions. What decides is the interval of the difference: the lines below the figure. Off-topic questions are not among these games: there the tuned model would win by its redirects
# alone. And 1000 is only the mean of these three; a rating means nothing outside its own tournament.
#
# ## Batched, or one by one?
#
# An evaluation answers hundreds of questions, so speed matters. Do batches change the answers? Short prompts are padded on the left, and padding must
# not be looked at. Use exact float32 arithmetic for the test.

# %%
import time

few = runs.spread(short, 6 if profile.name != "smoke" else 3)
new_tokens, started = min(24, profile.max_new_tokens), time.perf_counter()
together = generate(model, tokenizer, few, new_tokens, batch_size=len(few))
batched = time.perf_counter() - started
alone = [generate(model, tokenizer, [prompt], new_tokens)[0] for prompt in few]
one_by_one = time.perf_counter() - started - batched
same_text = together == alone
print(f"{len(few)} questions: same text: {same_text}; one by one takes {one_by_one / batched:.1f} x the time of the batch")

# %% [markdown]
# In 16-bit formats a sum may round differently in another batch, and a near tie between two words can fall the other way. Compare two models with the same batches.
#
# ### Count the failures
#
# Some answers never come: an error, a timeout, JSON that cannot be read. A loop that says `except: continue` drops them, and what is dropped does not count against the model.

# %%
came = ["An adapter is small.", None, "An adapter is small."]
reference = "An adapter is small."
skipped = [rouge_l(text, reference).f1 for text in came if text is not None]
counted = mark_answers(["What is an adapter?"] * 3, came, [reference] * 3)
print(f"skipped: {sum(skipped) / len(skipped):.2f}; counted: {sum(counted.rouge_l) / len(came):.2f}")
empty = {name: sum(not text.strip() for text in texts) for name, texts in answers.items()}
print("answers without a word in this run:", empty)

# %% [markdown]
# The functions of this course score a missing answer as an empty one: 0, and an error of its own category.
#
# ## Benchmarks: multiple choice
#
# Public benchmarks compare models on fixed questions. Know what you read:
#
# | benchmark | asks | four choices? | mind |
# |---|---|---|---|
# | **ARC** | science questions of school exams, easy and challenge | mostly | knowledge more than reasoning |
# | **HellaSwag** | which ending continues an everyday scene | yes | wrong endings were written by a model, to fool models |
# | **MMLU** | exam questions in 57 subjects, school to profession | yes | some keys are wrong; format matters |
# | **TruthfulQA** | questions that invite popular errors | varies | measures repeating errors, not knowing |
#
# A small model cannot be trusted to *say* a letter. So nothing is generated: the choice that the model finds most likely after the question is its
# answer. By hand on one question:

# %%
from finetune_utils.multiple_choice import log_likelihoods, multiple_choice, question_context

mcq = runs.spread(load_rows("science_mcq"), profile.eval_rows)
one = mcq[0]
likely = log_likelihoods(untuned, tokenizer, [(question_context(one["question"]), " " + choice) for choice in one["choices"]])
print(one["question"])
for i, (choice, score) in enumerate(zip(one["choices"], likely, strict=True)):
    print(f"{score:8.2f} nats, {score / len(choice):6.2f} per character   {choice}{'   (right)' if i == one['answer'] else ''}")

# %% [markdown]
# A long choice loses likelihood with every token, so benchmarks also give `acc_norm`, which divides by the length. Now all questions, before and after. Guessing gets one in four.
# **Predict:** does a course assistant lose its school science?

# %%
from finetune_utils.evaluation import minimum_detectable_difference, rate

choices = {name: multiple_choice(some_model, tokenizer, mcq) for name, some_model in (("untuned", untuned), ("tuned", tuned))}
for name, result in choices.items():
    share = rate(list(result.right))
    print(f"{name:8} {share.estimate:.1%} right [{share.low:.1%}, {share.high:.1%}] of {len(mcq)}; acc_norm {result.acc_norm:.1%}")
mcq_change = mean_difference(choices["untuned"].right, choices["tuned"].right, range(len(mcq)))
mcq_mdd = min(1.0, minimum_detectable_difference(mcq_change))
print(f"change {mcq_change}; these questions can show {mcq_mdd:.3f} or more")

# %% [markdown]
# No loss is shown, and one that is smaller than these questions can show could hide.
#
# ### The same as everyone else's?
#
# The reference program for such scores is EleutherAI's lm-evaluation-harness. A task is a short file. The course's numbers are tested against it: equal accuracy, and
# log-likelihoods within `1e-3` nats.

# %%
from finetune_utils import harness

print(harness.TASK.format(folder="FOLDER"))

# %% [markdown]
# With this file and the rows in a folder, the command is
#
# ```
# lm_eval --model hf --model_args pretrained=MODEL --include_path FOLDER --tasks course_task
# ```
#
# The next cell runs it in this notebook on a few questions, if the package is there (`pip install "lm-eval>=0.4.8"`).

# %%
harness_found = {}
if harness.harness_installed():
    theirs, ours = harness.harness_scores(model, tokenizer, mcq[:6]), multiple_choice(model, tokenizer, mcq[:6])
    gap = max(np.abs(a - b).max() for a, b in zip(theirs.log_likelihoods, ours.log_likelihoods, strict=True))
    harness_found = {"harness_gap": gap, "harness_same": theirs.right == ours.right.tolist()}
    print(f"accuracy: harness {theirs.acc:.3f}, here {ours.acc:.3f}; largest difference in log-likelihood {gap:.1e} nats")
else:
    print("lm-evaluation-harness is not installed, so this comparison is left out.")

# %% [markdown]
# On the `gpu` profile, the hub has the real thing:

# %%
if profile.name == "gpu":
    arc = load_rows("allenai/ai2_arc", source="hub", split="test", limit=400)
    result = multiple_choice(untuned, tokenizer, arc)
    print(f"ARC-Easy, {len(arc)} questions: acc {result.acc:.1%}, acc_norm {result.acc_norm:.1%}")
else:
    print("ARC-Easy comes from a model hub and is scored on the gpu profile only.")

# %% [markdown]
# ## What did it forget?
#
# Training on narrow rows can damage what the model could do before: catastrophic forgetting. Multiple choice is a weak detector, as its minimum detectable difference just
# told you. The NLL of plain prose is a better one: thousands of tokens, each a small test. The course's `neutral_text.txt` speaks of cooking, weather and letters.

# %%
from finetune_utils.forgetting import forgotten, neutral_nll, neutral_windows

windows = neutral_windows(tokenizer, limit=profile.eval_rows)
plain = {name: neutral_nll(some_model, tokenizer, windows) for name, some_model in (("untuned", untuned), ("tuned", tuned))}
lost = forgotten(plain["untuned"], plain["tuned"], windows)
print(f"NLL of neutral text: untuned {plain['untuned'].mean:.3f}, tuned {plain['tuned'].mean:.3f} nats per token")
print(f"change {lost} (95 % interval by piece of text; above 0 is forgotten)")

# %% [markdown]
# The tuned model's NLL on ordinary prose changed by {{lesson05.neutral_change:+.3f}} nats, interval {{lesson05.neutral_low:+.3f}} to {{lesson05.neutral_high:+.3f}}.
#
# Is LoRA gentler than full fine-tuning? That takes two trainings on equal rows and steps, so the rows are stored. `make study NAME=forgetting` makes them again.

# %%
study = course.stored("study.forgetting")
table = [
    {"arm": row["arm"], "trained parameters": f"{row['trainable']:,}", "NLL of neutral text": f"{row['neutral_nll']:.3f}",
     "change": f"{row['change'] or 0:+.3f} [{row['change_low'] or 0:+.3f}, {row['change_high'] or 0:+.3f}]",
     "questions right": f"{row['mcq_accuracy']:.1%} [{row['mcq_low']:.1%}, {row['mcq_high']:.1%}]",
     "can show": f"{row['mcq_mdd']:.3f}", "NLL on unseen facts": f"{row['unseen_nll']:.2f}"}
    for row in study["rows"]
]
course.show_table(table, caption="Stored: the same rows and steps, three ways")

# %%
evaluation_plots.forgetting(study["rows"], live=lost)

# %% [markdown]
# The red point is the adapter you scored a minute ago; it had another training, so it need not lie on a stored row. (The study scored fewer windows and questions, so its untuned row differs a little from yours. The right panel has the stored arms only.) Read the left panel for the damage and the last column of the table for what was
# bought with it. On the right, compare each arm with the untuned model on the same questions, not by overlap: the share of right answers changed by {{study.forgetting.lora_mcq_change:+.3f}} with LoRA and by {{study.forgetting.full_mcq_change:+.3f}} with all weights. Neither shows a loss.
#
# Here LoRA was not gentler. With each method at the rate that dev rows chose, it forgot more of the neutral text than full fine-tuning: the difference is {{study.forgetting.lora_neutral_vs:+.3f}}
# [{{study.forgetting.lora_neutral_vs_low:+.3f}}, {{study.forgetting.lora_neutral_vs_high:+.3f}}] nats per token. On new wordings of trained facts it learned less (NLL change {{study.forgetting.lora_reworded_change:+.2f}} against {{study.forgetting.full_reworded_change:+.2f}} nats per token), on unseen facts a little more
# ({{study.forgetting.lora_unseen_nll:.2f}} against {{study.forgetting.full_unseen_nll:.2f}}). One seed each.
#
# ## Check your run

# %%
on_models = [i for i, row in enumerate(pairs) if row["id"].startswith("models")]
on_traps = [i for i, row in enumerate(pairs) if row["id"].startswith("written")]
rule = verdicts["rule: closer to the reference"]
real, traps = (agreement([rule[i] for i in chosen], [labels[i] for i in chosen]) for chosen in (on_models, on_traps))
values = {f"elo_{name.replace('-', '_')}": x.estimate for name, x in rated.levels.items()} | harness_found
for part, key in (("unseen facts", "unseen"), ("new wordings", "reworded")):
    values[f"nll_{key}_drop"] = -lines[part]["NLL (nats per token)"].change.estimate
    for name, short_name in (("ROUGE-L", "rouge"), ("similarity", "similarity")):
        change = lines[part][name].change
        values |= {f"{short_name}_{key}_change": change.estimate, f"{short_name}_{key}_low": change.low, f"{short_name}_{key}_high": change.high}

# %%
back = lines["off-topic"]["redirects, off-topic rows"]
course.check_run(
    "lesson05", profile, facts=len(set(fact_of)), rouge_gap=rouge_gap, bleu_gap=bleu_gap, same_text=same_text,
    exact_match=max(sum(hits) / len(hits) for hits in exact.values()), null_covers=null_covers, false_alarms=false_alarms,
    redirects_untuned=back.before, redirects_tuned=back.after,
    errors_untuned=errors["untuned"]["any"] / len(asked), errors_tuned=errors["tuned"]["any"] / len(asked),
    rule_agreement=agreement(rule, labels).share.estimate, rule_on_models=real.share.estimate, rule_on_traps=traps.share.estimate,
    rule_decided_on_models=real.decided if real.n_decided else 0.0,
    judge_agreement=model_agrees.share.estimate, judge_flips=judged.flips.mean(), judge_first_place=judged.first_place,
    mcq_untuned=choices["untuned"].acc, mcq_tuned=choices["tuned"].acc, mcq_mdd=mcq_mdd,
    neutral_change=lost.estimate, neutral_low=lost.low, neutral_high=lost.high, **values,
)

# %% [markdown]
# ## What you learned
#
# * Read answers first. Exact match is for tasks with one right wording; the best system here reached {{lesson05.exact_match:.0%}}.
# * ROUGE and BLEU count shared words. Your counts equal the libraries'. A "not" costs next to nothing, a paraphrase can cost everything.
# * A change needs the same rows, an interval by fact, and a null comparison. "No difference shown" needs the minimum detectable difference beside it.
# * Error categories say what to write next; averages do not.
# * A judge is an instrument. The rule agreed with {{lesson05.rule_agreement:.0%}} of the labels, the small model with {{lesson05.judge_agreement:.0%}}, and {{lesson05.judge_flips:.0%}} of the model's verdicts flipped.
# * Multiple choice can be scored without a generated word; these questions can show a change of {{lesson05.mcq_mdd:.2f}} or more. Neutral-text NLL sees smaller damage.
#
# ## Where this breaks
#
# * One reader labeled the pairs, and on unseen facts both models are mostly wrong, so many labels choose the less bad answer. The written pairs are harder than what models say.
# * Closeness to one reference punishes every other right answer. None of the measures here knows whether a sentence is true.
# * The error rules are checked on English answers of one to three sentences. On other data, read their reasons before you count.
# * A 135M model is a poor judge. A large one is better, has the same habits in smaller measure, and must pass the same two tests.
# * One adapter is one training. Another seed moves these numbers, and no interval here contains that; lesson 04's stored study shows how much.
# * The multiple-choice questions are easy and few, and similar ones may stand in what the model was pretrained on.
#
# ## Further reading
#
# * Lin, *ROUGE: A Package for Automatic Evaluation of Summaries*, ACL workshop 2004, aclanthology.org/W04-1013.
# * Papineni et al., *BLEU: a Method for Automatic Evaluation of Machine Translation*, ACL 2002, aclanthology.org/P02-1040.
# * Post, *A Call for Clarity in Reporting BLEU Scores*, arXiv 1804.08771.
# * Reimers and Gurevych, *Sentence-BERT*, arXiv 1908.10084.
# * Card et al., *With Little Power Comes Great Responsibility*, arXiv 2010.06595.
# * Zheng et al., *Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena*, arXiv 2306.05685.
# * Clark et al., *Think you have Solved Question Answering? Try ARC*, arXiv 1803.05457.
# * Hendrycks et al., *Measuring Massive Multitask Language Understanding*, arXiv 2009.03300.
# * Zellers et al., *HellaSwag*, arXiv 1905.07830. Lin et al., *TruthfulQA*, arXiv 2109.07958.
