# ---
# jupyter:
#   course:
#     minutes: {smoke: 0.5, cpu: 1, gpu: 2}
#     needs: the two small models (fetched once), about 3 GB of free memory
#     data: [course_qa.jsonl]
#     teaching:
#       waits: ["Time it"]
#       skippable:
#         - Rare words and numbers cost more
#         - Each model has its own tokenizer
#         - The whole set at once
#         - Packing
#         - Time it
#       watch:
#         prompt_share: share of all tokens that is prompt
#         toy_never_stops: the toy whose ends are masked never stops
#         guards: different messages of the guards
#         waste_fixed: padding at a fixed length of 512
#         waste_grouped: padding when rows are grouped by length
#       mistakes:
#         - "Labels are shifted by hand. The model shifts them itself; shifted twice, each position is asked for the token after the next, and no error says so."
#         - "Padding is masked by its id. Where pad is the end token, every real end is masked too, and the model never learns to stop. Mask by position (exercise 03.3)."
#         - "Prompts are padded on the right before generating. The model then continues the padding."
#         - "Losses with different masks are compared. With the prompt trained it is another question and another number."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 03: Tokenizing
#
# A model never sees text. It sees rows of whole numbers, and beside each number it is told what to learn there.
# You will follow one question and its answer all the way to those numbers. After this lesson you can
#
# * turn text into token ids and back, and say where the pieces come from;
# * use padding, truncation and the attention mask, and choose the right side for each;
# * build the labels of a training example, mask its prompt, and prove that the mask works;
# * recognize the mistakes that raise no error, above all the one that keeps a model from ever stopping;
# * choose a way of batching by counting the tokens it wastes.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## Text, pieces, ids, and back
#
# A tokenizer cuts text into pieces. Each piece has a number, its id. The ids are all that the model gets.

# %%
from finetune_utils.models import load_tokenizer

tokenizer = load_tokenizer(profile.model)
ids = tokenizer("Fine-tuning teaches a model.")["input_ids"]
print("ids: ", ids)
print("back:", tokenizer.decode(ids))

# %% [markdown]
# Decode the ids one at a time and you see the pieces. You will need this often, so give it a name.


# %%
def pieces(text, tokenizer=tokenizer):
    """The pieces of a text, in order."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode([token]) for token in ids]


pieces("Fine-tuning teaches a model.")

# %% [markdown]
# **Predict, then run.** `token`, ` token` with a space in front, and `Token`: one id, two, or three?

# %%
for word in ["token", " token", "Token"]:
    print(repr(word), tokenizer(word)["input_ids"])

# %% [markdown]
# Three. The space belongs to the piece that follows it, and capitals count. To the model these are three
# different words, and it had to learn that they mean nearly the same.
#
# The pieces are made of bytes, not of letters. So no text is ever unknown. A rare letter may need two pieces, and
# each of them alone is not a letter. It prints as a question mark in a diamond.

# %%
print(pieces("Übung"))
print(tokenizer.decode(tokenizer("Übung")["input_ids"]))

# %% [markdown]
# Nothing is lost on the way. Check it on every question and answer of the course's own data.

# %%
from finetune_utils.data import load_rows
from finetune_utils.runs import spread

rows = spread(load_rows("course_qa"), profile.train_rows)
texts = [row["question"] for row in rows] + [row["answer"] for row in rows]
same = sum(tokenizer.decode(ids) == text for ids, text in zip(tokenizer(texts)["input_ids"], texts, strict=True))
print(f"{same:,} of {len(texts):,} texts come back letter by letter.")

# %% [markdown]
# ## Why "ing" is one piece
#
# Nobody wrote the list of pieces. It was counted. Byte-pair encoding starts with the smallest units (letters in this toy, bytes in SmolLM2) and repeats
# one step: find the most frequent pair of neighbors and merge it into one piece.
#
# **Predict, then run.** Here are six words. Which pair of letters is the most frequent? Count with a pencil.

# %%
from collections import Counter
from itertools import pairwise

words = [list(word) for word in ["sing", "ring", "king", "bring", "thing", "in"]]


def count_pairs(words):
    return Counter(pair for word in words for pair in pairwise(word))


count_pairs(words).most_common(3)

# %% [markdown]
# `i` and `n` stand together in all six words. Merging walks through a word and glues the pair wherever it occurs.


# %%
def merge(word, pair):
    merged = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


merge(list("bringing"), ("i", "n"))

# %% [markdown]
# Now repeat: count, merge, count again.

# %%
merges, learned = [], words
for step in range(1, 4):
    pair, count = count_pairs(learned).most_common(1)[0]
    learned = [merge(word, pair) for word in learned]
    merges.append(pair)
    print(f"merge {step}: {pair[0]} + {pair[1]}, seen {count} times")
print(learned)

# %% [markdown]
# Two merges made `ing`. A word that was never counted is cut by replaying the merges in their order:

# %%
word = list("wing")
for pair in merges:
    word = merge(word, pair)
print(word)

# %% [markdown]
# SmolLM2's tokenizer was made the same way, from bytes and far more text. Before anything is counted, text is cut into words and single digits, and no merge crosses such a cut: that is why a year is four tokens. Its list of merges is in the tokenizer file.
# **Predict:** do your two merges come early or late among them?

# %%
import json

real_merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
for pair in (["i", "n"], ["in", "g"]):
    print(f"{pair[0]} + {pair[1]} is merge number {real_merges.index(pair) + 1} of {len(real_merges):,}")

# %% [markdown]
# Frequent pairs come first. Frequent words end up as one piece. A rarer word falls apart, often at an ending that
# many words share.

# %%
for word in [" running", " checkpointing", " tokenizing", " backpropagation"]:
    print(word, pieces(word))

# %% [markdown]
# ## Rare words and numbers cost more
#
# Otorhinolaryngology is the medicine of ear, nose and throat. **Predict:** how many pieces?

# %%
print(len(pieces(" otorhinolaryngology")), pieces(" otorhinolaryngology"))

# %% [markdown]
# Six pieces, so six predictions to write one word. Time, memory and length limits all count pieces, not words.
# How many pieces does a word cost in plain English about fine-tuning?

# %%
answers = [row["answer"] for row in rows]
words_written = sum(len(answer.split()) for answer in answers)
tokens_written = sum(len(ids) for ids in tokenizer(answers)["input_ids"])
tokens_per_word = tokens_written / words_written
print(f"{tokens_per_word:.2f} tokens per word, over {words_written:,} words in {len(answers):,} answers")

# %% [markdown]
# Here `100` words are about {{lesson03.tokens_per_100_words:.0f}} tokens. Numbers cost more: this tokenizer
# spells them digit by digit.

# %%
for text in ["2024", " 1,230", "0.62"]:
    print(repr(text), pieces(text))

# %% [markdown]
# A year takes four pieces. That is slow, but a digit has the same id wherever it stands. Remember it in lesson
# 07, where a model writes probabilities.
#
# ## Each model has its own tokenizer
#
# MiniLM is the small model that compares sentences in lesson 05. It uses WordPiece, another way to count pieces.
# Put the two side by side.

# %%
minilm = load_tokenizer("minilm")
table = []
for text in ["tokenizing", "hyperparameters", " uncharacteristically", "2024", "Übung"]:
    table.append({"text": text, "SmolLM2": " | ".join(pieces(text)), "MiniLM": " | ".join(pieces(text, minilm))})
course.show_table(table, caption=f"Vocabulary: SmolLM2 {len(tokenizer):,} pieces, MiniLM {len(minilm):,}")

# %% [markdown]
# MiniLM marks a piece that *continues* a word with `##`; SmolLM2 marks the *start* of a word with the space.
# MiniLM keeps some numbers together. Does its text come back?

# %%
for name, one in {"SmolLM2": tokenizer, "MiniLM": minilm}.items():
    print(f"{name}:", one.decode(one("Übung macht den Meister.")["input_ids"]))

# %% [markdown]
# MiniLM has dropped capitals and accents for good, and wrapped the text in special tokens of its own. It only
# compares sentences, so it can afford that.
#
# Now the mistake: the ids of one tokenizer, read by the other. **Predict:** an error, or something else?

# %%
wrong_ids = minilm("What is a label mask?", add_special_tokens=False)["input_ids"]
print(wrong_ids, "is read as:", tokenizer.decode(wrong_ids))

# %% [markdown]
# No error. A number is a number. So a model and its tokenizer belong together: load both from the same place and
# save both to the same place.
#
# ## Padding: a batch is a rectangle
#
# Several texts are computed at once, as one tensor. Texts differ in length, and a tensor has no ragged edge.

# %%
import torch

texts = ["Hi!", "How are you?", "Good morning to all of you."]
lists = tokenizer(texts)["input_ids"]
try:
    torch.tensor(lists)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# So the short ones are filled up with a pad token. A second tensor, the attention mask, says which positions are
# real (1) and which are filling (0).

# %%
longest = max(len(ids) for ids in lists)
padded = [ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids in lists]
mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in lists]
for ids, ones in zip(padded, mask, strict=True):
    print(ids, ones)

# %% [markdown]
# The tokenizer does the same in one call:

# %%
batch = tokenizer(texts, padding=True, return_tensors="pt")
assert batch["input_ids"].tolist() == padded
assert batch["attention_mask"].tolist() == mask
print("by hand and by the tokenizer: equal")

# %% [markdown]
# ### Left or right?
#
# Load the model and ask it for the next piece after a prompt. First the short prompt alone.

# %%
from finetune_utils.models import load_model

model, tokenizer = load_model(profile.model)


def next_piece(batch, column=-1):
    """The probabilities of what follows the text of the first row, seen from one column."""
    with torch.inference_mode():
        return model(**batch.to(model.device)).logits[0, column].float().softmax(-1).cpu()


prompts = ["The capital of France is", "On a clear and sunny day, the color of the sky at noon is"]
alone = next_piece(tokenizer(prompts[:1], return_tensors="pt"))
print(f"{prompts[0]} ->{tokenizer.decode([alone.argmax()])} (probability {alone.max():.2f})")

# %% [markdown]
# Now batch it with a longer prompt. The model writes after the *last* column. **Predict:** on which side must the
# padding stand?

# %%
change = {}
for side in ("left", "right"):
    batch = tokenizer(prompts, padding=True, padding_side=side, return_tensors="pt")
    after = next_piece(batch)
    change[side] = (after - alone).abs().max().item()
    print(f"{side:5} {tokenizer.decode(batch['input_ids'][0])!r} -> {tokenizer.decode([after.argmax()])!r}")
    print(f"      largest change of a probability: {change[side]:.6f}")

# %% [markdown]
# Padded on the left, the prediction is the same as alone. Padded on the right, the model continues the padding.
# So **pad left to generate**.
#
# The mask did its part in that. Take it away, and the padding is read as text:

# %%
batch = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
batch["attention_mask"] = torch.ones_like(batch["attention_mask"])
after = next_piece(batch)
change["no mask"] = (after - alone).abs().max().item()
print(f"left, all ones -> {tokenizer.decode([after.argmax()])!r}, largest change {change['no mask']:.6f}")

# %% [markdown]
# In training nobody writes after the last column. Every real position predicts its own next token, and a position
# only looks back. Padding on the right comes later, so it cannot be seen. Look at the last *real* column:

# %%
batch = tokenizer(prompts, padding=True, padding_side="right", return_tensors="pt")
last_real = int(batch["attention_mask"][0].sum()) - 1
after = next_piece(batch, column=last_real)
change["right, real"] = (after - alone).abs().max().item()
print(f"right, column {last_real}: largest change of a probability {change['right, real']:.6f}")

# %% [markdown]
# **Pad right to train**: it works, and positions count from the first real token.
#
# ## Special tokens, and where a turn ends
#
# Some ids stand for no text at all. They mark where things begin and end.

# %%
names = ["bos_token", "eos_token", "pad_token", "unk_token"]
course.show_table(
    [{"name": n, "text": getattr(tokenizer, n), "id": getattr(tokenizer, f"{n}_id")} for n in names],
    caption="Special tokens of SmolLM2",
)

# %% [markdown]
# Look at the second and the third line: the pad token *is* the end token. Keep that in mind. It will bite.
#
# A chat model expects its turns wrapped in such tokens. The chat template does the wrapping. SmolLM2's adds a
# system message by itself.

# %%
from finetune_utils.prompts import chat_prompt

row = rows[0]
prompt = chat_prompt(tokenizer, row["question"])
print(prompt)

# %% [markdown]
# The prompt stops where the answer begins. The answer will end with `<|im_end|>`, the end-of-turn token. Writing
# that token is how the model stops: `generate` watches for it.
#
# It must be exactly that token. With a stray space it is only text:

# %%
print(pieces("<|im_end|>"))
print(pieces("<| im_end |>"))

# %% [markdown]
# ## Truncation: what gets cut off
#
# A row that is too long is cut. Take one training text, whole, and cut it to `48` tokens from either side.

# %%
whole = prompt + row["answer"] + tokenizer.eos_token
ids = tokenizer(whole)["input_ids"]
kept = {"right": ids[:48], "left": ids[-48:]}
for side, part in kept.items():
    tokenizer.truncation_side = side
    assert tokenizer(whole, truncation=True, max_length=48)["input_ids"] == part
tokenizer.truncation_side = "right"
print("cut on the right, the end is lost:", repr(tokenizer.decode(ids[48:])))
print("cut on the left, the start is lost:", repr(tokenizer.decode(ids[:-48])))

# %% [markdown]
# Cut on the right, you lose the end of the answer and its end-of-turn token: the model is taught to break off in
# the middle. Cut on the left, you lose the start of the prompt. Neither is harmless. How many of your rows would
# be hit?

# %%
from finetune_utils.tokenization import encode_row

encoded = [encode_row(row, tokenizer) for row in rows]
lengths = [len(example["input_ids"]) for example in encoded]
prompt_lengths = [example["labels"].count(-100) for example in encoded]
for limit in (48, 64, 96, 128, 512):
    cut = sum(length > limit for length in lengths)
    lost = sum(length >= limit for length in prompt_lengths)
    print(f"limit {limit:3}: {cut:5,} of {len(rows):,} rows lose their end, {lost:5,} lose the whole answer")

# %% [markdown]
# (`encode_row` is the tested version of what you build below. A label of -100 marks a token that is not trained, here the prompt; the section on labels explains it.) Look at the lengths before you
# choose a limit:

# %%
from finetune_utils import plots

plots.row_lengths(lengths, limit=96)

# %% [markdown]
# The package tells you the same, unasked:

# %%
from finetune_utils.tokenization import tokenize_rows

for note in tokenize_rows(rows, tokenizer, max_length=96).notes:
    print(note)

# %% [markdown]
# ## Labels: what to learn where
#
# Training needs one more row of numbers: the labels. They say what the model should have predicted. For a
# language model that is the next token. Read the lines as "sees, predicts":

# %%
shown = pieces("The dog sat.<|im_end|>")
for place in range(1, len(shown)):
    print("".join(shown[:place]), "->", repr(shown[place]))

# %% [markdown]
# The labels are the same ids as the input. The *model* shifts them by one. You can see it in the loss, the mean
# of `-log p` over the predicted tokens (the NLL, in nats per token). Write it once by hand:


# %%
def token_losses(ids):
    """-log p of every token but the first: position i predicts token i + 1."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0].float().cpu()
    return -logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]


def model_loss(ids, labels):
    """The loss that the model computes itself from its labels."""
    tensors = {"input_ids": ids, "labels": labels}
    with torch.inference_mode():
        return model(**{k: torch.tensor([v], device=model.device) for k, v in tensors.items()}).loss.item()


# %%
ids = tokenizer("The capital of France is Paris.")["input_ids"]
print(f"by hand, shifted:           {token_losses(ids).mean():.4f} nats per token")
print(f"by the model, labels = ids: {model_loss(ids, ids):.4f} nats per token")

# %% [markdown]
# **Predict, then run.** A careful person shifts the labels before giving them to the model. What happens?

# %%
print(f"labels shifted twice:       {model_loss(ids, ids[1:] + [-100]):.4f} nats per token")

# %% [markdown]
# Now every position is asked for the token after the next. No error, only a bad model. Leave the shift to the
# model.
#
# ### -100 means "do not count"
#
# Where there is nothing to learn, the label is -100. Check with numbers that a pencil can handle: three
# positions, four possible tokens, and the right ones got `1/2`, `1/4` and `1/8`.

# %%
import math
from torch.nn.functional import cross_entropy

p = torch.tensor([[4, 2, 1, 1], [2, 2, 2, 2], [1, 1, 2, 4]]) / 8
loss = cross_entropy(p.log(), torch.tensor([0, 1, 1]))
print(f"PyTorch {loss:.4f}, by hand (ln 2 + ln 4 + ln 8) / 3 = {math.log(2 * 4 * 8) / 3:.4f}")

# %% [markdown]
# **Predict:** the third label becomes -100. Is the sum now divided by three or by two?

# %%
masked = torch.tensor([0, 1, -100])
loss = cross_entropy(p.log(), masked)
p[2] = torch.tensor([0.97, 0.01, 0.01, 0.01])
print(f"PyTorch {loss:.4f}, by hand (ln 2 + ln 4) / 2 = {math.log(2 * 4) / 2:.4f}")
print(f"and with other numbers in the third position: {cross_entropy(p.log(), masked):.4f}")

# %% [markdown]
# By two. A masked position adds nothing and is not counted.
#
# ## One training example, in two drafts
#
# Draft 1 trains on everything: labels equal ids.

# %%
prompt_ids = tokenizer(prompt)["input_ids"]
answer_ids = tokenizer(row["answer"])["input_ids"] + [tokenizer.eos_token_id]
draft1 = {"input_ids": prompt_ids + answer_ids, "labels": prompt_ids + answer_ids}
print(f"{len(prompt_ids)} prompt tokens and {len(answer_ids)} answer tokens, all trained")

# %% [markdown]
# But you never want the model to write the question. Worse, the system message is the same in every row. Which
# share of the training would go into prompts?

# %%
prompt_share = sum(prompt_lengths) / sum(lengths)
print(f"{prompt_share:.0%} of {sum(lengths):,} tokens are prompt")

# %% [markdown]
# On the whole set it is {{lesson03.prompt_share:.0%}}. Draft 2 masks them. What stays is the answer *and its
# end-of-turn token*: the model must learn to stop, too.

# %%
draft2 = {"input_ids": prompt_ids + answer_ids, "labels": [-100] * len(prompt_ids) + answer_ids}
print(f"draft 1: {model_loss(draft1['input_ids'], draft1['labels']):.3f} nats per token")
print(f"draft 2: {model_loss(draft2['input_ids'], draft2['labels']):.3f} nats per token")

# %% [markdown]
# Two questions, two numbers. Compare a loss only with one that has the same mask.
#
# The tested version lives in `finetune_utils.tokenization`. It gives the same numbers:

# %%
example = encode_row(row, tokenizer)
assert example == draft2
print("draft 2 and encode_row agree on", len(example["input_ids"]), "tokens")

# %% [markdown]
# ### Look at the mask
#
# Never train before you have looked at one row. `show_mask` marks what is trained: bold, underlined and on a
# colored ground.

# %%
from finetune_utils.tokenization import mask_text, show_mask

show_mask(example, tokenizer)

# %% [markdown]
# Where there is no color, in a terminal or a log, `mask_text` puts it in double brackets:

# %%
print(mask_text(example, tokenizer))

# %% [markdown]
# In a conversation, every turn of the assistant is trained and nothing else:

# %%
messages = [
    {"role": "user", "content": "Is 512 a good limit?"},
    {"role": "assistant", "content": "Look at the lengths first."},
    {"role": "user", "content": "All below 140."},
    {"role": "assistant", "content": "Then it cuts nothing."},
]
show_mask(encode_row({"messages": messages}, tokenizer), tokenizer)

# %% [markdown]
# ### Prove it on the real model
#
# First proof: the model's loss is the mean over the supervised tokens alone.

# %%
ids, labels = example["input_ids"], example["labels"]
supervised = torch.tensor(labels[1:]) != -100
by_hand, by_model = token_losses(ids)[supervised].mean().item(), model_loss(ids, labels)
hand_gap = abs(by_hand - by_model)
print(f"by hand {by_hand:.5f}, by the model {by_model:.5f}: they differ by {hand_gap:.1e} nats per token")

# %% [markdown]
# Second proof: add nonsense after the answer. **Predict** the loss when the nonsense has label -100, and when it
# has its own ids.

# %%
junk = tokenizer(" zebra quantum umbrella lava")["input_ids"]
ignored = model_loss(ids + junk, labels + [-100] * len(junk))
counted = model_loss(ids + junk, labels + junk)
junk_gap = abs(ignored - by_hand)
print(f"without {by_hand:.5f}, ignored {ignored:.5f}, counted {counted:.5f} nats per token")

# %% [markdown]
# Ignored means not *scored*. It does not mean not *read*: hiding a token is the attention mask's job. Swap the question for one
# from another row, still masked, and the loss of the very same answer changes:

# %%
other = encode_row({"question": rows[-1]["question"], "answer": row["answer"]}, tokenizer)
swapped = model_loss(other["input_ids"], other["labels"])
print(f"own question {by_hand:.3f}, another question {swapped:.3f} nats per token of the same answer")

# %% [markdown]
# ## The model that never stops
#
# Here is the trap that waits in pad = end token. The stock collator of `transformers` pads a batch and makes the
# labels. It then masks every label that *equals the pad id*.

# %%
from transformers import DataCollatorForLanguageModeling

stock = DataCollatorForLanguageModeling(tokenizer, mlm=False)
sentences = ["The cat sat.<|im_end|>", "The dog ran away.<|im_end|>"]
batch = stock([{"input_ids": ids} for ids in tokenizer(sentences)["input_ids"]])
for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
    print([tokenizer.decode([i]) for i in ids], "\n   ", labels.tolist())

# %% [markdown]
# Every `<|im_end|>` is -100: the padding, as it should be, and the real end of each sentence with it. On your
# real row:

# %%
trapped = stock([{"input_ids": example["input_ids"]}])
trap = {"input_ids": example["input_ids"], "labels": trapped["labels"][0].tolist()}
end = tokenizer.eos_token_id
print("end-of-turn tokens in the row:", trap["input_ids"].count(end))
print("of them trained, stock collator:", trap["labels"].count(end))
print("of them trained, encode_row:", example["labels"].count(end))

# %% [markdown]
# Look at it. Everything is trained, the prompt too; only the ends of the turns are not.

# %%
show_mask(trap, tokenizer)

# %% [markdown]
# What does that do to a model? Train a toy from random weights, `20` steps on the two sentences.


# %%
def train_toy(batch):
    toy, _ = load_model("tiny", say=lambda message: None)
    optimizer = torch.optim.AdamW(toy.parameters(), lr=0.02)
    for _ in range(20):
        toy(**{name: tensor.to(toy.device) for name, tensor in batch.items()}).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return toy


# %% [markdown]
# Once with the stock labels, and once with labels masked by *position*, where the attention mask is 0. Nothing
# else differs. **Predict** what each one writes.

# %%
by_position = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
stops = {}
for name, labels in {"masked by pad id": batch["labels"], "masked by position": by_position}.items():
    toy = train_toy({**batch, "labels": labels})
    start, full = (tokenizer(text, return_tensors="pt").to(toy.device) for text in ("The dog", "The dog ran away."))
    with torch.inference_mode():
        stops[name] = toy(**full).logits[0, -1].softmax(-1)[end].item()
        written = toy.generate(**start, max_new_tokens=12, do_sample=False, eos_token_id=end)
    print(f"{name}: {tokenizer.decode(written[0])!r}")
    print(f"   probability of stopping after the last word: {stops[name]:.6f}")

# %% [markdown]
# The first toy was never asked for an end, so it runs on until the limit cuts it off. A chat model such as
# SmolLM2 could already stop when you got it. There the bug may show late, and that makes it worse.
#
# The remedy is to mask by position, never by id. The course's collator does:

# %%
from finetune_utils.batching import SupervisedCollator

batch = SupervisedCollator(tokenizer.pad_token_id, sparse=False)(encoded[:4])
print("shape:", tuple(batch["labels"].shape), "end-of-turn tokens trained:", int((batch["labels"] == end).sum()))

# %% [markdown]
# The other remedy is a pad token of its own. SmolLM2 has one that its chats never use, `<|endoftext|>` with id 0. It hides one more trap:

# %%
pad_id = tokenizer.convert_tokens_to_ids("<|endoftext|>")
print("pad id:", pad_id)
print("pad_id or eos_id:", pad_id or end)
print("eos_id if pad_id is None else pad_id:", end if pad_id is None else pad_id)

# %% [markdown]
# In Python 0 counts as false, so `or` throws a perfectly good pad id away. Ask for `None`.
#
# ## The guards
#
# None of these mistakes raised an error. So the package checks for them. Provoke each guard once, and read its
# message: it names what was found and what to do.

# %%
from finetune_utils.errors import UserError

caught = []


def provoke(action):
    try:
        action()
    except UserError as error:
        caught.append(str(error))
        print("UserError:", error)


# %% [markdown]
# The prompt fills the whole length, and the answer is cut away:

# %%
provoke(lambda: tokenize_rows(rows[:1], tokenizer, max_length=20, source="my.jsonl"))

# %% [markdown]
# Every label is masked, so there is nothing to learn:

# %%
from finetune_utils.tokenization import check_ends, check_example, check_prefix

ids, labels = example["input_ids"], example["labels"]
provoke(lambda: check_example({"input_ids": ids, "labels": [-100] * len(ids)}))

# %% [markdown]
# The labels were shifted by hand:

# %%
provoke(lambda: check_example({"input_ids": ids, "labels": labels[1:] + [-100]}))

# %% [markdown]
# A label is missing:

# %%
provoke(lambda: check_example({"input_ids": ids, "labels": labels[:-1]}))

# %% [markdown]
# The end of the turn is never trained. This is the trap from above:

# %%
provoke(lambda: check_ends([trap], tokenizer))

# %% [markdown]
# The prompt ends with a space. Alone, that space is a piece. Before an answer it becomes part of the answer's
# first piece, and a mask counted from the prompt is off by one:

# %%
print(pieces("Answer: "), "but", pieces("Answer: yes"))
provoke(lambda: check_prefix("Answer: ", "yes", tokenizer))

# %% [markdown]
# A tokenizer without an end token, one without a chat template, and a missing pad token:

# %%
from finetune_utils.tokenization import end_of_turn_id

provoke(lambda: end_of_turn_id(minilm))
provoke(lambda: encode_row(row, minilm, template="chat"))
provoke(lambda: SupervisedCollator(pad_token_id=None))

# %%
print(f"{len(caught)} guards fired, {len(set(caught))} different messages")
assert SupervisedCollator(pad_token_id=0).pad_token_id == 0  # 0 is an id, not a missing one

# %% [markdown]
# The last message recommends the end token as pad token. Was that not the trap of the section before? Here it is safe: this collator masks padding by position. With one that masks by id it would be the trap again.
#
# ## The whole set at once
#
# The `datasets` library keeps rows in a table and applies a function to each: `map`.

# %%
from finetune_utils.data import to_dataset

dataset = to_dataset(rows)
tokenized = dataset.map(lambda row: encode_row(row, tokenizer), remove_columns=dataset.column_names)
print(tokenized)

# %% [markdown]
# It gives what `tokenize_rows` gives, which also checks every row:

# %%
examples = tokenize_rows(rows, tokenizer).examples
assert list(tokenized["input_ids"]) == [example["input_ids"] for example in examples]
assert list(tokenized["labels"]) == [example["labels"] for example in examples]
print(f"{len(examples):,} examples, equal both ways")

# %% [markdown]
# One thing to know: a column of a data set is no list. Say `list(...)` where a list is needed.

# %%
try:
    tokenizer(dataset["question"])
except ValueError as error:
    print("ValueError:", str(error).split("(")[0].strip())
print(len(tokenizer(list(dataset["question"]))["input_ids"]), "questions tokenized")

# %% [markdown]
# ## Batching: count the waste
#
# Pad tokens are computed like real ones, so count them first and time them afterward. How many there are depends on which rows you put together. Try four
# rows of `3`, `9`, `4` and `8` tokens in batches of two, and count with a pencil.


# %%
def positions(batches, width=None):
    """Columns times rows: what the model computes, padding included."""
    return sum(len(batch) * (width or max(batch)) for batch in batches)


print("fixed length 10:  ", positions([[3, 9], [4, 8]], width=10))
print("longest in batch: ", positions([[3, 9], [4, 8]]))
print("grouped by length:", positions([[3, 4], [8, 9]]))
print("packed in one row:", 3 + 9 + 4 + 8)

# %% [markdown]
# The same four plans for the real rows, in batches of the profile's size. `example_order` fixes which row comes
# when. **Predict:** which share of a fixed length of `512` is padding?

# %%
from finetune_utils.batching import example_order

size, real = profile.batch_size, sum(lengths)


def in_batches(order):
    return [order[i : i + size] for i in range(0, len(order), size)]


shuffled = in_batches(example_order(lengths, size, group_by_length=False))
grouped = in_batches(example_order(lengths, size))
shuffled_lengths = [[lengths[i] for i in batch] for batch in shuffled]
grouped_lengths = [[lengths[i] for i in batch] for batch in grouped]

# %%
computed = {
    "fixed length 512": positions(shuffled_lengths, width=512),
    "dynamic": positions(shuffled_lengths),
    "grouped by length": positions(grouped_lengths),
    "packed": real,
}
waste = {name: 1 - real / count for name, count in computed.items()}
course.show_table(
    [{"plan": name, "positions": f"{computed[name]:,}", "padding": f"{waste[name]:.1%}"} for name in computed],
    caption=f"{len(rows):,} rows, {real:,} real tokens, batches of {size}",
)

# %% [markdown]
# A fixed length wastes {{lesson03.waste_fixed:.0%}} of the work on these rows. Dynamic means: pad to the longest
# row of each batch. That wastes {{lesson03.waste_dynamic:.0%}}, and grouping rows of similar length
# {{lesson03.waste_grouped:.1%}}. Here is one batch of each.

# %%
layouts = {
    "fixed length": (shuffled[0], 512),
    "dynamic": (shuffled[0], None),
    "grouped by length": (grouped[0], None),
}
cut = [(prompt_tokens, length - prompt_tokens) for prompt_tokens, length in zip(prompt_lengths, lengths, strict=True)]
drawn = {name: ([cut[i] for i in batch], width) for name, (batch, width) in layouts.items()}
plots.batch_layouts(drawn, packed=drawn["dynamic"][0])

# %% [markdown]
# Your count and the collator of the package must agree. (By default it rounds lengths up to a multiple of 8: some
# more pads, but fewer different shapes.)

# %%
pads = {}
for multiple in (1, 8):
    collate = SupervisedCollator(tokenizer.pad_token_id, multiple=multiple, sparse=False)
    masks = [collate([examples[i] for i in batch])["attention_mask"] for batch in grouped]
    pads[multiple] = sum(int((mask == 0).sum()) for mask in masks)
print(f"pad tokens: counted {computed['grouped by length'] - real:,}, collator {pads[1]:,}, rounded to 8 {pads[8]:,}")
assert pads[1] == computed["grouped by length"] - real

# %% [markdown]
# ### Packing
#
# Packing puts rows behind one another in one long row, without padding. Two things keep them apart. Look at a toy
# of two rows:

# %%
from transformers import DataCollatorWithFlattening

flatten = DataCollatorWithFlattening()
two = [{"input_ids": [11, 12, 13], "labels": [-100, 12, 13]}, {"input_ids": [21, 22], "labels": [21, 22]}]
for name, value in flatten(two).items():
    print(f"{name:12}", value[0].tolist())

# %% [markdown]
# The positions start again at 0 for the second row: the model takes that as a border and does not look across.
# The first label of the second row is -100: otherwise `13` would be asked to predict `21`.
#
# **Predict:** do padded and packed give the same loss? There is one way to get it wrong.

# %%
few = [examples[i] for i in shuffled[0][:3]]
padded = SupervisedCollator(tokenizer.pad_token_id, sparse=False)(few)
flat = flatten(few)


def loss_of(batch, **options):
    with torch.inference_mode():
        return model(**{k: v.to(model.device) for k, v in batch.items()}, **options).loss.item()


packed_loss, padded_loss = loss_of(flat, use_cache=False), loss_of(padded, use_cache=False)
print(f"padded {padded_loss:.5f}, packed {packed_loss:.5f}, packed and use_cache left on {loss_of(flat):.5f}")

# %% [markdown]
# Packed equals padded. But with the cache left on, `transformers` silently ignores the borders, and rows read
# their neighbors. The `Trainer` turns it off; in your own loop, say `use_cache=False`.
#
# ### Time it
#
# One forward pass over the same rows by each plan, in the machine's fastest safe number format. **Predict:** does
# the plan without any padding win?

# %%
from finetune_utils.hardware import cast_weights, choose_precision

cast_weights(model, choose_precision(model.device).dtype)
timed = [{"input_ids": e["input_ids"]} for e in spread(examples, min(32, profile.generate_rows))]
if profile.shrunk:  # no 16-bit arithmetic: half as many rows
    timed = timed[::2]
timed_lengths = [len(example["input_ids"]) for example in timed]
order = example_order(timed_lengths, size, group_by_length=False)
plain = [[timed[i] for i in b] for b in in_batches(order)]
similar = [[timed[i] for i in b] for b in in_batches(example_order(timed_lengths, size))]
plans = {
    "fixed length 512": [tokenizer.pad(plain[0][:4], padding="max_length", max_length=512, return_tensors="pt")],
    "dynamic": [tokenizer.pad(b, return_tensors="pt") for b in plain],
    "grouped by length": [tokenizer.pad(b, return_tensors="pt") for b in similar],
    "packed": [flatten([e | {"labels": e["input_ids"]} for e in b]) for b in plain],
}

# %% [markdown]
# All rows of the fixed length look alike, so four of them are enough. The measure is rows per second. The plans take
# turns. The first turn does not count, since a new shape costs extra once (on `smoke` there is only one). Of the
# others the fastest is compared: a busy machine can only slow a plan down.

# %%
import time


def seconds(batch):
    started = time.perf_counter()
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items() if name != "labels"}
    with torch.inference_mode():
        model(**inputs, use_cache=False, logits_to_keep=1).logits.sum().item()
    return time.perf_counter() - started


speed = {name: [] for name in plans}
for _ in range(1 if PROFILE == "smoke" else 3):
    for name, plan in plans.items():
        count = 4 if name == "fixed length 512" else len(timed)
        speed[name].append(count / sum(seconds(batch) for batch in plan))
plots.batching_speed({name: turns[1:] or turns for name, turns in speed.items()})

# %% [markdown]
# The big gain is to leave the fixed length. Where the dots of two plans overlap, this run cannot say which of them is
# faster. Packing has no padding at all. But on a CPU, attention is computed across the whole packed row, and what
# crosses a border is thrown away. Packing is made for GPUs that know packed rows.
#
# Grouping by length saves positions here as well, but few, and so short a timing hardly shows them. Count, then time.
#
# The course's `train()` groups by length. The batches still come in random order.
#
# ## Check your run

# %%
holds = {
    "left_padding_changes_nothing": change["left"] < 1e-3,
    "missing_mask_changes": change["no mask"] > 1e-3,
    "hand_equals_model": hand_gap < 1e-3,
    "masked_is_ignored": junk_gap < 1e-3,
    "toy_never_stops": stops["masked by pad id"] < 1e-3,
    "toy_stops": stops["masked by position"] > 0.1,
    "packed_equals_padded": abs(packed_loss - padded_loss) < 1e-3,
}

# %%
course.check_run(
    "lesson03",
    PROFILE,
    rows=len(rows),
    texts_that_come_back=same / len(rows) / 2,
    tokens_per_100_words=100 * tokens_per_word,
    prompt_share=prompt_share,
    guards=len(set(caught)),
    waste_fixed=waste["fixed length 512"],
    waste_dynamic=waste["dynamic"],
    waste_grouped=waste["grouped by length"],
    **holds,
)

# %% [markdown]
# ## What you learned
#
# * Pieces are counted, not written: frequent neighbors are merged. Spaces, capitals and digits all matter.
# * A tokenizer belongs to its model. The wrong one raises no error.
# * Pad right to train and left to generate, and always pass the attention mask.
# * Truncation takes the end-of-turn token first. Look at the lengths before you set a limit.
# * Labels are the ids; the model shifts them. -100 is neither scored nor counted, but it is still read.
# * Mask the prompt, keep the end-of-turn token, and mask padding by position. Then look at one row.
# * Padding to one fixed length can waste most of the work.
#
# ## Where this breaks
#
# * Some chat templates rewrite earlier turns (they drop the reasoning, for example). Then the turns of a
#   conversation cannot be found by their text. `encode_row` refuses such a template instead of guessing.
# * Text that *contains* `<|im_end|>` becomes a special token, whoever wrote it. Clean text that strangers send
#   you.
# * Prompt and answer are tokenized apart here. A program that tokenizes them as one text can get other pieces at
#   the border.
# * Masking the prompt is not always better: with very short answers, some find that training on prompts helps
#   (Shi et al.).
# * English is cheap. The same sentence in another language can cost several times as many tokens (Petrov et al.).
# * The waste depends on your rows. With lengths from ten to thousands, grouping and packing matter far more than
#   here.
#
# ## Further reading
#
# * Sennrich, Haddow, Birch: *Neural Machine Translation of Rare Words with Subword Units*,
#   [arXiv:1508.07909](https://arxiv.org/abs/1508.07909). Byte-pair encoding for text.
# * Devlin et al.: *BERT*, [arXiv:1810.04805](https://arxiv.org/abs/1810.04805). WordPiece, `[CLS]` and `[SEP]`.
# * Petrov et al.: *Language Model Tokenizers Introduce Unfairness Between Languages*,
#   [arXiv:2305.15425](https://arxiv.org/abs/2305.15425).
# * Shi et al.: *Instruction Tuning With Loss Over Instructions*,
#   [arXiv:2405.14394](https://arxiv.org/abs/2405.14394).
# * Krell et al.: *Efficient Sequence Packing without Cross-contamination*,
#   [arXiv:2107.02027](https://arxiv.org/abs/2107.02027).
# * Hugging Face, [Chat templates](https://huggingface.co/docs/transformers/chat_templating) and [Padding and
#   truncation](https://huggingface.co/docs/transformers/pad_truncation).
