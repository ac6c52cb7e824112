# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 3, gpu: 4}
#     needs: the model (fetched once), about 5 GB of free memory, 2 GB of disk
#     data: [course_qa.jsonl]
#     teaching:
#       waits: [From notebook to command]
#       skippable:
#         - "When one card is too small: FSDP"
#         - "What does a run cost?"
#         - "How hard is the task, how large the model?"
#         - What to try next
#       watch:
#         first_gap: first loss, one process against two (nats per token)
#         same_within: all 20 losses within the limits
#         full_7b: memory for full fine-tuning of a 7B model (GB)
#         merged_same: questions on which merged weights give the same text
#         push_refused: a push without the repeated name is refused
#       mistakes:
#         - "The losses of the processes are averaged. Their token counts differ, so sum the losses and divide once by the tokens of all (exercise 10.1)."
#         - "Two processes on one laptop are expected to be quicker. They share its cores; the lesson shows equal losses, not speed."
#         - "A card on which a run fits is taken for one on which it is quick. The table of cards knows memory only."
#         - "Merged or rounded weights are passed on without loading them back. Compare texts first, as the section on serving does."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 10: Scaling up
#
# From a notebook on a laptop to a command on several machines, and from a folder of weights to something others can use. After this lesson you can
#
# * run the same fine-tuning as a command, and in two processes with the same losses;
# * say which model fits on which card, for full fine-tuning, LoRA, QLoRA and answering;
# * price a run before you rent a machine;
# * tell which tasks a small model can learn;
# * merge, export and describe a model, and publish it only on purpose.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)
smoke = profile.name == "smoke"

# %% [markdown]
# ## From notebook to command
#
# A notebook is good for looking. A long run wants a command: it starts without a browser, survives a closed laptop lid on a server, and leaves a record. The command needs a file of
# rows and an empty folder.

# %%
import tempfile
from pathlib import Path

from finetune_utils import runs
from finetune_utils.files import write_rows

folder = Path(tempfile.mkdtemp())
on_topic = [row for row in runs.course_rows().train if not runs.is_off_topic(row)]
picked = runs.spread(on_topic, 16 if smoke else 40)
write_rows(folder / "rows.jsonl", [{"question": row["question"], "answer": row["answer"]} for row in picked])
print((folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])

# %% [markdown]
# In a terminal you would type
#
# ```
# python -m finetune_utils finetune rows.jsonl --output run --batch-size 8 --test-size 0.25
# ```
#
# `launch` does just that from here and gives back what the command printed. **Predict:** with this few rows and one epoch, how much will the answers change?

# %%
from finetune_utils.distributed import launch

name = {"smoke": "tiny", "gpu": "smollm2-135m"}.get(profile.name, profile.model)  # a small one: it is about the way, not the result
words = ["finetune", folder / "rows.jsonl", "--model", name, "--batch-size", 8, "--test-size", 0.25]
printed = launch([*words, "--output", folder / "run"], processes=1, config=None)
print(printed.replace(str(folder), "."))

# %% [markdown]
# The folder now holds all that a later reader will ask for: weights, test rows, the loss of every step, and the record `run.json`.

# %%
from finetune_utils.memory import human_bytes
from finetune_utils.run_record import read_record

record = read_record(folder / "run")
print({path.name: human_bytes(path.stat().st_size) for path in sorted((folder / "run").iterdir())})
print("trained:", record.model, "on", len(record.train_rows), "rows of", record.data, "with seed", record.settings["seed"])

# %% [markdown]
# ## Two processes, one run
#
# A second machine or card can take half of every batch. Each process has a copy of the model, computes gradients on its half, and then all average their gradients. So every copy takes
# the same step.
#
# The trap is in the word "average". Here are the losses of eight tokens. Process A got a row with two of them, process B got the other six. **Predict** which number one process would
# report for the whole batch.

# %%
import torch

losses = torch.tensor([4.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
a, b = losses[:2], losses[2:]
print("mean of the two means:     ", ((a.mean() + b.mean()) / 2).item())
print("all losses over all tokens:", ((a.sum() + b.sum()) / (len(a) + len(b))).item())

# %% [markdown]
# The mean of means gives the two tokens of A as much weight as the six of B. Your result would depend on who got which row.
#
# The remedy: all processes tell each other how many tokens they have. Each divides its sum by the count of *all*. Averaging over processes divides once more, so each also multiplies by
# their number. Check it on a model of one weight, with a squared loss.

# %%
def gradient(targets, tokens, processes=1):
    w = torch.ones(1, requires_grad=True)
    (processes * ((w - targets) ** 2).sum() / tokens).backward()
    return w.grad.item()


targets = torch.tensor([4.0, 2.0, 1.5, 1.5, 1.5, 0.5, 0.5, 0.5])
a, b = targets[:2], targets[2:]
print("one process:              ", gradient(targets, tokens=8))
print("average, own counts:      ", (gradient(a, tokens=2) + gradient(b, tokens=6)) / 2)
print("average, counts of all:   ", (gradient(a, 8, processes=2) + gradient(b, 8, processes=2)) / 2)

# %% [markdown]
# Today's Trainer does it that way (`average_tokens_across_devices`). A second trap is the end of the data. When the last batch has fewer rows than processes need, the usual loader repeats rows from the
# beginning, and they count twice. The course fills up with rows that have no labels. They add nothing to the sum and nothing to the count.

# %%
from finetune_utils.batching import fill_last_batch

rows = [{"input_ids": [10 + i, 2], "labels": [-100, 2]} for i in range(5)]
for row in fill_last_batch(rows, size=4, token=0)[4:]:
    print(row)

# %% [markdown]
# Now for real. `accelerate launch` starts the processes. It reads a small file that says how many and where:

# %%
from finetune_utils.distributed import CONFIGS

print((CONFIGS / "two_processes.yaml").read_text(encoding="utf-8"))

# %% [markdown]
# The command behind it stays as it was. Only what stands before it changes:
#
# ```
# accelerate launch --config_file finetune_utils/configs/two_processes.yaml -m finetune_utils finetune rows.jsonl --output two
# ```
#
# `--batch-size` is the batch of all processes together, so steps, learning rate and order stay the same, too. To compare bit by bit you need float32 and no dropout. The tiny model will do: what is
# tested is the arithmetic, not the answers.

# %%
from finetune_utils.distributed import loss_gap, read_losses

words = ["finetune", folder / "rows.jsonl", "--model", "tiny", "--batch-size", 4, "--test-size", 0]
words += ["--max-steps", 20, "--learning-rate", 0.01]
for number, output in [(1, "one"), (2, "two")]:
    launch([*words, "--output", folder / output], processes=number, environment={"FINETUNE_PRECISION": "fp32"})
one, two = read_losses(folder / "one"), read_losses(folder / "two")
gap = loss_gap(one, two)
print(f"first step: {gap.first:.1e} nats per token apart; {gap.steps} steps: at most {gap.largest:.1e} of the loss")

# %%
from finetune_utils import scaling_plots

scaling_plots.losses_of_two_runs(one, two, ("one process", "two processes"))

# %% [markdown]
# The largest gap was {{lesson10.largest_gap:.1e}} of the loss. It is not exactly zero because two processes add the same numbers in another order.
#
# Was it quicker? Do not expect it here: two processes share the cores that one already had, and each loads its own model.

# %%
for label, output in [("one process", "one"), ("two processes", "two")]:
    print(f"{label:14} {read_record(folder / output).results['seconds']:.1f} s of training")

# %% [markdown]
# Processes pay off when each has its own processor: a card, or a machine.
#
# ## When one card is too small: FSDP
#
# Copies of the model make a run faster, not smaller: each card holds everything. FSDP (fully sharded data parallel) cuts weights, gradients and optimizer state into equal shares. A layer's weights are
# fetched when it is their turn and dropped again. Each card still has rows of its own, so activations are not shared.

# %%
from finetune_utils.memory import memory_table

table = memory_table()
need = table["Mistral-7B"]["full"]
print(f"Mistral-7B, all weights trained, one card: {human_bytes(need.total)}")
for cards in (2, 4, 8):
    print(f"  on each of {cards} cards: {human_bytes(need.on_each(cards))}")

# %% [markdown]
# For GPUs the course has `fsdp.yaml`. `accelerate` itself reads it here and says what it understood. No run on several GPUs is stored, so the lesson claims no more than that the file is read as meant.

# %%
from accelerate.commands.config.config_args import load_config_from_file

config = load_config_from_file(str(CONFIGS / "fsdp.yaml"))
print(config.distributed_type, "on", config.num_processes, "GPUs in", config.mixed_precision)
for key, value in config.fsdp_config.items():
    print(f"  {key}: {value}")

# %% [markdown]
# ## Which model on which card?
#
# Do the sum by hand first. Full fine-tuning with AdamW under 16-bit autocast keeps, for every weight: `4` bytes of weight, `2` of a 16-bit copy, `4` of gradient, `8` of optimizer averages. LoRA keeps a frozen weight
# in `2` bytes, QLoRA in a little over half a byte. **Predict** what seven billion weights need in each case.

# %%
for method, each in [("full", 4 + 2 + 4 + 8), ("LoRA", 2), ("QLoRA", 0.52)]:
    print(f"{method:6} about {each * 7e9 / 1e9:6.1f} GB before activations")

# %% [markdown]
# The tested version is `memory.estimate_memory`; it adds the adapter, activations and logits. It needs only the shapes of a model, so it can look at models that would never fit here. Rows of 512 tokens, one at a
# time:

# %%
from finetune_utils.memory import SHAPES, shape_of

sizes = {name: sum(p.numel() for p in shape_of(name).parameters()) / 1e9 for name in SHAPES}
rows = [{"model": name, "parameters": f"{sizes[name]:.2f} billion"}
        | {method: human_bytes(need.total) for method, need in table[name].items()} for name in SHAPES]
course.show_table(rows, caption="Estimated peak memory, 1 row of 512 tokens, rank 16, 16-bit arithmetic")

# %%
from finetune_utils.cards import CARDS, fit_table

scaling_plots.memory_by_size(table, sizes, CARDS)

# %% [markdown]
# Four cards that are often rented, with the figures of their data sheets. A run should not count on the last tenth of a card.

# %%
course.show_table([{"card": card.name, "memory": human_bytes(card.memory), "bf16": "yes" if card.bf16 else "no: use fp16",
                    "source": card.source} for card in CARDS], width=70)
course.show_table(fit_table(table), caption="The first card on the list with room, or several that share (FSDP)")

# %% [markdown]
# The table says where a run *fits*, not where it is quick. And an estimate is worth what its check is worth. Lesson 06 stored measured peaks of the 135M model; here they stand beside the estimates, and one is measured now.

# %%
from finetune_utils.measure import measure_memory

stored = course.stored("study.rank_sweep")["rows"]
rows = [{"run": f"LoRA, rank {row['rank']}" if row["rank"] != "full" else "full", "measured": human_bytes(row["memory"]),
         "estimated": human_bytes(row["memory_estimate"]), "off by": f"{row['memory_error']:+.0%}"} for row in stored]
now = measure_memory(name, "full", batch_size=2, length=104, steps=2)
rows.append({"run": f"full, 2 rows, now ({name})", "measured": human_bytes(now.peak),
             "estimated": human_bytes(now.estimate), "off by": f"{now.error:+.0%}"})
course.show_table(rows, caption="Peak memory of real runs (all but the last: stored)")

# %% [markdown]
# On the stored runs the estimate was off by {{study.rank_sweep.memory_error:.0%}} at most. QLoRA and the large models are not in that check: they need a GPU and bitsandbytes. Answering needs more memory than the table says when many rows or long
# rows are answered at once, because every token leaves keys and values behind.

# %%
from finetune_utils.memory import cache_bytes

for name_7b in ("Llama-2-13B", "Mistral-7B"):
    each = cache_bytes(shape_of(name_7b).config)
    print(f"{name_7b:12} {human_bytes(each)} a token; 32 rows of 2,000 tokens: {human_bytes(each * 32 * 2000)}")

# %% [markdown]
# The smaller model is not the only reason for the difference: Mistral shares keys and values among groups of four heads.
#
# ## What does a run cost?
#
# Operations are easy to count: a token costs `2` for each weight going forward and `4` going back, so `6` in full fine-tuning. With frozen weights their own gradients fall away, which leaves `4`. Divide by what the card
# can do, times the share of it that a real run reaches. Every run also pays a quarter of an hour for starting up, loading the model and scoring.
#
# **All figures in the next cell are examples for you to edit, not market prices.**

# %%
figures = {
    "rows": 10_000, "tokens_a_row": 300, "epochs": 3, "runs": 5,  # five, because the first is never the last
    "utilization": 0.3,
    "price_an_hour": {"T4": 0.50, "V100": 1.00, "A100": 2.50, "H100": 4.00},
}  # fmt: skip

# %%
from finetune_utils.cards import fits, run_cost, run_hours

tokens = figures["rows"] * figures["tokens_a_row"] * figures["epochs"]
rows = []
for model in ("SmolLM2-1.7B", "Mistral-7B", "Llama-2-13B"):
    for card in (card for card in CARDS if fits(table[model]["qlora"], card)):
        method = "lora" if fits(table[model]["lora"], card) else "qlora"
        hours = run_hours(sizes[model] * 1e9, tokens, card, utilization=figures["utilization"])
        cost = run_cost(hours, figures["price_an_hour"][card.name], runs=figures["runs"])
        rows.append({"model": model, "card": card.name, "method": method, "hours a run": f"{hours:.1f}", "all runs": f"{cost:,.0f}"})
course.show_table(rows, caption=f"Rented, {figures['runs']} runs, in the currency of your prices")

# %% [markdown]
# With these figures the dearest card by the hour is the cheapest by the run for the largest model, about even for the middle one, and the dearest for the smallest. **Predict, then edit:** which figure moves the total most?
#
# The hours of training grow with rows, tokens and epochs, and fall with utilization. The quarter of an hour does not shrink: on a quick card it can cost more than the training. The price and the number of runs multiply everything. What differs most is how well
# you know each figure, and utilization is the weakest.
#
# Rent or own? That is the break-even of lesson 01, with hours instead of requests: owning costs at the start, renting by the hour.

# %%
from finetune_utils.cards import break_even

owned = {"card_and_computer": 9_000, "power_kw": 0.6, "price_a_kwh": 0.30}  # examples to edit
rent = (0, figures["price_an_hour"]["A100"])
own = (owned["card_and_computer"], owned["power_kw"] * owned["price_a_kwh"])
hours = break_even(rent, own)
print(f"owning has cost less after {hours:,.0f} hours of use: {hours / 24 / 365:.1f} years day and night")

# %% [markdown]
# ## How hard is the task, how large the model?
#
# Before you rent a larger card, ask what the task needs. Lesson 04 trained one small model on two things at once. How to turn a question back is a *form*, and it learned that. *When* to turn one back is a *rule*, and it learned most of it: by itself it turned back
# {{lesson04.redirect_tuned:.0%}} of the off-topic test questions and {{lesson04.wrong_redirect_tuned:.0%}} of the good ones. Answering about facts that no row mentions needs *knowledge*:
# the NLL there fell only to {{lesson04.unseen_tuned:.2f}}, against {{lesson04.reworded_tuned:.2f}} on new wordings of trained facts.
#
# Toy models show it in isolation. Each row has two numbers and an answer. *Form*: the answer is always the same. *Rule*: the larger number, tested on pairs that were not trained. *Facts*: every pair has an answer drawn at random, so
# it has to be learned by heart. **Predict** which task needs the widest model.

# %%
from finetune_utils.hardness import toy_rows

for task in ("form", "rule", "facts"):
    train, test = toy_rows(task)
    examples = ", ".join(f"{a} {b} -> {answer}" for a, b, _, answer in train[:3].tolist())
    print(f"{task:6} {len(train)} rows, for example {examples}")

# %% [markdown]
# Five widths, three seeds each: `make study NAME=task_hardness` makes these stored rows again.

# %%
scaling_plots.accuracy_by_width(course.stored("study.task_hardness")["rows"])

# %% [markdown]
# The narrowest model got {{study.task_hardness.form_4:.0%}} on the form, {{study.task_hardness.rule_4:.0%}} on the rule and {{study.task_hardness.facts_4:.0%}} of the facts; the widest got {{study.task_hardness.form_64:.0%}}, {{study.task_hardness.rule_64:.0%}} and
# {{study.task_hardness.facts_64:.0%}}. Facts need the most width to get off the ground. The rule starts higher and is perfect at no width. The two are not the same test: facts are asked as they were trained, the rule on new pairs.
#
# One point again, live:

# %%
from finetune_utils.hardness import toy_point

point = toy_point("form", width=4, steps=60)
print(f"form, width 4, 60 steps: {point['accuracy']:.0%} right with {point['weights']:,} weights")

# %% [markdown]
# So first ask what you want to change. Form and manner: a small model, a few hundred rows. A rule over the input (sort, extract, classify): small to medium, and it must be tested on new inputs. Much knowledge: a larger model, or a small one that looks it up (lesson 01).
#
# ## Serving: one folder of plain weights
#
# An adapter needs its model and `peft`. Some servers, vLLM among them, attach adapters to one model and can serve several at once (lesson 06). Phones and most other programs want one set of weights. So merge, save, and then the step that is often left out: load the result in a fresh object and ask it the same questions.

# %%
from finetune_utils.export import export_merged, load_gguf, same_texts
from finetune_utils.models import load_model
from finetune_utils.prompts import render_prompt

silent = {"say": lambda message: None}
export_merged(folder / "run", folder / "merged", gguf="q8_0", **silent)
tuned, merged = load_model(str(folder / "run"), **silent), load_model(str(folder / "merged"), **silent)
asked = [render_prompt({"question": row["question"]}, tuned[1], record.template) for row in picked[: 2 if smoke else 6]]
same = same_texts(tuned, merged, asked)
print(f"merged weights write the same text for {sum(same)} of {len(same)} questions")

# %% [markdown]
# The same command also wrote a GGUF file: weights, tokenizer and chat template in one file, which llama.cpp, Ollama and LM Studio read. `q8_0` stores 8 bits a weight, and a scale for every 32 of them: `8.5` bits together. It rounds, so the texts may part. Read it back and count:

# %%
packed = load_gguf(folder / "merged" / "model-q8_0.gguf")
same_packed = same_texts(merged, (packed, merged[1]), asked)
files = {path.name: human_bytes(path.stat().st_size) for path in (folder / "merged").glob("model*")}
print(files)
print(f"8 bits a weight: the same text for {sum(same_packed)} of {len(same_packed)} questions")

# %% [markdown]
# Rounding can turn the choice of one token, and from there the text goes its own way. So this count says that something changed, not that it became worse. Before you ship the smaller file, score both on your test rows.
#
# In a terminal: `python -m finetune_utils export --model run --output merged --gguf q8_0`. For 4 bits, or another architecture than Llama, use llama.cpp's own tools on the merged folder:
#
# ```
# python convert_hf_to_gguf.py merged --outfile model.gguf
# llama-quantize model.gguf model-q4.gguf Q4_K_M
# ```
#
# `Q4_K_M` packs weights in blocks of `256`. The rows of this small model are `576` long, so most of its matrices fall back to 5 or 8 bits, and the file shrinks less than the name promises.
#
# ## A model card that cannot be wrong about its numbers
#
# A model without a card is a riddle: trained on what, better than what, to be asked how? Cards written by hand go stale with the next run. This one is written from `run.json`.

# %%
from finetune_utils.publish import write_card

card_text = write_card(folder / "run").read_text(encoding="utf-8")
print(card_text)

# %% [markdown]
# Look at the line under the table. When the interval includes zero the card says so, whether its author likes it or not.
#
# ## Publish on purpose
#
# A push cannot be taken back: somebody may have copied it. So `push_to_hub` lists what would go and stops, unless you repeat the name. It is private unless you say otherwise, test rows and the record stay at home, and a card that differs from the record is refused. This
# lesson never pushes.

# %%
from finetune_utils.errors import UserError
from finetune_utils.publish import plan_push, push_to_hub

refused = False
try:
    push_to_hub(folder / "run", "your-name/your-model")
except UserError as error:
    refused = True
    print(error)
print("stays at home:", sorted({p.name for p in (folder / "run").iterdir()} - set(plan_push(folder / "run"))))

# %% [markdown]
# ## What to try next
#
# * **The same run in TRL.** `SFTTrainer` adds packing and more data formats. Compare its labels with yours first; lesson 03 says why.
# * **Preference tuning.** Pairs of a better and a worse answer instead of one right answer: DPO is one class away in TRL (`DPOTrainer`). Begin with a model that is already fine-tuned.
# * **Rewards that a program can check** (GRPO): valid JSON, a right sum, a passing test. Needs many generated answers, so a GPU.
# * **A larger model of the same family.** SmolLM2-1.7B has the same tokenizer and template: set `PROFILE = "gpu"`. Choose the rates again on dev rows; no run of it is stored here.
# * **Better rows before more rows, more rows before longer rows.** Measure each on dev rows before you pay for the next.
#
# ## Check your run

# %%
import shutil

shutil.rmtree(folder)
course.check_run(
    "lesson10", profile,
    first_gap=gap.first, largest_gap=gap.largest, steps=gap.steps, same_within=gap.first < 1e-6 and gap.largest < 1e-4,
    nll_before=record.results["nll_before"], nll_after=record.results["nll_after"],
    memory_error=now.error, full_7b=table["Mistral-7B"]["full"].total / 1e9, toy_form=point["accuracy"],
    merged_same=sum(same) / len(same), packed_same=sum(same_packed) / len(same_packed),
    card_names_change=f"{record.results['nll_change']:+.3f}" in card_text, push_refused=refused,
)

# %% [markdown]
# ## What you learned
#
# * A command, a file of rows and an empty folder make a run that others can repeat.
# * Several processes give the losses of one, if sums are divided by the tokens of all and no row counts twice.
# * Full fine-tuning of a 7B model needs about {{lesson10.full_7b:.0f}} GB, so several cards; LoRA fits on one, QLoRA on a small one.
# * Price a run from operations, utilization and hours before you rent.
# * Form is cheap at any width. Learning facts by heart needs width. A rule needs less of it, but on new inputs it was never perfect.
# * Merge, load back, compare; let the record write the card; publish only on purpose.
#
# ## Where this breaks
#
# * Two processes on one machine show that the arithmetic is right, not that it scales. Between machines the network decides.
# * FSDP and QLoRA were not run: their figures are estimates, their code paths need GPUs. The `finetune` command saves copies as they are; weights cut up by FSDP would have to be gathered first, and that is not written.
# * Utilization is the weakest figure of the cost estimate. Measure a hundred steps and put your own in.
# * The toy models are random and tiny. They show an order, not at which size your task becomes easy.
# * GGUF export here covers Llama-like models with a byte-level tokenizer. It was read back with transformers, not with llama.cpp.
#
# ## Further reading
#
# * Kaplan et al., *Scaling Laws for Neural Language Models*, arXiv 2001.08361.
# * Hoffmann et al., *Training Compute-Optimal Large Language Models*, arXiv 2203.15556.
# * Zhao et al., *PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel*, arXiv 2304.11277.
# * Rajbhandari et al., *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*, arXiv 1910.02054.
# * Allen-Zhu and Li, *Physics of Language Models: Part `3.3`, Knowledge Capacity Scaling Laws*, arXiv 2404.05405.
# * Rafailov et al., *Direct Preference Optimization*, arXiv 2305.18290.
# * Mitchell et al., *Model Cards for Model Reporting*, arXiv 1810.03993.
# * The documentation of accelerate: https://huggingface.co/docs/accelerate.
