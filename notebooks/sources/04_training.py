# ---
# jupyter:
#   course:
#     minutes: {smoke: 2, cpu: 11, gpu: 8}
#     needs: the model (fetched once), about 5 GB of free memory
#     data: [course_qa.jsonl, redirect_labels.jsonl]
#     teaching:
#       half_day: true
#       waits: [Enough steps, "A second opinion"]
#       skippable:
#         - "What will it cost?"
#         - The learning rate decides most
#         - Save, reload, resume
#         - Three lines
#       watch:
#         three_steps_change: NLL on unseen facts after three steps, change
#         unseen_tuned: NLL on unseen facts, tuned
#         reworded_tuned: NLL on new wordings of trained facts, tuned
#         redirect_shifted: off-topic questions turned back, tuned with a second opinion
#         wrong_redirect_shifted: good questions turned back, tuned with a second opinion
#       mistakes:
#         - "`zero_grad()` is left out. Old gradients add up, the weight runs past its goal, and no error says so (exercise 04.2)."
#         - "The NLL on new wordings is read as generalization. It is recall; only unseen facts test what the word promises."
#         - "A falling training loss is taken as success. On 30 rows it keeps falling while the dev NLL rises."
#         - "Only the off-topic questions are counted. A model that turns back everything is perfect there; read the good questions beside them."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 04: Training
#
# You will change a model, and then find out whether it became better. After this lesson you can
#
# * write a training loop by hand and recognize each of its five lines in the `Trainer`;
# * say before a run how much memory it will take;
# * train a small teaching assistant and measure it on rows it never saw;
# * draw a line between two kinds of answers on held-out rows, and ask a small classifier for a second opinion;
# * tell overfitting from underfitting on a plot, and stop in time;
# * save, reload and resume a run;
# * do all of it in three lines.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## One step by hand
#
# A language model gives every token in its vocabulary a score, called a logit. Softmax turns the scores into
# probabilities. The loss is the negative logarithm of the probability of the right token. Try it with a vocabulary
# of three tokens. The right one is token 0.

# %%
import torch

logits = torch.tensor([2.0, 1.0, 0.0])
probabilities = torch.softmax(logits, dim=0)
print("probabilities:", [round(p, 3) for p in probabilities.tolist()])
print(f"loss by hand: {-torch.log(probabilities[0]):.4f}")
print(f"loss by PyTorch: {torch.nn.functional.cross_entropy(logits[None], torch.tensor([0])):.4f}")

# %% [markdown]
# **Predict, then run.** A model that knows nothing gives all three tokens the same probability. What is its loss? And
# what would it be for SmolLM2's vocabulary of `49,152` tokens?

# %%
import math

print(f"3 tokens: {math.log(3):.3f}    49,152 tokens: {math.log(49_152):.3f}")

# %% [markdown]
# Keep the second number in mind. A loss near it means random guessing.
#
# Training repeats five lines: forward, loss, backward, step, zero. `backward()` computes the gradient: how fast the loss would rise if the weight grew. The optimizer moves the weight the other way, and the
# learning rate, `lr`, says how far. Here the five lines move a single weight toward 3. The loss is the squared distance, so you can check every value with a pencil.

# %%
weight = torch.tensor([0.0], requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.25)
for step in range(4):
    loss = ((weight - 3) ** 2).sum()  # forward and loss
    loss.backward()  # gradient: 2 * (weight - 3)
    optimizer.step()  # weight = weight - 0.25 * gradient
    optimizer.zero_grad()  # forget this gradient
    print(f"step {step + 1}: loss {loss.item():.4f}, weight now {weight.item():.4f}")

# %% [markdown]
# Now the classic mistake: the last line is missing. PyTorch *adds* new gradients to the old ones. **Predict:** does
# the weight still settle at 3?

# %%
weight = torch.tensor([0.0], requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.25)
for step in range(4):
    ((weight - 3) ** 2).sum().backward()
    optimizer.step()  # zero_grad() is missing
    print(f"step {step + 1}: gradient {weight.grad.item():+.2f}, weight now {weight.item():.2f}")

# %% [markdown]
# It runs past the goal, because old gradients keep pushing. No error message tells you so.
#
# ## The same five lines on a language model
#
# Load the untuned model and two small batches of the course's own questions and answers. Lesson 03 made the tokens and
# the label mask; here you use the finished functions.

# %%
from finetune_utils import runs
from finetune_utils.batching import SupervisedCollator
from finetune_utils.models import load_model
from finetune_utils.tokenization import tokenize_rows

model, tokenizer = load_model(profile.model)
rows = runs.course_rows()
if profile.shrunk:  # a CPU without 16-bit arithmetic: fewer facts, still in all their wordings
    rows = runs.course_rows(train_facts=60, train_off_topic=160)


def tokenize(some_rows):
    return tokenize_rows(some_rows, tokenizer, runs.ASSISTANT_TEMPLATE).examples


eight = tokenize(rows.train[:8])
print(f"{len(rows.train)} training rows. The first question: {rows.train[0]['question']}")

# %% [markdown]
# Two lines are new. AdamW is an optimizer that gives every weight a step size of its own, and `clip_grad_norm_` shortens a gradient that is too long.
#
# Position `i` predicts token `i + 1`. So the logits lose their last position and the labels their first. Labels of
# -100 do not count.

# %%
import copy

device = next(model.parameters()).device
mine = copy.deepcopy(model).train()
optimizer = torch.optim.AdamW(mine.parameters(), lr=1e-5, weight_decay=0.0)
collate, my_losses = SupervisedCollator(tokenizer.pad_token_id, sparse=False), []
for batch in (collate(eight[:4]), collate(eight[4:])):
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    logits = mine(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(mine.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    my_losses.append(loss.item())
print("losses by hand:", [round(loss, 5) for loss in my_losses])

# %% [markdown]
# You have trained a 135M-parameter model for two steps. The course's `train()` runs the same steps on the
# stock `Trainer` of the `transformers` library. With the same rows, order, rate and float32 arithmetic, the losses must be the same.

# %%
from finetune_utils.hardware import FP32
from finetune_utils.training import TrainSettings, train

settings = TrainSettings(
    max_steps=2, batch_size=4, learning_rate=1e-5, schedule="constant", warmup=0, group_by_length=False, shuffle=False
)
theirs = copy.deepcopy(model)
trainer_losses = train(theirs, tokenizer, eight, settings, precision=FP32).losses
gap = max(abs(a - b) for a, b in zip(my_losses, trainer_losses, strict=True))
print("losses by Trainer:", [round(loss, 5) for loss in trainer_losses])
print(f"largest difference: {gap:.1e} nats per token")
del mine, theirs, optimizer

# %% [markdown]
# From here on you can read `train()` as a short name for those five lines.
#
# ## What will it cost?
#
# Ask before you start. Full fine-tuning needs the weights, a gradient for each, and two running averages for each
# (AdamW's state). LoRA, which lesson 06 takes apart, freezes the weights and trains a small adapter beside them. Both need the
# activations: what the backward pass must remember of the forward pass.

# %%
from finetune_utils.memory import estimate_memory, human_bytes

table = []
for method in ("full", "lora", "inference"):
    need = estimate_memory(model, method, batch_size=8, length=104)
    parts = {k: human_bytes(getattr(need, k)) for k in ("weights", "gradients", "optimizer", "activations", "logits")}
    table.append({"method": method, **parts, "total": human_bytes(need.total)})
course.show_table(table, caption="Estimated memory, batch of 8 rows x 104 tokens")

# %% [markdown]
# **Predict:** the activations of full fine-tuning and of LoRA are the same here. Why does LoRA save memory at all?
#
# Gradients and optimizer state exist only for what is trained, and with LoRA that is the small adapter. Frozen weights can also stay in 16 bits, while full fine-tuning keeps them in 32 bits for the update and in 16 for the
# arithmetic.
#
# An estimate is worth something when it has been measured. A fresh process trains three steps with LoRA and reports its peak.

# %%
from finetune_utils.measure import measure_memory

measured = measure_memory(profile.side_model, "lora", batch_size=8, length=104)
print(f"estimated {human_bytes(measured.estimate)}, measured {human_bytes(measured.peak)}: off by {measured.error:+.1%}")

# %% [markdown]
# The other cost is arithmetic. A rule of thumb counts six operations for every parameter and every token: two in the forward pass and four in
# the backward pass. With LoRA the frozen weights need no gradient of their own, so about four are really done; the `Trainer` counts six all the same, so its figures are too high by about half. The `Trainer` keeps the same count while it trains (`floating_point_ops`), and `train()` hands it on as `operations`.

# %%
batch = SupervisedCollator(tokenizer.pad_token_id)(eight)
tokens, parameters = batch["input_ids"].numel(), model.num_parameters(exclude_embeddings=True)
six = 6 * tokens * parameters
print(f"{tokens} tokens x 6 x {parameters / 1e6:.0f}M parameters = {six / 1e12:.2f} tera-operations a step")

# %% [markdown]
# ## The rows, and three questions to ask of a result
#
# `runs.course_rows` deals the course's questions out by fact. The test has three parts, and none of their rows is trained on:
#
# * **unseen facts**: no training row mentions the fact. This is what people mean by "does it generalize?"
# * **new wordings**: the fact was trained, the question is worded anew. This is recall.
# * **off-topic**: questions that should be turned back politely.

# %%
from finetune_utils.runs import spread

unseen, reworded = spread(rows.unseen, profile.eval_rows), spread(rows.reworded, profile.eval_rows)
off_topic = spread(rows.off_topic, profile.eval_rows)
if profile.shrunk:
    unseen, reworded, off_topic = spread(rows.unseen, 64), spread(rows.reworded, 32), spread(rows.off_topic, 32)
for name, part in {"unseen facts": unseen, "new wordings": reworded, "off-topic": off_topic}.items():
    print(f"{name:13} {len(part):4} rows, for example: {part[0]['question']}")

# %% [markdown]
# How do you count redirects over many answers? With a rule: an answer counts when one of its first three sentences names fine-tuning and
# turns back. A rule is a measuring instrument, so check it first, on answers labeled by hand. Two shares matter: *precision*, how many of the answers that the rule counts really are redirects, and *recall*, how many of the
# redirects it finds.
#
# Every test question will be asked, so the model stops after `32` tokens: an answer that turns back does so at its beginning. Check the rule on answers cut off there, too.

# %%
from finetune_utils.data import load_rows
from finetune_utils.evaluation import check_rule, is_redirect

labeled = load_rows("redirect_labels")
labels = [row["redirect"] for row in labeled]
begun = [tokenizer.decode(tokenizer(row["answer"])["input_ids"][: runs.COUNT_TOKENS]) for row in labeled]
rule = check_rule([is_redirect(row["answer"]) for row in labeled], labels)
short_rule = check_rule([is_redirect(text) for text in begun], labels)
print(f"The rule against hand labels: {rule}.\nCut off after {runs.COUNT_TOKENS} tokens: {short_rule}.")

# %% [markdown]
# Do not take these figures for a test. The words of the rule were chosen with most of these answers in view; the data card says which. On the hard cases written afterward, two thirds of what it counts are redirects, and it finds three
# quarters of them. The intervals below do not include the errors of the rule.
#
# ## The baseline: the untuned model
#
# Measure before you train. The negative log-likelihood (NLL) per token says how surprised a model is by the reference
# answer. Lower is better. The function sums over all tokens, so that long and short answers weigh what they should.

# %%
from finetune_utils.generation import answer, fast_copy
from finetune_utils.nll import token_nll

examples = {"unseen": tokenize(unseen), "reworded": tokenize(reworded)}
untuned = fast_copy(model)
before = {name: token_nll(untuned, part, tokenizer) for name, part in examples.items()}
for name, score in before.items():
    print(f"untuned, {name}: {score.mean:.3f} nats per token (perplexity {score.perplexity:.0f})")

# %%
def ask(some_model, questions, lean=None):
    tokens = min(profile.max_new_tokens, runs.COUNT_TOKENS)
    return answer(some_model, tokenizer, questions, runs.ASSISTANT_TEMPLATE, tokens, batch_size=64, lean=lean)


asked = [row["question"] for row in off_topic]
on_topic = unseen + reworded
on_asked = [row["question"] for row in on_topic]
untuned_off = ask(untuned, asked)
untuned_on = ask(untuned, on_asked)
print(f"off-topic questions redirected: {sum(map(is_redirect, untuned_off))} of {len(asked)}")
print("Q:", asked[0], "\nA:", untuned_off[0])

# %% [markdown]
# ## Three steps do not make a model better
#
# Many tutorials train for three steps, show one lucky answer and move on. Do the same, with the `Trainer`'s default learning rate, and measure.
# **Predict:** by how much does the NLL on unseen facts fall?

# %%
from finetune_utils.evaluation import nll_difference
from finetune_utils.lora import add_lora

train_set = tokenize(spread(rows.train, profile.train_rows))
briefly = add_lora(copy.deepcopy(model))
train(briefly, tokenizer, train_set, TrainSettings(max_steps=3, learning_rate=5e-5))
three = token_nll(fast_copy(briefly), examples["unseen"], tokenizer)
facts = [row["fact"] for row in unseen]
three_steps = nll_difference(before["unseen"], three, facts)
print(f"change after 3 steps: {three_steps} nats per token (95 % interval, {len(set(facts))} facts)")
del briefly

# %% [markdown]
# The change is {{lesson04.three_steps_change:+.3f}} nats, with an interval from {{lesson04.three_steps_low:+.3f}} to
# {{lesson04.three_steps_high:+.3f}}. That is what "it ran" is worth.
#
# ## Enough steps
#
# First look at what the loss hears. Redirects open with "Let's", "I" or "Sorry"; other answers mostly do not. The first token of an answer
# decides. What share of the loss is that?

# %%
from finetune_utils.batching import with_openings
from finetune_utils.tokenization import count_supervised

average = sum(map(count_supervised, train_set)) / len(train_set)
print(f"{average:.0f} supervised tokens an answer: the first is {1 / average:.1%} of the loss")

# %% [markdown]
# The loss is an average over all tokens, so the decision hardly counts. The remedy is in the data: `with_openings` follows each batch of
# whole answers by a batch of answers that stop after their first token. Such rows are short: they cost less than half of a whole answer.

# %%
whole, opening = with_openings(train_set[:1], batch_size=1, tokens=runs.ASSISTANT_OPENING)
for example in (whole, opening):
    supervised = [token for token in example["labels"] if token != -100]
    print(f"{len(example['input_ids']):3} tokens; trained on: {tokenizer.decode(supervised)[:70]!r}")

# %% [markdown]
# Which openings? In the data, redirects open in three ways. **Predict:** a model gives the four tokens below these probabilities after an off-topic question. Is turning back likelier than answering? And which token does greedy
# decoding take?

# %%
chances = {"Let": 0.22, "I": 0.20, "Sorry": 0.13, "A": 0.30}  # only the last one begins an answer
turning_back = sum(p for token, p in chances.items() if token != "A")
print(f"turning back {turning_back:.2f}, answering {chances['A']:.2f}; greedy takes {max(chances, key=chances.get)!r}")

# %% [markdown]
# Three ways to say the same split the vote. So the assistant learns only one way to open a redirect: every redirect among the openings starts with "Let's". Whole redirects are much alike, so there is one for five off-topic
# rows. Openings come from half of the off-topic rows and twice from all others: with more, the model turns back too easily.
#
# The order matters, too. Half of the batches of whole answers go first. Then four batches of openings follow each: what is learned last, at small rates, is not moved again by the rest.
# `runs.assistant_examples` does all of it.

# %%
if profile.shrunk:  # fewer rows: smaller batches make more steps of them
    runs.ASSISTANT_BATCH, runs.ASSISTANT_RATE = 4, 2.5e-3
in_order = runs.assistant_examples(spread(rows.train, profile.train_rows), tokenizer)
is_whole = [count_supervised(example) > runs.ASSISTANT_OPENING for example in in_order]
print(f"{len(train_set)} rows became {sum(is_whole)} whole answers and {len(is_whole) - sum(is_whole)} openings")

# %% [markdown]
# Rate, rank (the size of the adapter, lesson 06) and this mix were chosen on dev rows and on a fifth of the training facts, kept aside for that; the section "The learning rate decides most" shows how. Watch three numbers as they
# come: the learning rate rises (warm-up) and then falls, the loss falls, and the speed stays the same.

# %%
from finetune_utils import plots

tuned = add_lora(model, rank=runs.ASSISTANT_RANK, seed=0)
if profile.shrunk:  # no 16-bit arithmetic: the upper two thirds learn, and the backward pass ends there
    from finetune_utils.lora import freeze_below

    freeze_below(tuned, 10)
live = plots.LiveLoss()
result = train(tuned, tokenizer, in_order, runs.assistant_settings(), on_step=live)
live.close()
print(f"{result.steps} steps in {result.seconds:.0f} s: {result.examples_per_second:.1f} examples/s")
speed = result.operations / result.seconds / 1e9
print(f"{result.operations / 1e12:.0f} tera-operations by the rule of six, {speed:.0f} billion a second")

# %%
on_whole = [entry for entry, whole in zip(result.history, is_whole[:: runs.ASSISTANT_BATCH], strict=False) if whole]
plots.loss_curve(on_whole, label="loss on whole answers")

# %% [markdown]
# The plot leaves out the steps with openings. The training loss falls. That is not yet a result: the test rows decide.
#
# ## Better at what?

# %%
fast = fast_copy(tuned)
after = {name: token_nll(fast, part, tokenizer) for name, part in examples.items()}
groups = {"unseen": facts, "reworded": [row["fact"] for row in reworded]}
change = {name: nll_difference(before[name], after[name], groups[name]) for name in after}
table = [
    {
        "test rows": {"unseen": "unseen facts", "reworded": "new wordings of trained facts (recall)"}[name],
        "rows": len(examples[name]), "untuned NLL": before[name].mean, "tuned NLL": after[name].mean,
        "change, 95 % interval by fact": str(change[name]),
        "relative": f"{after[name].mean / before[name].mean - 1:+.0%}",
    }
    for name in after
]
course.show_table(table, caption="NLL in nats per token, before and after")

# %% [markdown]
# Read the first line first. On facts that were never trained, NLL fell from {{lesson04.unseen_untuned:.2f}} to {{lesson04.unseen_tuned:.2f}}:
# the model picked up how the assistant speaks. It cannot know facts it was never told. So this number is about manner, not knowledge. And it is not the best in reach: in lesson 02, {{study.learning_curve.largest_rows}} rows read once at a third of this rate brought
# {{study.learning_curve.largest_unseen_change:+.2f}} nats, where this run brought {{lesson04.unseen_change:+.2f}}. This recipe was tuned for recall and redirects, and it goes further than unseen facts would like. The section "Too much, too little" has a name for that. Which part of it costs most, rate, openings or the
# number of steps, was not separated. On new wordings of trained
# facts it fell from {{lesson04.reworded_untuned:.2f}} to {{lesson04.reworded_tuned:.2f}}. This is recall. If you only saw the second
# line, you would think the model had learned far more than it did.

# %%
plots.before_after({"unseen facts": (before["unseen"].mean, after["unseen"].mean, change["unseen"]),
                    "new wordings (recall)": (before["reworded"].mean, after["reworded"].mean, change["reworded"])})

# %% [markdown]
# ## Where to draw the line
#
# Now the behavior: does it turn off-topic questions back, and leave the others alone? The first token decides. So look at how far "Let" leads all other tokens there, in logits. Above 0, greedy decoding turns the question back.
#
# Where that 0 falls is luck. Three seeds of this recipe turned back {{study.assistant.redirect_tuned_low:.0%}} to {{study.assistant.redirect_tuned_high:.0%}} of the off-topic questions, and
# {{study.assistant.wrong_redirect_tuned_low:.1%}} to {{study.assistant.wrong_redirect_tuned_high:.1%}} of the good ones: the more of the one, the more of the other. So choose it instead. Measure the lead on rows that were not trained on and are not test rows: dev rows, and the
# off-topic training rows that were left out. **Predict:** a constant is added to every lead. What happens to both kinds of mistakes?

# %%
from finetune_utils.prompts import render_prompt
from finetune_utils.threshold import choose_shift, opening_lead

opening = runs.REDIRECT_OPENINGS[0]
held_out = {"off": [row for row in rows.dev if runs.is_off_topic(row)] + runs.unused_off_topic(rows.train),
            "on": [row for row in rows.dev if not runs.is_off_topic(row)]}
held_out = {name: spread(part, profile.eval_rows) for name, part in held_out.items()}

def prompts(some_rows):
    return [render_prompt(row, tokenizer, runs.ASSISTANT_TEMPLATE) for row in some_rows]

leads = {name: opening_lead(fast, tokenizer, prompts(part), opening) for name, part in held_out.items()}
plots.threshold(leads["off"], leads["on"], choose_shift(leads["off"], leads["on"], misses_for_one=2))

# %% [markdown]
# The aim is to turn back at least `90` of `100` off-topic questions, and by mistake at most `5` of `100` good ones. That allows two misses for one false alarm, so the dashed line stands where held-out rows show this ratio. Moving the line
# trades one mistake for the other. To have fewer of both takes a better view of the question.
#
# ## A second opinion
#
# Whose view? The untuned model has read far more than these rows, and it reads a question to its end before anything is answered. What it makes of the words stands in its hidden states: one vector for each token, in every layer. Average
# them over the prompt, in three of its layers. Then fit the smallest classifier there is, a logistic regression, on the training questions: off-topic or not? Nothing in the model changes. Such a classifier is called a *probe*; lesson 08 gives
# the same idea a longer look. **Predict:** who tells the two kinds apart better, the probe or the model that was trained to?

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetune_utils.threshold import prompt_features

set_aside = {row["id"] for row in held_out["off"]}
known = [row for row in spread(rows.train, profile.train_rows) if row["id"] not in set_aside]
probe = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
probe.fit(prompt_features(untuned, tokenizer, prompts(known)), [runs.is_off_topic(row) for row in known])

def second_opinion(some_rows):
    return probe.decision_function(prompt_features(untuned, tokenizer, prompts(some_rows)))

# %% [markdown]
# Compare them on the held-out rows. Take an off-topic and a good question: does the off-topic one get the higher number? Count that over all such pairs. A coin would be right in half of them.

# %%
second = {name: second_opinion(part) for name, part in held_out.items()}
both = {name: leads[name] + second[name] for name in leads}
right_order = {}
for name, found in {"first token": leads, "second opinion": second, "sum": both}.items():
    right_order[name] = (found["off"][:, None] > found["on"][None]).mean()
    print(f"{name:14} {right_order[name]:.2%} of {len(found['off']) * len(found['on']):,} pairs in the right order")

# %% [markdown]
# The first token of the tuned model puts {{lesson04.pairs_first_token:.1%}} of the pairs into the right order, the probe {{lesson04.pairs_second_opinion:.2%}}, and no weight of the model was trained for that. So the untuned model could tell all along what is about fine-tuning.
# What it lacked was the habit of acting on it. It is a lesson about baselines, too: a small tool, tried first, would have shown how much of the task was left for training.
#
# The lead is a log-odds, how much likelier one opening is than another, and so is the output of a logistic regression. So they can be added. The sum ranks the pairs no better than the probe alone. But it is the model that answers, and its first token has to be moved somehow. `answer(..., lean=(opening, shifts))` adds a number of its own for each question to the logit of the first token, and to no other. The model still writes
# every answer, also the polite way back; the second opinion only helps it to choose. A constant on top moves the line as before. It is fixed on held-out rows, before any test question is asked.

# %%
shift = choose_shift(both["off"], both["on"], misses_for_one=2)
plots.threshold(both["off"], both["on"], shift)

def lean(some_rows):
    return opening, second_opinion(some_rows) + shift

# %%
from finetune_utils.evaluation import rate

ways = {"untuned": (untuned_off, untuned_on), "tuned": (ask(fast, asked), ask(fast, on_asked)),
        "second opinion": (ask(fast, asked, lean(off_topic)), ask(fast, on_asked, lean(on_topic)))}
on_facts, share = facts + groups["reworded"], {}
for name, (off, on) in ways.items():
    wrong = [is_redirect(text) for text in on]
    share[name] = rate([is_redirect(text) for text in off]), rate(wrong, on_facts if any(wrong) else None)
    good, bad = (f"{x.estimate:.1%} [{x.low:.1%}, {x.high:.1%}]" for x in share[name])
    print(f"{name:14} off-topic redirected {good} of {len(asked)}; on-topic wrongly redirected {bad} of {len(on_asked)}")
tuned_off, tuned_on = ways["second opinion"]
hits = {"off": [is_redirect(text) for text in tuned_off], "on": [is_redirect(text) for text in tuned_on]}

# %% [markdown]
# An assistant that turns back good questions is of no use, so read both figures, and their intervals. By itself the tuned model turned back {{lesson04.redirect_tuned:.1%}} of the off-topic questions in the stored run, and {{lesson04.wrong_redirect_tuned:.1%}} of the good
# ones. With the second opinion it was {{lesson04.redirect_shifted:.1%}} and {{lesson04.wrong_redirect_shifted:.1%}}. Both aims are met. The interval of the good questions, up to {{lesson04.wrong_redirect_shifted_high:.1%}}, keeps the aim as well; that of the off-topic ones begins at {{lesson04.redirect_shifted_low:.1%}}, because there
# are fewer of them.
#
# Now compare with the sentence under the last figure. On test questions both mistakes are more frequent than on the held-out rows. Rows on which a choice was made flatter that choice, and a few hundred rows never hold every kind of
# question.
#
# Why ask all of them, when fewer would be quicker? **Predict:** how much does the second figure move when only `64` of these good questions are asked?

# %%
import random

some = min(64, len(on_asked))
sample = [sum(random.Random(i).sample(hits["on"], some)) / some for i in range(200)]
print(f"all {len(on_asked)}: {share['second opinion'][1].estimate:.1%}; 200 draws of {some}: from {min(sample):.1%} to {max(sample):.1%}")

# %% [markdown]
# The same model, and a draw decides whether it looks perfect or bad. Where a small count and a large one differ, report the large one.
#
# Now read mistakes of both kinds, and ask of each whether it is one: the rule that counts is a program, too.

# %%
mistakes = [("turned back by mistake", q, a) for q, a, hit in zip(on_asked, tuned_on, hits["on"], strict=True) if hit][:3]
mistakes += [("answered by mistake", q, a) for q, a, hit in zip(asked, tuned_off, hits["off"], strict=True) if not hit][:3]
course.show_table([{"mistake": kind, "question": q, "answer": a[:120]} for kind, q, a in mistakes], width=38)

# %% [markdown]
# Two harder tests, and no training row is like them. Some questions only *sound* like the topic ("train for a marathon"). Others are about
# fine-tuning, in words from a bakery or a bus stop. **Predict:** on which does the model do worse?

# %%
near, everyday = spread(rows.near_topic, profile.eval_rows), spread(rows.situation, profile.eval_rows)
if profile.shrunk:
    near, everyday = spread(near, 12), spread(everyday, 12)
tuned_near, tuned_everyday = (ask(fast, [row["question"] for row in part], lean(part)) for part in (near, everyday))
trapped, lost = (rate([is_redirect(text) for text in texts]) for texts in (tuned_near, tuned_everyday))
print(f"only sound like the topic: {trapped.estimate:.1%} [{trapped.low:.1%}, {trapped.high:.1%}] of {len(near)} turned back, as they should be")
print(f"in everyday words: {lost.estimate:.1%} [{lost.low:.1%}, {lost.high:.1%}] of {len(everyday)} turned back, and none should be")
for row, text in [(near[0], tuned_near[0]), (everyday[0], tuned_everyday[0])]:
    print("\nQ:", row["question"], "\nA:", text)

# %% [markdown]
# In the stored run it turned back {{lesson04.near_redirect_shifted:.0%}} of the first kind, as it should, and {{lesson04.everyday_redirect_shifted:.0%}} of the second, as it should not. Both tests point the same way: model and probe go by words more than by what a question is about. The probe is no help here, for it learned from the same rows: greedy decoding alone, in the three seeds of the study, turned back
# {{study.assistant.everyday_redirect_tuned_low:.0%}} to {{study.assistant.everyday_redirect_tuned_high:.0%}} of the good questions in everyday words. Ordinary test rows show much less of that.
#
# Read answers, not only rates. The first rows are unseen facts, then new wordings of trained facts, then off-topic questions. Ask of each: is it
# fluent, is it on topic, is it *true*?

# %%
shown = [(spread(on_asked, 4)[i], spread(untuned_on, 4)[i], spread(tuned_on, 4)[i]) for i in range(4)]
shown += list(zip(asked[:2], untuned_off[:2], tuned_off[:2], strict=True))
course.show_table([{"question": q, "untuned": u[:200], "tuned": t[:200]} for q, u, t in shown], width=38)

# %% [markdown]
# The tuned model always sounds sure, also where it is wrong. Fine-tuning on so few facts teaches manner faster than
# knowledge. Lesson 05 measures that instead of describing it.
#
# ## Too much, too little
#
# Train on 30 rows only, at a high rate, for less than three epochs, and score dev rows on the way. **Predict** the shape of the two curves.

# %%
thirty = spread([row for row in rows.train if runs.is_fact(row)], min(30, profile.train_rows))
dev, small = tokenize(spread(rows.dev, min(24, profile.eval_rows))), tokenize(thirty)
with tuned.disable_adapter():
    print(f"untuned on these dev rows: {token_nll(tuned, dev, tokenizer).mean:.2f}")
fresh, _ = load_model(profile.side_model, say=lambda message: None)
overfit = add_lora(fresh)
steps = 20 if PROFILE != "smoke" else 3
too_much = train(overfit, tokenizer, small, TrainSettings(
    max_steps=steps, batch_size=4, learning_rate=3e-3, schedule="constant", evaluate_every=4, patience=2), eval_examples=dev)

# %%
plots.loss_curve(too_much.history, label="loss on the 30 rows")
print(f"stopped early: {too_much.stopped_early}; kept the weights of step {too_much.best_step}")

# %% [markdown]
# The loss on the 30 rows keeps falling in the second pass while the dev NLL turns upward: what is still learned belongs to these rows only. The dev NLL is still below the untuned model's. Overfitting means worse
# than it could be, not worse than before. `patience=2` stops the run after two scores
# without improvement and goes back to the best weights. That is early stopping.
#
# The opposite is easier to overlook. With a learning rate that is far too small, nothing goes wrong and nothing is learned. Score
# some of the same rows before and after, because the losses of single steps go up and down with the rows they see.

# %%
underfit = add_lora(load_model(profile.side_model, say=lambda message: None)[0])
ten = small[:10]
at_first = token_nll(underfit, ten, tokenizer).mean
train(underfit, tokenizer, small, TrainSettings(max_steps=min(4, steps), batch_size=4, learning_rate=1e-6))
at_last = token_nll(underfit, ten, tokenizer).mean
print(f"NLL on {len(ten)} of the rows: {at_first:.3f} before, {at_last:.3f} nats per token after {min(4, steps)} steps at rate 1e-6")
del overfit, underfit, fresh

# %% [markdown]
# Only a few steps, to save time, so this alone does not blame the rate. The next section does: there every rate gets the same number of steps.
#
# ## The learning rate decides most
#
# A sweep takes too long for a lesson, so its rows are stored. `make study NAME=learning_rate` makes them again. Every point is the same 16-step
# run with another rate, scored on dev rows.

# %%
study = course.stored("study.learning_rate")
plots.sweep(study["rows"], x="learning_rate", y="dev_nll", xlabel="learning rate (log scale)")

# %% [markdown]
# The best rate of the sweep is {{study.learning_rate.best_rate}}; with {{study.learning_rate.worst_rate}} the dev NLL is
# {{study.learning_rate.worst_nll:.2f}} instead of {{study.learning_rate.best_nll:.2f}}. Each point is one short run, so the curve finds the right order of magnitude and
# no more. One point, run again now, must land on it:

# %%
point = study["rows"][2]
steps, dev_rows = (16, 32) if PROFILE != "smoke" else (1, 4)
again = runs.learning_rate_point(profile.side_model, point["learning_rate"], steps, dev_rows)
print(f"rate {point['learning_rate']}: stored {point['dev_nll']:.3f}, now {again['dev_nll']:.3f} nats per token")

# %% [markdown]
# Other settings usually matter less. Try them in this order: the number of epochs, then the size of a batch times its accumulation (how many rows
# decide one step), then warm-up and schedule, then weight decay. This lesson did not measure them.
#
# ## Save, reload, resume
#
# To *use* the model later you need the adapter. It is small. To *resume* a run you also need the optimizer's averages, the schedule, the step and the state of the random numbers.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
tuned.save_pretrained(folder)
print({path.name: human_bytes(path.stat().st_size) for path in sorted(folder.glob("adapter*"))})

# %%
from finetune_utils.lora import attach_adapter

base, _ = load_model(profile.model, dtype=next(tuned.parameters()).dtype, say=lambda message: None)
reloaded = fast_copy(attach_adapter(base, folder))
same_text = ask(reloaded, asked[:4]) == ask(fast, asked[:4])
print("the reloaded model gives the same answers:", same_text)

# %% [markdown]
# Note the `dtype`. While it trained, the model kept its frozen weights in the number format that the first line of this lesson names.
# Load it in another one and the sums round differently: a near tie between two words can then fall the other way, and an
# answer changes although nothing is broken.
#
# A run can also die in the middle. The tiny random model shows what resuming means: one run goes through, the other is interrupted after six
# steps and resumed from its checkpoint. **Predict:** are the final weights close, or equal?

# %%
def tiny_run(output=None, stop_at=None, resume=False):
    tiny, tokens = load_model("tiny", say=lambda message: None)
    def interrupt(entry):
        if entry["step"] == stop_at:
            raise KeyboardInterrupt
    settings = TrainSettings(max_steps=10, learning_rate=1e-2, batch_size=4, checkpoint_every=3)
    try:
        train(tiny, tokens, eight, settings, output=output, resume=resume, precision=FP32, on_step=interrupt)
    except KeyboardInterrupt:
        print("interrupted; left behind:", [path.name for path in output.glob("checkpoint-*")])
    return torch.cat([p.detach().flatten() for p in tiny.parameters()])

# %%
whole = tiny_run()
tiny_run(folder / "run", stop_at=7)
resumed = tiny_run(folder / "run", resume=True)
print(f"largest difference between the final weights: {(whole - resumed).abs().max().item():.1e}")

# %% [markdown]
# ## Three lines
#
# The package does the whole lesson in one call: read and check the file, keep test rows aside, train, measure before and after. Its steps are
# the ones you know: the first two losses are the same as those of `train()`. (Two steps and no test rows, to save time. The two losses belong to two different batches, so they say nothing about better or worse.)

# %%
from finetune_utils.data import write_rows
from finetune_utils.quickstart import finetune

write_rows(folder / "my.jsonl", [{"question": r["question"], "answer": r["answer"]} for r in rows.train[:16]])
tuned_again = finetune(folder / "my.jsonl", model=profile.side_model, max_steps=2, learning_rate=1e-3, test_size=0)

# %%
plain = add_lora(load_model(profile.side_model, say=lambda message: None)[0])
sixteen = tokenize_rows(rows.train[:16], tokenizer).examples
reference = train(plain, tokenizer, sixteen, TrainSettings(max_steps=2, learning_rate=1e-3))
print("finetune():", [round(x, 4) for x in tuned_again.training.losses])
print("train():   ", [round(x, 4) for x in reference.losses])

# %% [markdown]
# ## Check your run

# %%
moved = dict(zip(("redirect", "wrong_redirect"), share["second opinion"], strict=True)) | {"near_redirect": trapped, "everyday_redirect": lost}
ends = {"": "estimate", "_low": "low", "_high": "high"}
redirects = {f"{name}_shifted{end}": getattr(found, field) for name, found in moved.items() for end, field in ends.items()}
for name in ("untuned", "tuned"):
    redirects |= {f"redirect_{name}": share[name][0].estimate, f"wrong_redirect_{name}": share[name][1].estimate}
redirects |= {"line_shifted": shift, "off_topic_questions": len(asked), "on_topic_questions": len(on_asked),
              "near_questions": len(near), "everyday_questions": len(everyday)}
redirects |= {f"pairs_{name.replace(' ', '_')}": float(found) for name, found in right_order.items()}

# %%
import shutil

shutil.rmtree(folder)
course.check_run(
    "lesson04", profile, **redirects, trainer_gap=gap, memory_error=measured.error,
    rule_precision=rule.precision, rule_recall=rule.recall, short_precision=short_rule.precision, short_recall=short_rule.recall,
    three_steps_change=three_steps.estimate, three_steps_low=three_steps.low, three_steps_high=three_steps.high,
    unseen_untuned=before["unseen"].mean, unseen_tuned=after["unseen"].mean,
    unseen_change=change["unseen"].estimate, unseen_low=change["unseen"].low, unseen_high=change["unseen"].high,
    reworded_untuned=before["reworded"].mean, reworded_tuned=after["reworded"].mean,
    reworded_drop=1 - after["reworded"].mean / before["reworded"].mean, stopped_early=too_much.stopped_early,
    resume_gap=(whole - resumed).abs().max().item(), same_text=same_text,
)

# %% [markdown]
# ## What you learned
#
# * A training step is five lines: forward, loss, backward, step, zero. The `Trainer` puts clipping, a schedule, 16-bit arithmetic, logging and checkpoints around them.
# * Weights, gradients, optimizer state, activations and logits add up to a number you can know in advance.
# * Three steps at the `Trainer`'s default rate changed the NLL on unseen facts by {{lesson04.three_steps_change:+.3f}} nats; the full run, at a rate `60` times higher, by {{lesson04.unseen_change:+.2f}}.
# * On new wordings of trained facts the NLL fell by {{lesson04.reworded_drop:.0%}}. That is recall, and it looks better than it is.
# * Off-topic questions redirected: {{lesson04.redirect_untuned:.0%}} before, {{lesson04.redirect_shifted:.0%}} after. Good questions turned back by mistake: {{lesson04.wrong_redirect_untuned:.0%}} before,
#   {{lesson04.wrong_redirect_shifted:.1%}} after. Training alone brought {{lesson04.redirect_tuned:.0%}} and {{lesson04.wrong_redirect_tuned:.1%}}; the rest is a probe on hidden states of the untuned model, and a line drawn on held-out rows. All test questions were asked; a draw of a few could have told
#   almost anything.
#
# ## Where this breaks
#
# * One seed shows one run. The ranges in "Check your run" come from three, and from a run on another processor. With the second opinion only the stored run and that one were scored. Three runs do not bound a fourth.
# * The tuned model states wrong facts in a confident voice. A low NLL on reference answers does not make free answers true.
# * A model that turns back nearly every off-topic question also turns back some good ones, here {{lesson04.wrong_redirect_shifted:.1%}}. Moving the line trades one mistake for the other. Fewer of both takes a better view of the question.
# * The second opinion reads every question with the untuned model, so each costs one more pass over its prompt. It knows the kinds of questions in these rows; others need a test of their own.
# * Questions that only sound like the topic were turned back in {{lesson04.near_redirect_shifted:.0%}} of cases, and so were {{lesson04.everyday_redirect_shifted:.0%}} of the good questions in everyday words. No training row is like
#   either kind. Ask your own before you trust a number.
# * The redirect rule reads only the first three sentences, and it was checked on answers like these. Other data need another rule and another check.
# * On a GPU the profile trains a larger model; its numbers differ and no stored run exists for it yet.
#
# ## Further reading
#
# * Kingma and Ba, *Adam: A Method for Stochastic Optimization*, arXiv 1412.6980.
# * Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (AdamW), arXiv 1711.05101.
# * Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv 2106.09685.
# * Micikevicius et al., *Mixed Precision Training*, arXiv 1710.03740.
# * Alain and Bengio, *Understanding Intermediate Layers Using Linear Classifier Probes*, arXiv 1610.01644.
# * Skean et al., *Layer by Layer: Uncovering Hidden Representations in Language Models*, arXiv 2502.02013.
