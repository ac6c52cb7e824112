# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 3, gpu: 6}
#     needs: the model (fetched once), about 5 GB of free memory
#     data: [course_qa.jsonl, neutral_text.txt, adapters]
#     teaching:
#       waits: ["Train one, and prove that it learned"]
#       skippable:
#         - What it saves, and what it does not
#         - "QLoRA: a frozen model in 4 bits"
#         - The relatives
#       watch:
#         rank16_share: share of the weights that rank 16 trains
#         same_logits: a fresh adapter leaves the logits as they were
#         list_change: NLL on held-out lists, change
#         neutral_change: NLL of neutral text, change (above 0 is forgotten)
#         same_text: the reloaded adapter gives the same answers
#       mistakes:
#         - "`A` and `B` both start at zero. Both gradients are then zero for good, and no error says so."
#         - "The loss is taken as proof. With a learning rate of 0 it goes up and down as well; `did_it_learn` looks at weights and outputs."
#         - "Ranks are compared at one learning rate. Full fine-tuning needs a much smaller one, so the plot would only show whom the rate suits."
#         - "The detour is scaled by `alpha` instead of `alpha / rank`, so each change of rank changes its strength (exercise 06.1)."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 06: LoRA
#
# Train a few percent of the weights, or far fewer, and keep the rest frozen. After this lesson you can
#
# * write a LoRA layer in fifteen lines and check it by hand and against `peft`;
# * say how many weights a rank trains, and what that saves and what it does not;
# * choose a rank from a measured curve instead of from habit;
# * prove that a run learned something, with five checks;
# * keep several adapters on one model: switch them, mix them in one batch, turn them off;
# * tell LoRA's relatives apart: QLoRA, rsLoRA, DoRA, LoRA+, soft prompts.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## A detour beside a frozen layer
#
# A linear layer multiplies its input `x` by a matrix `W`. Full fine-tuning changes every number in `W`. LoRA leaves `W` alone and adds
# a detour: a narrow matrix `A` squeezes the input down to `r` numbers, a second narrow matrix `B` widens them again. `r` is the rank.
#
# $$y = W x + \text{scale} \cdot B\,(A\,x)$$
#
# Here with three inputs, two outputs and rank `1`. Check each line with a pencil.

# %%
import torch

W = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])  # frozen: 2 outputs x 3 inputs
A = torch.tensor([[1.0, 0.0, 1.0]])  # rank 1 x 3 inputs
B = torch.tensor([[0.5], [1.0]])  # 2 outputs x rank 1
x, scale = torch.tensor([1.0, 2.0, 3.0]), 2.0
print("W x               =", (W @ x).tolist())
print("A x               =", (A @ x).tolist())
print("B (A x)           =", (B @ (A @ x)).tolist())
print("W x + 2 B (A x)   =", (W @ x + scale * (B @ (A @ x))).tolist())

# %% [markdown]
# The detour is itself a matrix product. So when training is over you can add it into `W` once, and the detour is gone. That is called merging.
# **Predict** the output of the merged layer, then run.

# %%
merged = W + scale * (B @ A)
print("W + 2 B A =", merged.tolist())
print("merged layer:", (merged @ x).tolist())

# %% [markdown]
# ## Where to start: the classic mistake
#
# Before the first step the detour should change nothing, or training starts from a damaged model. The obvious way is to set both `A` and `B` to zero. Look at
# the gradients. The loss is the squared distance of both outputs from `1`.

# %%
def gradients(a, b):
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    output = W @ x + scale * (b @ (a @ x))
    ((output - 1) ** 2).sum().backward()
    return f"gradient of A: {a.grad.abs().sum():5.1f}, of B: {b.grad.abs().sum():5.1f}"


print("A and B zero:      ", gradients(0 * A, 0 * B))
print("A as it is, B zero:", gradients(A, 0 * B))

# %% [markdown]
# With both at zero nothing can ever move, and no error says so: the gradient of `A` is multiplied by `B`, and that of `B` by `A x`. So LoRA
# starts with a random `A` and a zero `B`. The detour adds exactly 0 and `B` can still move. `A` follows in the second step.
#
# ## The layer in fifteen lines
#
# Draft 2 wraps any linear layer. The scale is written `alpha / rank`. With a fixed `alpha`, a higher rank is scaled down. The course's `add_lora` takes an `alpha` of twice the rank, so its scale is `2` for every rank.

# %%
import math

from torch import nn


class MyLoRA(nn.Module):
    def __init__(self, base, rank, alpha):
        super().__init__()
        self.base = base.requires_grad_(False)  # frozen
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.a.T @ self.b.T)


# %% [markdown]
# The tested version lives in `finetune_utils.lora_layer.LoRALinear`. With the same seed both must be equal. And a fresh one must not change the
# output of the layer it wraps, not even in the last bit.

# %%
from finetune_utils.lora_layer import LoRALinear

plain, inputs = nn.Linear(6, 4), torch.randn(5, 6)
torch.manual_seed(1)
draft = MyLoRA(plain, rank=2, alpha=4)
torch.manual_seed(1)
tested = LoRALinear(plain, rank=2, alpha=4)
print("draft and tested version start alike:", torch.equal(draft.a, tested.a))
print("a fresh detour changes nothing:", torch.equal(draft(inputs), plain(inputs)))

# %% [markdown]
# For real runs the course uses the library `peft`. Give it the same `A` and a `B` that is not zero, and compare outputs and gradients.

# %%
import copy

from peft import LoraConfig, get_peft_model

wrapped = get_peft_model(nn.Sequential(copy.deepcopy(plain)), LoraConfig(r=2, lora_alpha=4, target_modules=["0"]))
theirs = wrapped.base_model.model[0]
tested.b.data.normal_()
theirs.lora_A["default"].weight.data.copy_(tested.a.data)
theirs.lora_B["default"].weight.data.copy_(tested.b.data)
for some_layer in (tested, wrapped):
    some_layer(inputs).square().mean().backward()
output_gap = (tested(inputs) - wrapped(inputs)).abs().max().item()
gradient_gap = max((tested.a.grad - theirs.lora_A["default"].weight.grad).abs().max().item(),
                   (tested.b.grad - theirs.lora_B["default"].weight.grad).abs().max().item())
print(f"largest difference: outputs {output_gap:.1e}, gradients {gradient_gap:.1e}")

# %% [markdown]
# From here on you can read `peft` as a short name for those fifteen lines.
#
# Now the real model. Put a fresh detour around each of its linear layers and ask for the next token. **Predict:** how much do the logits change?

# %%
from finetune_utils.lora_layer import wrap_linears
from finetune_utils.models import load_model

model, tokenizer = load_model(profile.model)
ids = tokenizer("What does LoRA train?", return_tensors="pt").input_ids.to(model.device)
with torch.no_grad():
    before_wrapping = model(ids).logits
    everywhere = copy.deepcopy(model)
    layers = wrap_linears(everywhere, rank=profile.lora_rank)
    same_logits = torch.equal(everywhere(ids).logits, before_wrapping)
print(f"{layers} layers wrapped; logits bit-identical: {same_logits}")
del everywhere

# %% [markdown]
# ## How many weights are that?
#
# A layer with `in` inputs and `out` outputs has `in x out` weights. Its detour has `r x (in + out)`. Count by hand, for one block of the model.

# %%
block = model.model.layers[0]
table = []
for name, layer in block.named_modules():
    if isinstance(layer, nn.Linear):
        out, inner = layer.weight.shape
        table.append({"matrix": name, "shape": f"{out} x {inner}", "weights": f"{out * inner:,}",
                      "rank 1": f"{out + inner:,}", "rank 16": f"{16 * (out + inner):,}"})
course.show_table(table, caption="Weights of one block, and those of its detours")

# %% [markdown]
# **Predict:** which share of the whole model does rank `16` train? And what does it save to leave most matrices alone, as the first paper on LoRA did?

# %%
from finetune_utils.memory import human_bytes, linear_shapes

total = sum(p.numel() for p in model.parameters())
shapes = linear_shapes(model)
query_value = [layer.weight.shape for name, layer in model.named_modules() if name.endswith(("q_proj", "v_proj"))]
plans = {f"rank {r}, all matrices": (r, shapes) for r in (1, 4, 16, 64)} | {"rank 16, q and v only": (16, query_value)}
counts = {name: sum(r * (out + inner) for out, inner in some) for name, (r, some) in plans.items()}
counts["full fine-tuning"] = total
trained_share = {name: n / total if n == total else n / (total + n) for name, n in counts.items()}  # adapter included
course.show_table([{"what is trained": name, "weights": f"{n:,}", "share of all weights": f"{trained_share[name]:.2%}",
                    "saved file (float32)": human_bytes(4 * n)} for name, n in counts.items()])

# %% [markdown]
# The last column is what you keep for each task. Ten adapters of rank `16` cost less disk than one more copy of the model; ten of rank `64` would cost more.
#
# ## What it saves, and what it does not
#
# Gradients and optimizer state exist for trained weights only, and frozen weights can be kept in 16 bits. Activations are another matter: the gradient
# passes through all layers, and each detour needs the input of its layer. So with a detour on every matrix, about as many are kept as in full fine-tuning.

# %%
from finetune_utils.memory import estimate_memory

table = []
for label, method, rank in [("full", "full", 1), ("LoRA, rank 1", "lora", 1), ("LoRA, rank 64", "lora", 64),
                            ("QLoRA, rank 16", "qlora", 16), ("answering only", "inference", 1)]:
    need = estimate_memory(model, method, batch_size=8, length=104, rank=rank)
    parts = {k: human_bytes(getattr(need, k)) for k in ("weights", "gradients", "optimizer", "activations", "logits")}
    table.append({"method": label, **parts, "total": human_bytes(need.total)})
course.show_table(table, caption="Estimated memory, batch of 8 rows x 104 tokens")

# %% [markdown]
# Why does full fine-tuning need more for the weights themselves? It keeps each one twice: in 4 bytes for the update and in 2 for the arithmetic.
#
# An estimate has to be measured. A fresh process trains three steps and reports its peak.

# %%
from finetune_utils.measure import measure_memory

measured = measure_memory(profile.side_model, "lora", rank=profile.lora_rank)
print(f"{profile.side_model}, LoRA, rank {profile.lora_rank}: estimated {human_bytes(measured.estimate)}, measured {human_bytes(measured.peak)}: "
      f"the estimate is off by {measured.error:+.0%}")

# %% [markdown]
# ## How much rank does it take?
#
# **Predict** the shape of the curve before you look: quality at rank `1`, `4`, `16`, `64`, and with all weights.
#
# That is too much training for a lesson, so these rows are stored. `make study NAME=rank_sweep` makes them again. Every arm saw the same
# {{study.rank_sweep.train_rows}} rows in the same order, in {{study.rank_sweep.steps}} steps of 4. Each tried three learning rates in short runs and took the one that was best on dev rows. That matters: full fine-tuning needs a
# much smaller rate, and a comparison at one rate would only show which arm the rate suits.

# %%
from finetune_utils import lora_plots

sweep = course.stored("study.rank_sweep")
lora_plots.quality_by_rank(sweep["rows"])

# %%
table = []
for row in sweep["rows"]:
    table.append({
        "rank": str(row["rank"]), "trained": f"{row['share']:.2%}", "rate": f"{row['rate']:g}",
        "dev NLL [95 %]": f"{row['dev_nll']:.2f} [{row['dev_low']:.2f}, {row['dev_high']:.2f}]",
        "change": f"{row['dev_change']:+.2f} [{row['dev_change_low']:+.2f}, {row['dev_change_high']:+.2f}]",
        "seconds": f"{row['seconds']:.0f}", "memory": human_bytes(row["memory"]),
        "estimate": f"{human_bytes(row['memory_estimate'])} ({row['memory_error']:+.0%})",
    })
course.show_table(table, caption="Stored: the same rows for every arm (NLL in nats per token, intervals by fact)")

# %% [markdown]
# The intervals in the figure are wide, because facts differ a lot in how hard they are. To compare two arms, take the difference row by row: then what is hard for
# both drops out.

# %%
from finetune_utils.evaluation import Interval

for rows, key in [("dev rows, which chose the rates", "dev_vs"), ("unseen test rows", "unseen_vs")]:
    print(f"minus full fine-tuning on {rows} (nats per token):")
    for row in sweep["rows"][:-1]:
        gap = Interval(row[key], row[f"{key}_low"], row[f"{key}_high"])
        better = "LoRA was better" if gap.estimate < 0 else "full fine-tuning was better"
        print(f"  rank {row['rank']:<2} {gap}, {better if gap.excludes_zero else 'no difference shown'}")

# %% [markdown]
# Rank `1` changed the dev NLL by {{study.rank_sweep.r1_dev_change:+.2f}} nats per token, rank `64` by {{study.rank_sweep.r64_dev_change:+.2f}}, all weights by
# {{study.rank_sweep.full_dev_change:+.2f}}. Rank `1` trains {{study.rank_sweep.r1_share:.2%}} of the weights. LoRA with rank `16` took
# {{study.rank_sweep.r16_seconds:.0f}} seconds, full fine-tuning {{study.rank_sweep.full_seconds:.0f}}. Do not read that panel closely: other work ran on the machine. Rank `1`
# does less arithmetic than rank `4`, and its bar is higher by more than what lies between rank `16` and full fine-tuning.
#
# More rank was not better here: on facts that nobody trained, the low ranks did best. On new wordings of *trained* facts it is the other way round, {{study.rank_sweep.r1_reworded_change:+.2f}} for rank
# `1` and {{study.rank_sweep.full_reworded_change:+.2f}} for all weights. Few weights learn the manner of the answers; learning the facts by heart takes more.
#
# Two cautions. Some of the dev rows chose the rates, so trust the second list more: those facts chose nothing. And arms differ in their rates (see the table); a larger rate acts like more steps.
#
# Does the stored curve hold on your machine? One short run was stored with it: a few steps with rank `16`. Repeat it.

# %%
from finetune_utils.arms import short_point

was = sweep["values"]
sizes = {"steps": was["short_steps"], "dev_rows": was["short_dev_rows"]} if PROFILE != "smoke" else {"steps": 1, "dev_rows": 4}
now = short_point(profile.side_model, was["short_rank"], was["short_rate"], **sizes)
print(f"stored: dev NLL {was['short_dev_before']:.3f} before, {was['short_dev_after']:.3f} after {was['short_steps']} steps")
print(f"now:    dev NLL {now['dev_before']:.3f} before, {now['dev_after']:.3f} after {sizes['steps']} step(s)")

# %% [markdown]
# Hold the short run against the full one. After {{study.rank_sweep.short_steps}} steps rank `16` had come from {{study.rank_sweep.short_dev_before:.2f}} to {{study.rank_sweep.short_dev_after:.2f}} on its few dev rows. After all
# {{study.rank_sweep.steps}} the change on all dev rows was {{study.rank_sweep.r16_dev_change:+.2f}}. So the later steps brought nothing more for new facts. What they brought is recall of trained ones.
#
# ## Train one, and prove that it learned
#
# "My adapter did nothing" is a frequent complaint, and the loss does not always tell. Here is such a run on the tiny model: everything works, nothing
# fails, and the learning rate is 0.

# %%
from finetune_utils import runs
from finetune_utils.list_maker import check_ids
from finetune_utils.lora import add_lora
from finetune_utils.lora_checks import did_it_learn, fingerprint
from finetune_utils.tokenization import tokenize_rows
from finetune_utils.training import TrainSettings, train

rows = runs.course_rows()
idle = add_lora(load_model("tiny", say=lambda message: None)[0])
before = fingerprint(idle)
few = tokenize_rows(rows.train[:8], tokenizer, runs.ASSISTANT_TEMPLATE).examples
losses = train(idle, tokenizer, few, TrainSettings(max_steps=4, batch_size=2, learning_rate=0.0)).losses
print("losses:", [round(loss, 2) for loss in losses])
idle_check = did_it_learn(idle, check_ids(tokenizer), before)
print(idle_check)

# %% [markdown]
# The losses go up and down as in any run, because each step sees other rows. `did_it_learn` looks at the weights and at the outputs instead.
#
# Now a run that should learn: an adapter with a manner of its own. It answers the course's questions as a numbered list. Its rows are the course's training rows, with the answers
# cut into parts by a stated rule.

# %%
from finetune_utils.list_maker import as_list, list_rows

print(as_list("Save the adapter. It is small; the model stays where it is."))
lists = list_rows(rows.train)
print(f"\n{len(lists)} training rows have an answer of two parts or more. One of them:")
print("Q:", lists[0]["question"], "\n" + lists[0]["answer"])

# %% [markdown]
# Take a fingerprint of the frozen weights, then train. A manner is learned quickly: a few dozen steps will do.

# %%
from finetune_utils.list_maker import list_settings
from finetune_utils.models import base_of_adapter, count_parameters

base_name = base_of_adapter(runs.ASSISTANT)  # the course assistant joins in later, so both need the same model
tuned = add_lora(load_model(base_name)[0], rank=profile.lora_rank)
print(count_parameters(tuned))
before = fingerprint(tuned)
examples = tokenize_rows(lists, tokenizer, runs.ASSISTANT_TEMPLATE).examples
result = train(tuned, tokenizer, examples, list_settings(steps=60 if PROFILE != "smoke" else 2))
print(f"{result.steps} steps in {result.seconds:.0f} s; loss {result.losses[0]:.2f} at first, {result.losses[-1]:.2f} at last")

# %%
learned = did_it_learn(tuned, check_ids(tokenizer), before)
print(learned)

# %% [markdown]
# Four of the five checks. The base is untouched in every bit, `B` has moved in each layer, merged weights give the adapter's outputs, and the outputs differ from
# the untuned model's. The number behind "rounded to bfloat16" is what gets lost even when you merge in float32 and round once at the end: small updates suffer. Keep merged weights in float32 where that matters, and never round more than once.
#
# The fifth check: what you save is what you load. The base must be the same, too: load it in the number format in which `add_lora` stored the frozen weights.

# %%
import tempfile
from pathlib import Path

from finetune_utils.generation import answer
from finetune_utils.list_maker import held_out_rows
from finetune_utils.lora import attach_adapter

folder, dtype = Path(tempfile.mkdtemp()), tuned.get_base_model().dtype
tuned.save_pretrained(folder)
held_out = held_out_rows(max(2, profile.generate_rows // 4))
asked = [row["question"] for row in held_out]
length = min(48, profile.max_new_tokens)
wanted = answer(tuned, tokenizer, asked[:4], runs.ASSISTANT_TEMPLATE, length)
again, _ = load_model(base_name, dtype, say=lambda message: None)
model_with = attach_adapter(again, folder, "lists")
same_text = answer(model_with, tokenizer, asked[:4], runs.ASSISTANT_TEMPLATE, length) == wanted
print("the reloaded adapter gives the same answers:", same_text)

# %% [markdown]
# Where did the weights move? The size of the detour's product `scale * B A`, beside the size of the matrix it is added to:

# %%
from finetune_utils.lora_checks import layer_updates

lora_plots.updates_by_layer(layer_updates(tuned))

# %% [markdown]
# Did it also become better at its task, on facts that no training row mentions? Compare the NLL of list-shaped reference answers with and without the adapter.

# %%
from finetune_utils.evaluation import nll_difference
from finetune_utils.nll import token_nll

tests = tokenize_rows(held_out, tokenizer, runs.ASSISTANT_TEMPLATE).examples
after = token_nll(tuned, tests, tokenizer)
with tuned.disable_adapter():
    untuned = token_nll(tuned, tests, tokenizer)
change = nll_difference(untuned, after, [row["fact"] for row in held_out])
print(f"NLL on {len(tests)} held-out lists: {untuned.mean:.2f} untuned, {after.mean:.2f} tuned; change {change} nats per token")

# %% [markdown]
# ## Does it forget less?
#
# Training on narrow rows can damage what a model could do before. Lesson 05 measures that on neutral text, plain prose on everyday subjects: a rise of its NLL means
# that something was forgotten. A frozen base does not prevent it, because the detour changes the outputs for every text. First the adapter you just trained:

# %%
from finetune_utils.forgetting import forgotten, neutral_nll, neutral_windows

windows = neutral_windows(tokenizer, limit=24 if PROFILE != "smoke" else 2)
with tuned.disable_adapter():
    neutral_before = neutral_nll(tuned, tokenizer, windows)
neutral_change = forgotten(neutral_before, neutral_nll(tuned, tokenizer, windows), windows)
print(f"NLL of neutral text: {neutral_before.mean:.2f} untuned; change {neutral_change} nats per token (95 % interval by piece)")

# %% [markdown]
# Then LoRA beside full fine-tuning on equal rows and steps. These rows are stored, too; `make study NAME=rank_sweep` makes both studies again.

# %%
study = course.stored("study.forgetting")
table = []
for row in study["rows"]:
    table.append({
        "arm": {"lora": "LoRA, rank 16"}.get(row["arm"], row["arm"]),
        "neutral NLL": f"{row['neutral_nll']:.3f}",
        "change [95 %]": f"{row['change']:+.3f} [{row['change_low']:+.3f}, {row['change_high']:+.3f}]",
        "multiple choice": f"{row['mcq_accuracy']:.0%} [{row['mcq_low']:.0%}, {row['mcq_high']:.0%}]",
        "detectable": f"{row['mcq_mdd']:.0%}",
    })
course.show_table(table, caption="Stored: neutral text (nats per token) and four-choice science questions")

# %% [markdown]
# On neutral text LoRA changed by {{study.forgetting.lora_change:+.3f}}, full fine-tuning by {{study.forgetting.full_change:+.3f}} nats per token. Paired, LoRA minus full is
# {{study.forgetting.lora_neutral_vs:+.3f}} [{{study.forgetting.lora_neutral_vs_low:+.3f}}, {{study.forgetting.lora_neutral_vs_high:+.3f}}]: a frozen base is no shield by itself. The multiple-choice column
# is an illustration: changes below "detectable" cannot be told from chance with so few questions.
#
# Forgetting alone is half of the picture, for a model that learns nothing forgets nothing. Put both on one plot, for all ranks of the sweep.

# %%
lora_plots.learned_and_forgot(sweep["rows"])

# %% [markdown]
# Read it from right to left: further left has learned more of the trained facts, further up has forgotten more. An arm that lies left of and below another is better at both.
# If all arms lay on one line from the untuned model, LoRA would forget less *because* it learns less, and the rank would only choose a place on that line.
# Here full fine-tuning learned {{study.rank_sweep.full_reworded_change:+.2f}} and forgot {{study.forgetting.full_change:+.2f}}; rank `16` learned {{study.rank_sweep.r16_reworded_change:+.2f}} and forgot
# {{study.forgetting.lora_change:+.2f}}. "LoRA forgets less" held for the low ranks here. It did not for ranks `16` and `64`: paired, both forgot
# more than full fine-tuning. Is it the rank, or how far each arm was trained? The nominal rate is the same for ranks `1`, `4` and `16`. Its effect is not: at the same scale a wider detour moves further in each step. So this plot cannot
# separate the two.
#
# ## One model, two adapters
#
# The course assistant of lesson 04 is an adapter on the same model. Attach it beside the list maker. The weights of the model are in memory once.

# %%
from finetune_utils.lora import BASE, use_adapter

attach_adapter(model_with, runs.ASSISTANT, "assistant")
question = asked[0]
for name in ("lists", "assistant"):
    use_adapter(model_with, name)
    print(f"{name}: {answer(model_with, tokenizer, [question], runs.ASSISTANT_TEMPLATE, length)[0]}\n")
with model_with.disable_adapter():
    off = answer(model_with, tokenizer, [question], runs.ASSISTANT_TEMPLATE, length)[0]
print(f"no adapter: {off}")

# %% [markdown]
# Switching takes no time, but all users of the model get the same adapter. A server has requests for several at once. So give each row of a batch its own:
# `adapter_names` in `peft`, and `__base__` for none. The products with `W` are computed once for all rows.

# %%
from finetune_utils.generation import generate
from finetune_utils.prompts import render_prompt

prompts = [render_prompt({"question": q}, tokenizer, runs.ASSISTANT_TEMPLATE) for q in asked]
names = ["lists", "assistant", BASE]
mixed = generate(model_with, tokenizer, prompts * 3, length, batch_size=24, adapters=[n for n in names for _ in prompts])
answers = {name: mixed[i * len(prompts) : (i + 1) * len(prompts)] for i, name in enumerate(names)}
course.show_table([{"question": asked[i]} | {n: answers[n][i][:160] for n in names} for i in range(min(3, len(asked)))], width=34)

# %% [markdown]
# **Predict**, then count over the whole batch: how often does each answer begin like a numbered list?

# %%
from finetune_utils.evaluation import rate
from finetune_utils.list_maker import MOSTLY, is_list

shares = {name: rate([is_list(text) for text in texts]) for name, texts in answers.items()}
for name, share in shares.items():
    print(f"{name:9} {share.estimate:.0%} lists [{share.low:.0%}, {share.high:.0%}] of {len(asked)}")
told = "the same" if answers[BASE][0] == off else "another text: larger batches round their sums in another order"
print("the answer with no adapter, alone and in the mixed batch:", told)

# %% [markdown]
# Both adapters were trained on the course's questions. What differs is the manner of the answers, and that is what each one picked up. Read the answers in the table as well: a tidy list
# can be quite wrong. Manner is learned in a few dozen steps. Knowledge is not.
#
# ## QLoRA: a frozen model in 4 bits
#
# Frozen weights need not be exact. QLoRA stores them in 4 bits: every block of 64 weights is divided by its largest, and each weight becomes the nearest of 16 levels. Evenly
# spaced levels waste some where few weights are. NF4 puts them where a normal distribution has its weights.

# %%
normal = torch.distributions.Normal(0.0, 1.0)
above = normal.icdf(torch.linspace(0.9677083, 0.5, 9)[:-1])
below = -normal.icdf(torch.linspace(0.9677083, 0.5, 8)[:-1])
nf4 = torch.cat([above, torch.zeros(1), below]).sort().values / above.max()
even = torch.linspace(-1, 1, 16)
print("NF4:", [round(level, 2) for level in nf4.tolist()])

# %%
weight = model.model.layers[5].mlp.up_proj.weight.detach().float().cpu().reshape(-1, 64)[:10_000]
largest = weight.abs().amax(dim=1, keepdim=True)
lora_plots.rounding_to_levels((weight / largest).flatten().numpy(), nf4.tolist(), "weights of one matrix, and the 16 levels of NF4")

# %% [markdown]
# **Predict:** which levels lose less?

# %%
def rounded(levels):
    nearest = ((weight / largest)[..., None] - levels).abs().argmin(dim=-1)
    return levels[nearest] * largest


for name, levels in [("16 even levels", even), ("16 levels of NF4", nf4)]:
    error = (rounded(levels) - weight).norm() / weight.norm()
    print(f"{name:17} relative error {error:.1%}")

# %% [markdown]
# One caution: this model's weights come from a 4-bit file (see the README), so they have been rounded once already, by another rule.
#
# For a model of this size 4 bits save little. For one with 7 billion weights they decide whether it fits. The estimates for Mistral-7B, trained on one row of
# 512 tokens at a time, need only its shape, not its weights:

# %%
from transformers import AutoModelForCausalLM, MistralConfig

from finetune_utils.hardware import Precision

with torch.device("meta"):  # shapes without memory
    seven = AutoModelForCausalLM.from_config(MistralConfig())
half = Precision(torch.bfloat16, "bf16", "an estimate for a GPU")
for method in ("full", "lora", "qlora"):
    need = estimate_memory(seven, method, batch_size=1, length=512, rank=16, precision=half)
    print(f"{method:5} about {human_bytes(need.total)}, of which weights {human_bytes(need.weights)}")

# %% [markdown]
# These three are estimates; no 7B run is stored. Training itself works as before: load in 4 bits, add LoRA, train.
#
# One trap is worth knowing. On CPUs with AVX512-BF16, `bitsandbytes` packs the weights anew at the first forward pass in eval mode. The packed kernel has no backward pass. Score once in
# the middle of a run, and all later steps get wrong gradients, without an error. `four_bit.load_4bit` turns the packing off, and a test of this course fails without it.
#
# **Predict:** train, score in the middle, train on. How far apart are the gradients of one batch before and after the scoring?

# %%
import importlib.util

qlora = {}
if importlib.util.find_spec("bitsandbytes"):
    from finetune_utils.four_bit import load_4bit
    from finetune_utils import lora_checks

    small = add_lora(load_4bit(profile.side_model)[0], rank=profile.lora_rank)
    some, ids = TrainSettings(max_steps=4, batch_size=4, learning_rate=2e-3), torch.tensor([examples[0]["input_ids"]])
    at_first = token_nll(small, tests, tokenizer).mean
    train(small, tokenizer, examples[:16], some)
    gradients = lora_checks.adapter_gradients(small, ids)
    in_the_middle = token_nll(small, tests, tokenizer).mean
    qlora["qlora_gradient_gap"] = lora_checks.gradient_gap(gradients, lora_checks.adapter_gradients(small, ids))

# %%
if qlora:
    train(small, tokenizer, examples[16:32] or examples[:16], some)
    at_last = token_nll(small, tests, tokenizer).mean
    qlora |= {"qlora_first": at_first, "qlora_middle": in_the_middle, "qlora_last": at_last}
    print(f"test NLL {at_first:.2f}, {in_the_middle:.2f} in the middle, {at_last:.2f} at the end")
    print(f"gradients before and after the scoring differ by {qlora['qlora_gradient_gap']:.1%} at most")
else:
    print("There is no bitsandbytes here (it has no wheels for Intel Macs), so these two cells did nothing.")

# %% [markdown]
# The gradients stay the same, because `load_4bit` has turned the packing off. On such a CPU with packing on they would differ, and the run would go on without an error.
#
# ## The relatives
#
# * **rsLoRA** scales by `alpha / sqrt(rank)` instead of `alpha / rank`, so that high ranks are not held back.
# * **DoRA** splits each weight matrix into lengths and directions, and trains the lengths apart.
# * **LoRA+** lets `B` learn faster than `A`; here `16` to 1.
# * A **soft prompt** changes no layer at all: it trains vectors that stand before every row, here `20` of them.
#
# `peft` has all four. In the course's `add_lora` the first two are one word each:
#
# ```python
# add_lora(model, rank=16, use_rslora=True)
# add_lora(model, rank=16, use_dora=True)
# ```
#
# One saving needs no relative: let only the upper blocks learn. `freeze_below(tuned, 10)` from `finetune_utils.lora` leaves the adapters of blocks 0 to 9 at nothing, and the backward pass ends above them.
# On a CPU without 16-bit arithmetic, lessons 04 and 09 train that way. Score it on dev rows before you rely on it.
#
# `make study NAME=adapter_kinds` trains plain LoRA and these four on the same {{study.adapter_kinds.train_rows}} rows for {{study.adapter_kinds.steps}} steps of `4` rows (so each sees a part of them), each with the best of three learning rates on dev rows. It takes longer
# than this lesson, so its rows are stored. **Predict:** which one beats plain LoRA, and by how much?

# %%
kinds, table = course.stored("study.adapter_kinds")["rows"], []
for row in kinds:
    plain = row["arm"] == "lora"
    table.append({"kind": row["arm"], "trained": f"{row['share']:.2%}", "rate": f"{row['rate']:g}", "dev NLL": f"{row['dev_nll']:.2f}"}
                 | {f"{name} minus LoRA [95 %]": "-" if plain else f"{row[f'{key}_vs']:+.2f} [{row[f'{key}_vs_low']:+.2f}, {row[f'{key}_vs_high']:+.2f}]"
                    for name, key in [("new facts", "dev"), ("trained facts", "reworded")]} | {"seconds": f"{row['seconds']:.0f}"})
course.show_table(table, caption="Stored: dev NLL in nats per token, paired differences by fact; below 0 is better than LoRA")

# %% [markdown]
# On new facts none is far from plain LoRA, except the soft prompt: {{study.adapter_kinds.prompt_trainable:,}} numbers changed the manner of the answers, and hardly any fact fits into them. DoRA gave what LoRA gave,
# and took longer. (Other work ran on the machine, so the seconds are rough: rsLoRA does the same arithmetic as LoRA.) On new facts rsLoRA looks a little better, and for LoRA+ no difference is shown. Both are worse on trained ones:
# they learned less by heart in the same steps. In both, the same rate moves a layer further than in plain LoRA, so both took a smaller one; LoRA+ took the smallest that it was offered, so a still smaller one may suit it better. One seed,
# few steps: read differences of a few hundredths as "no difference".
#
# Tune the learning rate first. In the short runs that chose it (`tried` in the stored rows), the rates of one kind lie further apart than the kinds do, the soft prompt aside.
#
# Compare this table with the sweep above: plain LoRA of rank `16` reached {{study.adapter_kinds.lora_dev_nll:.2f}} on dev rows here, and {{study.rank_sweep.r16_dev_nll:.2f}} there, after nearly twice the steps. On trained facts it is the other way round:
# {{study.adapter_kinds.lora_reworded_change:+.2f}} here, {{study.rank_sweep.r16_reworded_change:+.2f}} there. More steps bought recall and cost the rest. So part of what low ranks gained in the sweep may be that they were trained less far. Compare ranks at several lengths before you choose one.
#
# ## Check your run

# %%
import shutil

shutil.rmtree(folder)
course.check_run(
    "lesson06", profile,
    peft_output_gap=output_gap, peft_gradient_gap=gradient_gap, same_logits=same_logits,
    rank16_share=trained_share["rank 16, all matrices"], memory_error=measured.error,
    short_before=now["dev_before"], short_after=now["dev_after"],
    idle_run_found_out=not idle_check.ok,
    changed_tensors=len(learned.changed), moved_layers=learned.moved, largest_update=learned.update,
    merged_gap=learned.merged_gap, rounded_gap=learned.rounded_gap, output_gap=learned.output_gap,
    same_text=same_text, list_change=change.estimate, neutral_change=neutral_change.estimate,
    mostly_lists=shares["lists"].estimate >= MOSTLY, assistant_mostly_lists=shares["assistant"].estimate >= MOSTLY, **qlora,
)

# %% [markdown]
# ## What you learned
#
# * LoRA adds `scale * B A` to a frozen matrix. With `B` at zero it changes nothing; with both at zero it never will.
# * Rank `16` on all matrices trains {{lesson06.rank16_share:.1%}} of the weights. Gradients and optimizer state shrink with it, activations do not.
# * At one length of training, low ranks were best on new facts and forgot least, and higher ones knew the trained facts better. Rank, rate and steps act together: look at the curve, and at paired differences.
# * A frozen base does not prevent forgetting. Here only the smallest rank lost nothing.
# * Five checks tell a run that learned from one that only ran.
# * Adapters are small files. One model in memory serves several, even in one batch.
#
# ## Where this breaks
#
# * The sweep has one model, one data set, {{study.rank_sweep.train_rows}} rows and one seed for each arm. Fewer steps favor what learns quickly. More rows or another task can need more rank.
# * Three learning rates an arm, each tried for a few steps only, is a coarse search. It favors rates that start fast, and several arms took the largest one they were offered.
# * The list maker is counted by how its answers begin. It says nothing about whether they are true.
# * Merging rounds: a little into 16-bit weights, a lot into 4-bit ones. `peft` does the latter with a warning, and the course's `merge()` refuses. Load the model in 16 or 32 bits, attach the adapter there, and merge.
# * No GPU run and no 7B run is stored.
#
# ## Further reading
#
# * Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv 2106.09685.
# * Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, arXiv 2305.14314.
# * Biderman et al., *LoRA Learns Less and Forgets Less*, arXiv 2405.09673.
# * Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA* (rsLoRA), arXiv 2312.03732.
# * Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, arXiv 2402.09353.
# * Hayou et al., *LoRA+: Efficient Low Rank Adaptation of Large Models*, arXiv 2402.12354.
# * Lester et al., *The Power of Scale for Parameter-Efficient Prompt Tuning*, arXiv 2104.08691.
