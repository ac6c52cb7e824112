# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 5, gpu: 6}
#     needs: the model (fetched once), about 4 GB of free memory
#     data: [dialogues.jsonl, course_qa.jsonl, tweets.jsonl, neutral_text.txt]
#     teaching:
#       waits: ["Zero-, one-, few-shot", Train]
#       skippable:
#         - Does variety of wording help?
#         - What FLAN did
#       watch:
#         rouge_l_first_turns: ROUGE-L of the first two turns
#         rouge_l_few_shot: ROUGE-L of few-shot summaries
#         rouge_l_tuned: ROUGE-L of tuned summaries
#         gap_few_shot: ROUGE-L, tuned minus few-shot
#         question_nll_change: NLL of answers on fine-tuning after training on summaries, change
#       mistakes:
#         - The length limit cuts rows at the end. There stands the summary, so the answer goes first and the loss does not tell.
#         - Batches are shuffled over all tasks. The loss is a mean over tokens, so a one-word label next to a summary hardly counts.
#         - A row keeps its column `text`. It is then taken for raw text, and the whole post is trained instead of its label.
#         - A higher ROUGE is read as "more often true". It counts shared words; who did what takes a reader.
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 09: Summaries, and several tasks in one model
#
# Teach a small model to say in two sentences what people agreed on. Then ask what that costs its other tasks, and whether one model can learn three. After
# this lesson you can
#
# * hold fine-tuned summaries against a free baseline and against zero-, one- and few-shot prompts, with intervals;
# * read ten summaries with a checklist, and say what the scores did not see;
# * mix tasks: choose their shares, build batches, and keep short answers from being drowned;
# * score every run on every task and on what it forgot;
# * use the same code for an encoder-decoder such as FLAN-T5.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)
smoke = profile.name == "smoke"

# %% [markdown]
# ## What people said, and what came of it
#
# The course has {{data.dialogues.rows}} short dialogues, each with a summary. They were written for the course. The split is by dialogue: training rows, dev rows for choices, test rows for
# the end. Read this one, cover the last line, and write your own summary first.

# %%
from finetune_utils.summaries import summary_rows

parts = summary_rows()
print({name: len(rows) for name, rows in parts.items()})
example = parts["train"][1]
print(example["dialogue"])
print("\nSUMMARY:", example["summary"])

# %% [markdown]
# Yours is probably as good and shares few words with the reference. Remember that when you see the scores: ROUGE counts shared words (lesson 05), and there is one reference for each
# dialogue.
#
# ## A baseline that costs nothing
#
# News articles tell the main thing first, so their first sentences are a strong summary. Do dialogues? **Predict** what the first two turns say about the outcome.

# %%
from finetune_utils.ngrams import rouge_l
from finetune_utils.summaries import first_turns

print(first_turns(example["dialogue"]))
print(f"\nROUGE-L against the reference: {rouge_l(first_turns(example['dialogue']), example['summary']).f1:.2f}")

# %% [markdown]
# Here the outcome comes late. But names and subject stand at the top, so the baseline is not zero. Any model has to beat it to be worth its electricity.
#
# ## Zero-, one-, few-shot
#
# The untuned model gets the instruction and the dialogue. That is zero-shot. One-shot puts a solved example before it, few-shot three. **Predict:** what do examples do to
# the length of a prompt?

# %%
from finetune_utils.models import load_model
from finetune_utils.prompts import chat_prompt
from finetune_utils.summaries import solved_examples

model, tokenizer = load_model(profile.model)
shots = {name: solved_examples(parts["train"], count) for name, count in {"zero-shot": 0, "one-shot": 1, "few-shot": 3}.items()}
for name, solved in shots.items():
    prompts = [chat_prompt(tokenizer, row["question"], examples=solved) for row in parts["test"]]
    tokens = sum(len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in prompts) / len(prompts)
    print(f"{name:9} {tokens:4.0f} tokens a prompt, on average")

# %% [markdown]
# Every request pays for the examples again, unless the program keeps what it has read of a shared beginning. That is called *prefix caching*; servers do it, and `generate` does it within a batch when weights are float32. The
# price of a longer context stays: every new token attends to all of it. The three shortest training rows are used, to keep the price low. All three prompts carry the model's own system message, which it was
# trained with before it came to you.

# %%
from finetune_utils import runs
from finetune_utils.generation import fast_copy
from finetune_utils.summaries import MAX_TOKENS, summarize

test = runs.spread(parts["test"], 2 if smoke else min(40, profile.generate_rows))
if profile.shrunk:  # no 16-bit arithmetic: fewer dialogues
    test = runs.spread(parts["test"], 24)
longest = profile.max_new_tokens if smoke else MAX_TOKENS
untuned = fast_copy(model)
texts = {"first two turns": [first_turns(row["dialogue"]) for row in test]}
for name, solved in shots.items():
    texts[name] = summarize(untuned, tokenizer, test, examples=solved, max_new_tokens=longest, system=None)
print(f"{len(test)} test dialogues x {len(shots)} prompts answered")

# %% [markdown]
# Before any score, read. What goes wrong, and is it the same in all three?

# %%
for row in test[:2]:
    print("REFERENCE:", row["summary"])
    for name in shots:
        print(f"{name.upper()}: {texts[name][test.index(row)]}")
    print()

# %% [markdown]
# It is not the same. Zero-shot tends to go on with the dialogue instead of summing it up. With examples the model writes sentences about the speakers, but it repeats itself and mixes up who did what.
#
# ## Rows that fit
#
# Now training rows: instruction and dialogue as the prompt, the summary as the answer. Only the summary is supervised. First the classic mistake: a length limit
# that looks generous.

# %%
from finetune_utils.summaries import TEMPLATE
from finetune_utils.tokenization import tokenize_rows

for limit in (256, 320):
    cut = tokenize_rows(parts["train"], tokenizer, TEMPLATE, max_length=limit)
    print(f"limit {limit}: {cut.truncated} of {len(cut.examples)} rows lose the end of their summary and the end-of-turn token")

# %% [markdown]
# The answer stands at the end of a row, so a cut takes the answer first. The model would learn to stop in the middle of a sentence, and no loss would tell you. If you must cut, cut the
# dialogue, and not its end: that is where the outcome is.
#
# ## Train
#
# The tuned model will be asked as it is trained, so its rows need no long system message: theirs is empty. LoRA as in lesson 06: {{study.mixed_training.summaries_rows}} rows in {{study.mixed_training.summaries_steps}} steps, so that every dialogue comes once or twice. The rate was chosen on dev rows. **Predict:** what will change first,
# the facts or the manner?

# %%
from finetune_utils import plots
from finetune_utils.lora import add_lora
from finetune_utils.summaries import encode_summaries, train_long_rows
from finetune_utils.task_runs import Sizes, summary_settings

sizes = Sizes(rank=profile.lora_rank) if not smoke else Sizes(steps=2, batch_size=2, rank=profile.lora_rank)
if profile.shrunk:  # no 16-bit arithmetic: every dialogue once, and the upper half learns
    from finetune_utils.lora import freeze_below
    sizes = Sizes(steps=26, rank=profile.lora_rank)
dev = encode_summaries(parts["dev"][:2] if smoke else parts["dev"], tokenizer)
tuned_model = add_lora(model, rank=sizes.rank)
if profile.shrunk:
    freeze_below(tuned_model, 15)
result = train_long_rows(tuned_model, tokenizer, encode_summaries(parts["train"], tokenizer), summary_settings(sizes))
plots.loss_curve(result.history)
print(f"{result.steps} steps in {result.seconds:.0f} seconds")

# %%
from finetune_utils.nll import token_nll

tuned = fast_copy(tuned_model)
dev_nll = {"untuned": token_nll(untuned, dev, tokenizer).mean, "tuned": token_nll(tuned, dev, tokenizer).mean}
print(f"NLL of dev summaries: {dev_nll['untuned']:.2f} untuned, {dev_nll['tuned']:.2f} tuned (nats per token)")
texts["tuned"] = summarize(tuned, tokenizer, test, max_new_tokens=longest)

# %% [markdown]
# ## The scores
#
# **Predict** the order of the five systems, then run. The test rows are scored here for the first time, and nothing was chosen by them.

# %%
from finetune_utils import summary_plots
from finetune_utils.summaries import rouge_gap, rouge_intervals

references = [row["summary"] for row in test]
scored = {name: rouge_intervals(answers, references) for name, answers in texts.items()}
summary_plots.rouge_ladder(scored)

# %% [markdown]
# The intervals belong to each system alone. For "better than", take the difference row by row.

# %%
gaps = {name: rouge_gap(answers, texts["tuned"], references) for name, answers in texts.items() if name != "tuned"}
for name, gap in gaps.items():
    print(f"ROUGE-L, tuned minus {name}: {gap}, {'shown' if gap.excludes_zero else 'not shown'} by these {len(test)} rows")

# %% [markdown]
# In the stored run, tuned summaries had a ROUGE-L of {{lesson09.rouge_l_tuned:.3f}}, few-shot {{lesson09.rouge_l_few_shot:.3f}}, zero-shot {{lesson09.rouge_l_zero_shot:.3f}}, and the first two turns
# {{lesson09.rouge_l_first_turns:.3f}}. Tuned minus few-shot was {{lesson09.gap_few_shot:+.3f}}, interval {{lesson09.gap_few_shot_low:+.3f}} to {{lesson09.gap_few_shot_high:+.3f}}.
#
# How much of that is manner? References have about thirty words, name the speakers, and speak in the third person. A system that rambles loses precision. Look at lengths.

# %%
for name, answers in {"reference": references, **texts}.items():
    words = [len(answer.split()) for answer in answers]
    print(f"{name:15} {sum(words) / len(words):4.0f} words on average, longest {max(words)}")

# %% [markdown]
# Number of words is not the reason: few-shot answers are about as long as tuned ones. But read how they get there. Many untuned answers say one thing and then repeat it up to the limit on tokens. What the tuned model gained is when to stop, and which words to use.
#
# ## Read ten
#
# A summary can have all the right words and the roles swapped. So read. For each of the ten, ask three things: is it the right *person* who does or wants it? Is the main *fact*
# right? Is *nothing invented*?

# %%
ten = [test.index(row) for row in runs.spread(test, 10)]
for number, i in enumerate(ten, start=1):
    print(f"--- {number} ---\n{test[i]['dialogue']}\n\nREFERENCE: {references[i]}\nTUNED:     {texts['tuned'][i]}\n")

# %% [markdown]
# Write your counts here and run the cell. They are yours: the lesson stores none. With a second reader, count apart and compare; you will not agree on all ten.

# %%
from finetune_utils.evaluation import rate
from finetune_utils.summaries import CHECKLIST, reader_counts

yours = {"right person": None, "right fact": None, "nothing invented": None}  # how many of the ten?
assert tuple(yours) == CHECKLIST
for name, share in reader_counts(yours, len(ten)).items():
    print(f"{name}: {share.estimate:.0%} [{share.low:.0%}, {share.high:.0%}]")
some = rate([True] * 7 + [False] * 3)
print(f"What ten can tell: if 7 of 10 were right, the 95 % interval would run from {some.low:.0%} to {some.high:.0%}.")

# %% [markdown]
# Ten are enough to see *what* goes wrong and too few to say *how often*. A rule can count a part of it on all test rows: names and numbers that stand nowhere in the dialogue. **Predict** whether the rule
# finds more or fewer faults than you did.

# %%
from finetune_utils.summaries import invented, ordinary_words

ordinary = ordinary_words(parts["train"])
made_up = {}
for name, answers in {"reference": references, **texts}.items():
    found = [invented(answer, row["dialogue"], ordinary) for answer, row in zip(answers, test)]
    made_up[name] = rate([bool(words) for words in found])
    print(f"{name:15} {made_up[name].estimate:4.0%} of summaries with a new name or number; for example {sum(found, [])[:4]}")

# %% [markdown]
# The rule flagged {{lesson09.invented_tuned:.0%}} of the tuned summaries and {{lesson09.invented_reference:.0%}} of the references, which are right. It sees neither a wrong fact nor a right name in
# the wrong place. Hold it against your own marks: which of your faults could it not see?
#
# ## A new wording
#
# Training asked in five wordings, in turn. Users will use a sixth. **Predict:** does the skill hang on the wording?

# %%
from finetune_utils.summaries import NEW_WORDING, WORDINGS

print("trained:", *WORDINGS, sep="\n  ")
print("new:\n ", NEW_WORDING)
reworded = summarize(tuned, tokenizer, test, wording=NEW_WORDING, max_new_tokens=longest)
new_wording = rouge_gap(texts["tuned"], reworded, references)
print(f"ROUGE-L, new wording minus first trained wording: {new_wording}")

# %% [markdown]
# In the stored run the change was {{lesson09.new_wording_change:+.3f}}. Five trained wordings were enough for a sixth of the same kind. That one wording would have done worse is not shown by this.
#
# ## What did it do to other tasks?
#
# Two more tasks of the course, in the same shape of question and answer: questions on fine-tuning (facts that no training row mentions), and the mood of a post, answered in one word. And lesson
# 05's neutral text, for forgetting. The mood is not generated: of the three words, the one the model finds likeliest counts.

# %%
from finetune_utils.multitask import SUMMARIES, three_tasks

tasks = three_tasks()
for name, task in tasks.items():
    row = task.train[0]
    print(f"{name.upper()}: {len(task.train)} training rows, {len(task.test)} test rows\n  {row['question'][:110]!r} -> {row['answer'][:60]!r}\n")

# %%
from finetune_utils.forgetting import neutral_windows
from finetune_utils.multitask import board_row, pick_tests, score_tasks
from finetune_utils.task_runs import TESTS, WINDOWS

tests = pick_tests(tasks, {name: min(count, profile.eval_rows) for name, count in TESTS.items()}) | {SUMMARIES: test}
windows = neutral_windows(tokenizer, limit=2 if smoke else WINDOWS)
before = score_tasks(untuned, tokenizer, tests, windows, texts=texts["zero-shot"])
after = score_tasks(tuned, tokenizer, tests, windows, texts=texts["tuned"])
board = [{"trained": []} | board_row("untuned", before, before, windows),
         {"trained": [SUMMARIES]} | board_row("summaries only", after, before, windows)]

# %% [markdown]
# **Predict** for each column: better, worse, or unchanged? It has been trained on summaries only.

# %%
summary_plots.task_board(board)

# %% [markdown]
# On neutral text the NLL changed by {{lesson09.neutral_nll_change:+.3f}} nats per token, on questions by {{lesson09.question_nll_change:+.2f}}; the accuracy on posts went from
# {{lesson09.accuracy_untuned:.2f}} to {{lesson09.accuracy_tuned:.2f}}. Training for one thing moved two of the other three, and nobody had asked for that. The change in
# accuracy is a post or two.
#
# ## Mixing tasks
#
# If one model is to do all three, it has to see all three. How often each? By size, equally, or something between. Take two tasks with 100 and 400 rows, and a pencil.
# By size they get 20 and 80 of 100 batches. The square roots are 10 and 20, so that gives a third and two thirds. That is draft 1:

# %%
def draft_shares(rows, temperature):
    weights = [count ** (1 / temperature) for count in rows]
    return [round(weight / sum(weights), 3) for weight in weights]


for temperature in (1, 2, 1000):
    print(f"temperature {temperature:4}: {draft_shares([100, 400], temperature)}")

# %% [markdown]
# Temperature `1` is by size, a very high one is equal. The tested version is `finetune_utils.multitask.sampling_shares`. It refuses what makes no sense, and `limit` keeps a huge task from
# taking everything.

# %%
from finetune_utils.multitask import sampling_shares

agree = all(
    [round(share, 3) for share in sampling_shares({"a": 100, "b": 400}, t).values()] == draft_shares([100, 400], t) for t in (1, 2, 1000)
)
print("draft and tested version agree:", agree)
summary_plots.shares_by_temperature({name: len(task.train) for name, task in tasks.items()})

# %% [markdown]
# ### Who decides a batch?
#
# The obvious way is to shuffle all rows into batches. The loss of a batch is a mean over its supervised tokens. **Predict:** in a batch with one row of each task, how much of the loss comes
# from each?

# %%
from finetune_utils.multitask import encode_task
from finetune_utils.tokenization import count_supervised

one_each = {name: encode_task(task.train[:1], tokenizer)[0] for name, task in tasks.items()}
supervised = {name: count_supervised(row) for name, row in one_each.items()}
for name, count in supervised.items():
    print(f"{name:10} {count:3} supervised tokens, {count / sum(supervised.values()):.0%} of the batch")

# %% [markdown]
# The one-word task is all but mute: its rows cost time and hardly move the weights. So let every batch hold rows of one task. The batches of all tasks then come in shuffled order. Rows of one task
# are also alike in length, which saves padding.

# %%
from finetune_utils.multitask import deal_steps, mix_batches

few = {name: encode_task(task.train[:8], tokenizer) for name, task in tasks.items()}
equal = sampling_shares({name: len(rows) for name, rows in few.items()}, float("inf"))
print("12 steps are dealt out as", deal_steps(equal, 12))
order = mix_batches(few, equal, steps=12, batch_size=2)
owner = {id(row): name for name, rows in few.items() for row in rows}
print("tasks of the batches:", *[owner[id(row)][:3] for row in order[::2]])

# %% [markdown]
# ## One task, or three?
#
# Six runs, too long for a lesson: one for each task, and three mixed. All but the last take {{study.mixed_training.mixed_steps}} steps of four rows. So equal *rows*, not equal time:
# dialogues are long. The last run takes three times the steps, and so sees as many rows of each task as the three single runs did. `make study NAME=mixed_training`
# repeats them all. **Predict** the framed cells: does a mixed run reach the specialist?

# %%
study = course.stored("study.mixed_training")
stored_board = [row for row in study["rows"] if "rouge_l" in row]
summary_plots.task_board(stored_board)

# %%
table = []
for row in stored_board[1:]:
    shares = {name: f"{row[f'share_{name}']:.0%}" if f"share_{name}" in row else "" for name in tasks}
    table.append({"run": row["arm"], **shares, "steps": str(row["steps"]), "tokens": f"{row['tokens']:,}", "seconds": f"{row['seconds']:.0f}"})
course.show_table(table, caption="Stored: shares of the batches, and what each run cost")

# %% [markdown]
# Did sharing cost anything? Compare the mixed runs with the specialists, row by row on the specialist's own test.

# %%
from finetune_utils.evaluation import Interval

was = study["values"]
units = {"summaries": "ROUGE-L", "questions": "NLL, nats per token", "sentiment": "accuracy"}
for run, told in {"mixed": "mixed, equal", "by_size": "mixed, by size", "long": "mixed, 3 x steps"}.items():
    for task, unit in units.items():
        gap = Interval(*(was[f"{run}_vs_{task}{end}"] for end in ("", "_low", "_high")))
        print(f"{told:17} minus {task} only: {gap} {unit}, {'a difference' if gap.excludes_zero else 'no difference shown'}")

# %% [markdown]
# At equal rows, the equal mix had a ROUGE-L of {{study.mixed_training.mixed_rouge_l:.3f}} against {{study.mixed_training.summaries_rouge_l:.3f}} of the specialist, with a third of its dialogues. Its accuracy on posts
# was {{study.mixed_training.mixed_accuracy:.2f}} against {{study.mixed_training.sentiment_accuracy:.2f}}. Mixed by size, dialogues got {{study.mixed_training.by_size_share_summaries:.0%}} of the batches and ROUGE-L was
# {{study.mixed_training.by_size_rouge_l:.3f}}. With three times the steps the mix had {{study.mixed_training.long_rouge_l:.3f}} and {{study.mixed_training.long_accuracy:.2f}}.
#
# On neutral text the specialists changed by {{study.mixed_training.summaries_neutral_nll_change:+.3f}} (summaries), {{study.mixed_training.questions_neutral_nll_change:+.3f}} (questions) and
# {{study.mixed_training.sentiment_neutral_nll_change:+.3f}} (sentiment) nats per token, the equal mix by {{study.mixed_training.mixed_neutral_nll_change:+.3f}}, the long one by {{study.mixed_training.long_neutral_nll_change:+.3f}}.
#
# The run on sentiment alone had a ROUGE-L of {{study.mixed_training.sentiment_rouge_l:.3f}} on summaries, {{study.mixed_training.untuned_rouge_l:.3f}} before. It answers dialogues in one word, too.
# That is not forgetting how to write, for on neutral text it lost little. It learned a form, and uses it where nobody asked for it.
#
# The accuracy on posts needs a warning: 40 of the 100 test posts are negative, so a program that always says "negative" gets {{study.mixed_training.untuned_accuracy:.2f}}. The mixes hardly moved from there, and even the
# specialist's gain is not shown by its interval. With five wordings and so few steps the task was hardly learned. Lesson 08 gives it more, and a better score than accuracy.
#
# One stored row you have made again: "summaries only" is the model you trained above. (On `cpu`. Other profiles have another model or other sizes, and so other numbers.)

# %%
kept = next(row for row in stored_board if row["arm"] == "summaries only")
for key, told in (("rouge_l", "ROUGE-L"), ("question_nll", "NLL of answers"), ("accuracy", "accuracy"), ("neutral_nll", "NLL of neutral text")):
    print(f"{told:20} stored {kept[key]:.3f}, here {board[1][key]:.3f}")

# %% [markdown]
# ### Does variety of wording help?
#
# The study also trained the sentiment task in one wording only, on the same posts. Both models were asked in the wording both know, and in a new one.

# %%
posts = {row["arm"]: row for row in study["rows"] if row["arm"] in ("untuned", "sentiment only", "sentiment, one wording")}
table = []
for name, row in posts.items():
    cells = {told: f"{row[key]:.0%} [{row[key + '_low']:.0%}, {row[key + '_high']:.0%}]" for key, told in (("known_wording", "known wording"), ("new_wording", "new wording"))}
    table.append({"trained": {"sentiment only": "in five wordings", "sentiment, one wording": "in one wording"}.get(name, name), **cells})
course.show_table(table, caption="Stored: accuracy on test posts, by the wording of the question")

# %% [markdown]
# Trained in one wording, the model got {{study.mixed_training.one_known_wording:.0%}} in that wording and {{study.mixed_training.one_new_wording:.0%}} in the new one. Trained in five, it got
# {{study.mixed_training.sentiment_known_wording:.0%}} and {{study.mixed_training.sentiment_new_wording:.0%}}. Variety has a price here: each of the five
# wordings was seen a fifth as often. In the known wording the two intervals do not touch, and the price shows. In the new wording they overlap. That decides nothing, for both models answered the same posts: it would take the paired difference, which this study does not store.
#
# ## What FLAN did
#
# FLAN is this idea at full size. The Flan collection of 2022 gathered `473` data sets in `146` kinds of tasks: questions, summaries, sentiment, translation, reasoning and more. Every data set was written out in
# several templates, with and without solved examples in the prompt, some with the steps of reasoning. Large sets were capped so that they could not crowd out small ones. T5, trained on the mix, became FLAN-T5. It follows
# instructions for tasks that were not in the mix.
#
# That last point cannot be shown with three tasks. In the first FLAN paper (Wei et al.), tasks that were held out gained as more kinds of tasks were mixed in.
#
# ## Encoder-decoders
#
# FLAN-T5 is built differently. The model of this course reads prompt and answer as one text. An encoder-decoder reads the prompt in an encoder that looks both ways, and a decoder writes the answer.
# So a row is a pair, and no prompt has to be masked. The course's `train`, `token_nll` and `generate` take such models, too. Here with a T5 that is tiny and knows nothing:

# %%
import torch
from transformers import T5Config, T5ForConditionalGeneration

from finetune_utils.generation import generate
from finetune_utils.seq2seq import encode_pairs

end = tokenizer.eos_token_id
config = T5Config(vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                  pad_token_id=end, eos_token_id=end, decoder_start_token_id=end, dropout_rate=0.0)
torch.manual_seed(0)
t5 = T5ForConditionalGeneration(config).to(untuned.device)
pairs = encode_pairs(parts["train"][:4], tokenizer)
print({name: len(ids) for name, ids in pairs[0].items()})

# %%
from finetune_utils.training import TrainSettings, train

t5_before = token_nll(t5, pairs, tokenizer).mean
train(t5, tokenizer, pairs, TrainSettings(max_steps=3 if smoke else 15, batch_size=4, learning_rate=1e-2))
t5_after = token_nll(t5, pairs, tokenizer).mean
print(f"NLL of four summaries: {t5_before:.2f} before, {t5_after:.2f} after training")
print("It says:", generate(t5, tokenizer, [parts["train"][0]["question"]], max_new_tokens=12)[0])

# %% [markdown]
# It has learned which words are frequent, and no more: a real one was pretrained. On the `gpu` profile, the hub has FLAN-T5 and DialogSum, a public set of dialogues with summaries. The next cell fine-tunes one on the other.

# %%
if profile.name == "gpu":
    from finetune_utils.data import load_rows
    from finetune_utils.models import load_seq2seq
    from finetune_utils.summaries import with_wordings

    flan, flan_tokenizer = load_seq2seq("google/flan-t5-base")
    hub = {split: with_wordings(load_rows("knkarthick/dialogsum", source="hub", split=split, limit=n)) for split, n in (("train", 800), ("test", 100))}
    asked, wanted = [row["question"] for row in hub["test"]], [row["summary"] for row in hub["test"]]
    first = generate(flan, flan_tokenizer, asked, MAX_TOKENS)
    adapted = add_lora(flan, rank=16)
    train(adapted, flan_tokenizer, encode_pairs(hub["train"], flan_tokenizer), TrainSettings(epochs=1, learning_rate=1e-3))
    print("ROUGE-L, tuned minus untuned:", rouge_gap(first, generate(adapted, flan_tokenizer, asked, MAX_TOKENS), wanted))
else:
    print("FLAN-T5 and DialogSum come from a model hub and are used on the gpu profile only.")

# %% [markdown]
# ## Check your run

# %%
names = {"first two turns": "first_turns", "zero-shot": "zero_shot", "one-shot": "one_shot", "few-shot": "few_shot", "tuned": "tuned"}
values = {f"{kind.replace('rougeL', 'rouge_l')}_{short}": scored[name][kind].estimate for name, short in names.items() for kind in ("rouge1", "rouge2", "rougeL")}
for name, gap in gaps.items():
    values |= {f"gap_{names[name]}": gap.estimate, f"gap_{names[name]}_low": gap.low, f"gap_{names[name]}_high": gap.high}
values |= {f"invented_{names[name]}": made_up[name].estimate for name in texts}
values |= {f"{key}_change": board[1][f"{key}_change"] for key in ("question_nll", "accuracy", "neutral_nll")}

# %%
course.check_run(
    "lesson09", profile,
    dev_nll_untuned=dev_nll["untuned"], dev_nll_tuned=dev_nll["tuned"], train_seconds=result.seconds,
    above_few_shot=gaps["few-shot"].low > 0, above_first_turns=gaps["first two turns"].low > 0,
    invented_reference=made_up["reference"].estimate,
    new_wording_change=new_wording.estimate, shares_agree=agree,
    accuracy_untuned=board[0]["accuracy"], accuracy_tuned=board[1]["accuracy"],
    t5_learned=t5_after < t5_before, **values,
)

# %% [markdown]
# ## What you learned
#
# * Start from a free baseline. The first two turns scored {{lesson09.rouge_l_first_turns:.3f}}; zero-shot {{lesson09.rouge_l_zero_shot:.3f}}, few-shot {{lesson09.rouge_l_few_shot:.3f}}, tuned {{lesson09.rouge_l_tuned:.3f}}.
# * Tuned summaries have the length and the manner of the references, and share clearly more words with them. Read the ten of the stored run: not one has all its facts right. A gain in shared words is not yet a
#   usable summarizer. Whether the right person did the right thing takes a reader.
# * A run on one task moves the others. Score every run on all that matters, and on neutral text.
# * Shares of a mix are a choice: by size, equal, or a temperature between. Build batches of one task, or long answers decide the loss.
# * Equal rows and equal time are different budgets. Say which one a comparison uses.
# * A row for an encoder-decoder is a pair. Training, scoring and answering are the same calls.
#
# ## Where this breaks
#
# * 40 test dialogues with one reference each, by one writer. The tuned model is scored on the writer's own style, which no prompt can know as well.
# * ROUGE rewards that style. It does not know whether a summary is true.
# * One seed for each run of the study, one rate for all tasks, chosen on summaries. Another rate could suit another task better.
# * The rule for invented names misses whatever it has no list for.
# * The tiny T5 shows that the code runs, not that T5 is good or bad. No FLAN-T5 run is stored.
#
# ## Further reading
#
# * Raffel et al., *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer* (T5; mixing by size, equally, by temperature), arXiv 1910.10683.
# * Wei et al., *Finetuned Language Models Are Zero-Shot Learners* (FLAN), arXiv 2109.01652.
# * Chung et al., *Scaling Instruction-Finetuned Language Models* (FLAN-T5), arXiv 2210.11416.
# * Longpre et al., *The Flan Collection: Designing Data and Methods for Effective Instruction Tuning*, arXiv 2301.13688.
# * Chen et al., *DialogSum: A Real-Life Scenario Dialogue Summarization Dataset*, arXiv 2105.06762.
# * Kryscinski et al., *Evaluating the Factual Consistency of Abstractive Text Summarization*, arXiv 1910.12840.
