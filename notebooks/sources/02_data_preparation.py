# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 1, gpu: 2}
#     needs: the model (fetched once), about 2 GB of free memory
#     data: [course_qa.jsonl, instructions.jsonl, readme_pairs.jsonl, sample_readme.md]
#     teaching:
#       waits: ["One point, run again"]
#       skippable:
#         - JSONL in and out
#         - The `datasets` library
#         - One point, run again
#         - A data card
#       watch:
#         distinct_written: distinct bigrams in the written questions
#         distinct_stamped: the same in the stamped ones
#         lookup_row: right answers of a lookup program, row-wise split
#         lookup_fact: the same, fact-wise split
#         personal_left: findings of personal data after cleaning
#       mistakes:
#         - "Rows are dealt out one by one. All wordings of a fact share one answer, so test answers were seen in training. Split by fact and let `check_no_overlap` prove it."
#         - "A row is written with `str(row)`. Single quotes are no JSON; write `json.dumps(row)` or use `write_rows`."
#         - "The input of an instruction row gets lost, or an empty input leaves a bare `### Input:` behind (exercise 02.1)."
#         - "An answer whose words all stand in the source is taken as true. The invented lifespan has one of the highest shares in the table."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 02: Data preparation
#
# You will turn loose text into rows that a model can learn from, and find out which rows are worth having. After this
# lesson you can
#
# * bring four common row shapes into one, fill a prompt template, and write rows to a file and back;
# * make question/answer pairs from a README, and tell varied rows from stamped ones by measuring;
# * remove copies and personal data, and decide whether you may train on a text at all;
# * split rows so that the test score is worth something;
# * read a learning curve, and write a data card.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## What a row is
#
# Fine-tuning data are pairs: what a person asks, and the answer you would be happy to see. Good places to look are
# questions people really sent you, a FAQ, a manual, and a colleague who knows the answers. Read these two pairs first.

# %%
pairs = [
    {"question": "What is an epoch?", "answer": "Training is an interesting topic with many aspects!"},
    {"question": "What is an epoch?", "answer": "An epoch is one pass over all training rows."},
]
for pair in pairs:
    print(pair["question"], "->", pair["answer"])

# %% [markdown]
# The first answer is fluent and useless. A model trained on a thousand such rows learns to be fluent and useless.
# The question for every row is: *if the model said exactly this, would I be content?*
#
# ## Four shapes, one schema
#
# Rows arrive in different clothes. Here are the four most common shapes.

# %%
shapes = [
    {"question": "What is an epoch?", "answer": "One pass over all training rows."},
    {"instruction": "Sort these words: plum, kale, beet", "response": "beet, kale, plum"},
    {"input": "2 dozen eggs", "output": "24 eggs"},
    {"text": "An epoch is one pass over all training rows."},
]

# %% [markdown]
# The aim is one schema: `question` and `answer`. The last shape has no question, so its whole text is learned. Draft 1
# looks at the column names.

# %%
def to_pair(row):
    if "question" in row:
        return row["question"], row["answer"]
    if "instruction" in row:
        return row["instruction"], row["response"]
    if "input" in row:
        return row["input"], row["output"]
    return "", row["text"]


for row in shapes:
    print(to_pair(row))

# %% [markdown]
# It works on tidy rows. Files from other people are not tidy. **Predict, then run:** what does draft 1 make of a row with
# both an instruction and an input, and of a capital letter in a column name?

# %%
messy = [
    {"instruction": "Sort these words.", "input": "plum, kale, beet", "output": "beet, kale, plum"},
    {"Question ": "What is a batch?", "Answer": " Rows that are trained together.\n"},
]
for row in messy:
    try:
        print(to_pair(row))
    except KeyError as error:
        print("no column", error)

# %% [markdown]
# Both fail. That is lucky: had the first row said `response`, draft 1 would have dropped the three words to sort, and
# nobody would have noticed. Draft 2 tidies names, keeps the input, and trims the answer.

# %%
def to_pair(row):
    row = {name.strip().lower(): value for name, value in row.items()}
    answer = next(row[name] for name in ("answer", "response", "output", "text") if name in row)
    if "question" in row:
        question = row["question"]
    elif "instruction" in row:
        question = "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)
    else:
        question = row.get("input", "")
    return question, answer.strip()


for row in messy:
    print(to_pair(row))

# %% [markdown]
# The tested version lives in `finetune_utils.data`: `recognize` names the shape and `normalize` checks every row and
# gives it this course's columns. Do both agree?

# %%
from finetune_utils.data import normalize, recognize

agree = []
for row in shapes + messy:
    clean = normalize([row]).rows[0]
    agree.append((clean.get("question", ""), clean.get("answer", clean.get("text"))) == to_pair(row))
    print(f"{recognize([row]).name:22} agrees with draft 2: {agree[-1]}")

# %% [markdown]
# The package also refuses what draft 2 would let pass: rows of two shapes in one file, and an answer that holds nothing. You get one
# line that says where, what and what to do.

# %%
from finetune_utils.errors import UserError

for rows in (shapes[:2], [shapes[0], {"question": "What is a token?", "answer": "  "}]):
    try:
        normalize(rows, "my_rows.jsonl")
    except UserError as error:
        print(error)

# %% [markdown]
# ## Prompt templates
#
# A model reads text, not columns. A *template* turns a row into the text that the model sees before it answers. Filling it
# in is called *hydrating*. Here is one by hand.

# %%
template = "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
print(template.format(instruction="Sort these words.", input="plum, kale, beet"))

# %% [markdown]
# Many instructions need no input. **Predict:** what does this template make of an empty one?

# %%
print(template.format(instruction="Explain why bread dough rises.", input=""))

# %% [markdown]
# An empty heading, which a model would learn to expect. Stanford's Alpaca project therefore used two templates, one with and one
# without input. `alpaca_prompt` chooses between them.

# %%
from finetune_utils.prompts import alpaca_prompt

print(alpaca_prompt("Explain why bread dough rises."))
print("-" * 40)
print(alpaca_prompt("Sort these words.", "plum, kale, beet"))

# %% [markdown]
# Now hydrate the course's {{data.instructions.rows}} small instruction rows. They were written for this course in the shape of Alpaca.

# %%
from finetune_utils.data import load_rows

instructions = load_rows("instructions")
prompts = [alpaca_prompt(row["instruction"], row["input"]) for row in instructions]
with_input = sum("### Input:" in prompt for prompt in prompts)
print(f"{len(prompts)} prompts, {with_input} with input and {len(prompts) - with_input} without. The third row:\n")
print(prompts[2] + instructions[2]["output"])

# %% [markdown]
# Whatever template you train with, ask with the same one later. SmolLM2 has a template of its own for chats, and the
# course's assistant uses that one. The Alpaca template is for models that have none.
#
# ## JSONL in and out
#
# JSONL means one JSON object per line. It can be read line by line, grows by appending, and a version control system shows
# changes row by row.

# %%
from pathlib import Path

from finetune_utils.data import read_rows, write_rows

folder = Path("../build/lesson02")
folder.mkdir(parents=True, exist_ok=True)
tiny = [{"question": "How do I list them?", "answer": "Like this:\n- one\n- two"}]
write_rows(folder / "tiny.jsonl", tiny)
print((folder / "tiny.jsonl").read_text(encoding="utf-8"))

# %% [markdown]
# The answer has three lines, the file has one: a line break inside a text is written as `\n`. Reading gives the row back,
# with the line number that error messages need.

# %%
again = read_rows(folder / "tiny.jsonl")
print(again)
print("same text:", again[0]["answer"] == tiny[0]["answer"])

# %% [markdown]
# The usual mistake is to write Python instead of JSON. Single quotes look fine to you and to no JSON parser.

# %%
(folder / "wrong.jsonl").write_text(str(tiny[0]) + "\n", encoding="utf-8")
try:
    read_rows(folder / "wrong.jsonl")
except UserError as error:
    print(error)

# %% [markdown]
# ## The `datasets` library
#
# For thousands of rows, `datasets.Dataset` stores columns compactly and has two verbs you need all the time. `map` adds
# columns and `filter` keeps rows.

# %%
from finetune_utils.data import to_dataset

dataset = to_dataset(instructions)
dataset = dataset.map(lambda row: {"prompt": alpaca_prompt(row["instruction"], row["input"])})
short = dataset.filter(lambda row: len(row["output"].split()) <= 10)
print(dataset)
print(f"{len(short)} of {len(dataset)} outputs have 10 words or fewer; the first: {short[0]['output']}")

# %% [markdown]
# One trap. `dataset["prompt"]` looks like a list of texts. **Predict:** what does a tokenizer say to it?

# %%
from finetune_utils.models import load_tokenizer

tokenizer = load_tokenizer()
column = dataset["prompt"]
print("type:", type(column).__name__)
try:
    print(len(tokenizer(column)["input_ids"]), "texts tokenized")
except (TypeError, ValueError) as error:
    print(type(error).__name__, "-", str(error)[:80], "...")

# %% [markdown]
# In older versions it was a list. Since version `4` it is a lazy `Column`, which reads its rows only when asked. Ask: make it a list, or work in
# batches with `map`.

# %%
count = len(tokenizer(list(column))["input_ids"])
mapped = dataset.map(lambda batch: {"ids": tokenizer(batch["prompt"])["input_ids"]}, batched=True)
print(f"{count} texts tokenized from a list, {len(mapped['ids'])} with map")

# %% [markdown]
# Sharing takes one more line. Log in with `huggingface_hub.login()`, fill in a name of your own, and run the cell. Leave
# `private=True` until the rest of this lesson has said that you may publish.

# %%
repository = ""  # for example "your-name/kitchen-instructions"
if repository:
    dataset.push_to_hub(repository, private=True)
else:
    print("Not pushed: no repository is named, and nothing here needs the hub.")

# %% [markdown]
# ## From a README to pairs
#
# Documentation is the most common source of facts. This is part of the README of a small (invented) program that keeps track of seed packets.

# %%
readme = load_rows("sample_readme")
readme_pairs = load_rows("readme_pairs")
print(readme[5]["text"])

# %% [markdown]
# Good pairs are asked in a user's words, not in the README's. The answer stands alone and says nothing that the text does not
# say. {{data.readme_pairs.rows}} pairs were written for this README. Three of them come from this part:

# %%
course.show_table([readme_pairs[i] for i in (4, 5, 6)], width=60)

# %% [markdown]
# Whoever writes pairs, a person or a large model, sometimes adds a fact. A rough alarm: which share of the answer's words
# occurs in the text at all? First by hand: two of the four words in "Seeds sprout in March" would be known to a text that says "Seeds in a drawer".

# %%
from finetune_utils.quality import words_of

def grounded(answer, text):
    words = words_of(answer)
    return sum(word in words_of(text) for word in words) / len(words)

print(grounded("Seeds sprout in March", "Seeds in a drawer"))

# %% [markdown]
# Now the real pairs, with two invented answers smuggled in. **Predict:** which of the two will the alarm catch?

# %%
text = "\n".join(f"{row['title']} {row['text']}" for row in readme)
invented = ["It runs on Windows, and the home page offers an installer.",
            "Tomato packets are past their usual lifespan after one year."]
answers = [pair["answer"] for pair in readme_pairs] + invented
ranked = sorted(answers, key=lambda answer: grounded(answer, text))
rows = [{"share": f"{grounded(a, text):.2f}", "invented": "yes" if a in invented else "", "answer": a} for a in ranked]
course.show_table(rows[:3] + rows[-3:], width=70, caption="The three lowest and the three highest shares")

# %% [markdown]
# The installer comes out lowest. The wrong lifespan comes out at the top, like the best true answers: every one of its words is in the README, where "after one year"
# is said of onions. So a low share is a reason to look first, and a high one is no proof. Read every pair that you train on.
#
# ## Written or stamped?
#
# Rows are quickly made with templates: a list of things, a list of phrases, and every combination. Here are 100 of them.

# %%
things = ["LoRA", "a tokenizer", "the learning rate", "padding", "a label mask",
          "early stopping", "an adapter", "perplexity", "the batch size", "warm-up"]
phrases = ["What is {}?", "Can you explain {}?", "Can you tell me about {}?", "Why is {} important?",
           "How does {} work?", "What is the purpose of {}?", "What should I know about {}?",
           "When do I need {}?", "How do I use {}?", "What is an example of {}?"]
stamped = [phrase.format(thing) for thing in things for phrase in phrases]
print(len(stamped), "questions, such as:", stamped[3], stamped[47])

# %% [markdown]
# Beside them, 100 questions from `course_qa.jsonl`: 20 facts, each asked in five ways. These rows are synthetic too, since they were written for this course,
# but one by one. Both sets say a few things in many ways.

# %%
from finetune_utils.runs import is_fact, is_off_topic, spread

course_qa = load_rows("course_qa")
on_topic = [row for row in course_qa if is_fact(row)]
facts = sorted({row["fact"] for row in on_topic})
twenty = facts[:: len(facts) // 20][:20]
written = [row["question"] for row in on_topic if row["fact"] in twenty]
print(len(written), "questions, such as:", written[0], "|", written[1])

# %% [markdown]
# The first measure counts pairs of neighboring words (*bigrams*): which share of them is distinct? Check it by hand. "the cat sat" and "the cat
# ran" hold four bigrams: the-cat, cat-sat, the-cat, cat-ran. Three of the four are distinct.

# %%
from finetune_utils.quality import distinct_ngrams, length_spread, near_duplicates, repeated_openings

by_hand = {("the", "cat"), ("cat", "sat"), ("cat", "ran")}
print(len(by_hand) / 4, distinct_ngrams(["the cat sat", "the cat ran"], n=2))

# %% [markdown]
# Three more measures: the spread of lengths, how often the most frequent opening of two words occurs, and near-duplicates, that is, pairs that are
# spelled almost alike (cosine of their counts of 3 to 5 letters; 1 is the same spelling). **Predict** the direction of each before you run.

# %%
def measure(name, texts):
    length = length_spread(texts)
    opening, times = (repeated_openings(texts, words=2) or [("", 1)])[0]
    return {
        "set": name, "distinct bigrams": f"{distinct_ngrams(texts, 2):.2f}",
        "words, middle half": f"{length['q1']:.0f} to {length['q3']:.0f}",
        "commonest opening": f"{opening!r}, {times} of {len(texts)}",
        "near-duplicate pairs": len(near_duplicates(texts, threshold=0.6)),
    }

course.show_table([measure("written", written), measure("stamped", stamped)], width=30)

# %%
from finetune_utils import plots

plots.length_histogram({"written": written, "stamped": stamped})

# %% [markdown]
# Of the bigrams in the written set {{lesson02.distinct_written:.0%}} are distinct, in the stamped set {{lesson02.distinct_stamped:.0%}}. A model
# trained on the stamped set meets ten ways of asking and no eleventh. Use these numbers to compare sets of the same size: longer sets repeat more by chance alone.
#
# They find sameness, not falsehood. Random words would score best of all.
#
# ## Copies
#
# The same row twice counts twice in training, and a copy in the test set is a leak. Exact comparison misses trifles, so capitals and
# spaces are evened out first. **Predict:** how many of these four rows stay?

# %%
from finetune_utils.data import deduplicate

four = [{"q": "What is LoRA?"}, {"q": "what is  LoRA?"}, {"q": "What is LoRA"}, {"q": "Explain LoRA."}]
kept, removed = deduplicate(four, ["q"])
print("kept:", [row["q"] for row in kept], " removed:", [row["q"] for row in removed])

# %% [markdown]
# Three stay. The missing question mark is a near-duplicate, which takes a similarity and a threshold instead. Now the course's rows, with three copies
# planted among them.

# %%
planted = [{**row, "question": row["question"].upper()} for row in spread(course_qa, 3)]
kept, removed = deduplicate(course_qa + planted, ["question", "answer"])
print(f"{len(course_qa):,} rows and {len(planted)} planted copies: {len(removed)} removed, {len(kept):,} kept")
closest = near_duplicates([row["question"] for row in kept], threshold=0.6)
first, second, similarity = closest[0]
print(f"{len(closest)} pairs of questions are at least 0.6 alike; the closest ({similarity:.2f}):")
print(" ", kept[first]["question"], "|", kept[second]["question"])

# %% [markdown]
# What no such measure finds is a paraphrase. Here are five questions that ask for one and the same fact.

# %%
same_fact = [row["question"] for row in on_topic if row["fact"] == "lora-rank-cost"]
print(*same_fact, sep="\n")
print(f"most alike: {near_duplicates(same_fact, threshold=0.01)[0][2]:.2f}")

# %% [markdown]
# To a program they have little in common. Remember this; it will matter for the split.
#
# ## Off-topic pairs: a guardrail
#
# People will ask your assistant about buttermilk. If no row shows what to do then, the model invents an answer. So some rows
# hold a question from outside and a polite way back.

# %%
off_topic = [row for row in course_qa if is_off_topic(row)]
print(f"{len(off_topic)} of {len(course_qa):,} rows are off-topic.")
course.show_table([{"question": row["question"], "answer": row["answer"]} for row in spread(off_topic, 3)])

# %% [markdown]
# The answers are much alike on purpose, at least where they begin: a small model learns a few clear openings better than many. The questions vary. Some of them only *sound* like the topic ("train for a marathon"); they are kept
# for testing.
#
# Too few and the model does not learn the habit. Too many and it turns good questions away. Which ones? Models take shortcuts: where
# everyday words stand only in off-topic rows, an everyday word is enough to be turned away. So the file has a trap to test with: questions about
# fine-tuning, full of other things. No model of this course trains on them.

# %%
situations = [row for row in course_qa if row["topic"] == "situation"]
print(f"{len(situations)} rows ask about fine-tuning in everyday words.")
course.show_table([{"question": row["question"], "answer": row["answer"]} for row in spread(situations, 3)])

# %% [markdown]
# Lesson 04 measures both kinds of error.
#
# ## Personal data
#
# A model can recite its training rows, and there is no key to delete one of them again. So remove personal data before
# training. Draft 1 looks for email addresses.

# %%
import re

note = "My name is Ana Silva. Write to ana.silva@example.org or call (555) 010-4477. Ask for Priya."
print(re.sub(r"\S+@\S+", "[EMAIL]", note))

# %% [markdown]
# The phone number and two names are still there. The tested version knows more patterns. **Predict:** does it find everything?

# %%
from finetune_utils.quality import find_personal_data, remove_personal_data

for finding in find_personal_data(note):
    print(f"{finding.kind:6} {finding.text}")
print(remove_personal_data(note))
print(remove_personal_data(note, names=["Priya"]))

# %% [markdown]
# Ana is found by "My name is". Priya has no such cue and passes, until you list her. Patterns are a first sweep. Now sweep real rows.

# %%
found = []
for row in instructions:
    for finding in find_personal_data("\n".join([row["instruction"], row["input"], row["output"]])):
        found.append({"kind": finding.kind, "text": finding.text, "instruction": row["instruction"]})
course.show_table(found, caption=f"{len(found)} findings in {len(instructions)} rows", width=60)

# %% [markdown]
# Someone has to look at each. Here all people and numbers are invented, as the data card says, so the rows may stay. In a file from
# your support desk they would have to go:

# %%
def clean(row):
    return {name: remove_personal_data(text) for name, text in row.items()}

cleaned = [clean(row) for row in instructions]
left = sum(len(find_personal_data("\n".join(row.values()))) for row in cleaned)
changed = sum(a != b for a, b in zip(instructions, cleaned, strict=True))
print(f"{changed} rows changed; the same detector now finds {left}. One of them:\n")
print(cleaned[next(i for i, row in enumerate(instructions) if "Ortiz" in row["output"])]["output"])

# %% [markdown]
# The landlord's name is gone. Jamie and the apartment are still there, and the detector says zero: it cannot see what it overlooks. Read a
# sample of the cleaned rows, every time.

# %% [markdown]
# ## May I train on this?
#
# Being able to download a text is no permission. Answer these questions for every source, and write the answers down. Here they are, answered for
# the README above.

# %%
checklist = {
    "Who wrote it, and is the source written down?": True,
    "Does its license allow copying, changing and, if you plan it, selling?": True,
    "Do the site's terms, or a contract, allow use for training?": True,
    "Did the people it speaks about agree, or is it free of personal data?": True,
    "Can you delete a person's rows, and train again, if asked?": True,
    "Is it free of secrets: keys, passwords, unpublished work?": True,
    "If a model wrote it: do that model's terms allow training on it?": True,
}
open_points = [question for question, yes in checklist.items() if not yes]
print("May be used." if not open_points else "Do not train yet:\n" + "\n".join(open_points))

# %% [markdown]
# Set one to `False` and run the cell again. One open point is enough to wait. This is a list of questions, not legal advice.
#
# ## Splits: how a test set leaks
#
# You judge a model on rows it has not seen. But what is "not seen"? A toy: two facts, each asked three times. Deal the six rows out
# at random, four to train and two to test.

# %%
import random

six = [{"fact": fact, "question": f"{fact}{i}", "answer": f"answer {fact}"} for fact in "AB" for i in (1, 2, 3)]
mixed = random.Random(0).sample(six, len(six))
train, test = mixed[:4], mixed[4:]
print("train:", [row["question"] for row in train], " test:", [row["question"] for row in test])
leaked = sum(row["answer"] in {r["answer"] for r in train} for row in test)
print(f"{leaked} of {len(test)} test answers are also training answers")

# %% [markdown]
# No question is in both parts, and still every test answer was seen in training. **Predict** the share for the course's
# questions about fine-tuning, split row by row at random, or *fact-wise*: a fact's rows stay together.

# %%
from finetune_utils.data import check_no_overlap, split_by_group

def leak(train, test):
    known = {row["answer"] for row in train}
    return sum(row["answer"] in known for row in test) / len(test)

mixed = random.Random(0).sample(on_topic, len(on_topic))
cut = round(0.8 * len(mixed))
by_row = {"train": mixed[:cut], "test": mixed[cut:]}
by_fact = split_by_group(on_topic, "fact", {"train": 0.8, "test": 0.2})
for name, parts in {"row-wise": by_row, "fact-wise": by_fact}.items():
    print(f"{name:9} {len(parts['train'])} + {len(parts['test'])} rows, leaked answers: {leak(**parts):.0%}")

# %% [markdown]
# What is such a leak worth? Take a program that cannot learn anything. It finds the training row that looks most like the
# question, and copies its answer. **Predict** its share of exactly right answers under each split.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer

def lookup(train, test):
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5))
    known = vectorizer.fit_transform([row["question"] + " " + row["answer"] for row in train])
    nearest = (vectorizer.transform([row["question"] for row in test]) @ known.T).toarray().argmax(axis=1)
    return sum(train[i]["answer"] == row["answer"] for i, row in zip(nearest, test, strict=True)) / len(test)

lookup_row, lookup_fact = lookup(**by_row), lookup(**by_fact)
print(f"exactly right: {lookup_row:.0%} with the row-wise split, {lookup_fact:.0%} with the fact-wise split")

# %% [markdown]
# A row-wise split praises a photocopier: {{lesson02.lookup_row:.0%}} right on questions it had never seen. On facts that are
# really new it must get none. Does the same happen to a model?
#
# That comparison takes two training runs, so its rows are stored (`make study NAME=split_leak` makes them again). Each run trained on
# {{study.split_leak.train_rows}} rows. Each was scored on the rows that its own split held out, and then on facts that neither run ever saw.

# %%
leak_study = course.stored("study.split_leak")
plots.promise_and_truth(leak_study["rows"])

# %% [markdown]
# NLL is the negative log-likelihood per token: how surprised the model is by the right answer, in nats. A negative change is an
# improvement. Compare the two points of each line. A good split is one whose promise is kept. The row-wise split
# promised {{study.split_leak.row_promised:+.2f}}, and the same model gave {{study.split_leak.row_found:+.2f}} on new facts. The fact-wise
# split promised {{study.split_leak.fact_promised:+.2f}} and gave {{study.split_leak.fact_found:+.2f}}. So the row-wise promise was too good by {{study.split_leak.row_gap:.2f}} nats per token, the fact-wise one by {{study.split_leak.fact_gap:.2f}}.
#
# The row-wise split goes into the bin now. The package would have refused it:

# %%
try:
    check_no_overlap(by_row, "answer")
except UserError as error:
    print(error)
del by_row
check_no_overlap(by_fact, "answer")
print("The fact-wise split has no overlap.")

# %% [markdown]
# ## Train, dev, test
#
# Two parts are not enough. If you try ten settings and keep the one with the best test score, you have fitted the test set. So there are three:
# train on *train*, choose on *dev*, and look at *test* once.

# %%
from finetune_utils.runs import course_rows

dealt = course_rows()
parts = {"train": dealt.train, "dev": dealt.dev, "test: unseen facts": dealt.unseen,
         "test: new wordings of trained facts": dealt.reworded, "test: off-topic": dealt.off_topic,
         "test: only sounds like the topic": dealt.near_topic,
         "test: on the topic in everyday words": dealt.situation}
table = [{"part": name, "rows": len(rows), "facts": len({r["fact"] for r in rows if is_fact(r)})}
         for name, rows in parts.items()]
course.show_table(table, caption="How the course deals out course_qa.jsonl, by fact")
check_no_overlap({"train": dealt.train, "dev": dealt.dev, "test": dealt.unseen}, "fact")

# %% [markdown]
# The new wordings overlap with train on purpose. They test recall, so tables list them apart from unseen facts.
#
# ## Quantity, diversity, quality
#
# How many rows do you need? Train on more and more of them and look. In this study every run reads each of its rows once, as you would after
# collecting them, so more rows also mean more steps. Three further runs hold the number of rows fixed at {{study.learning_curve.same_rows}}:
#
# * *diversity*: as many rows, one wording of each fact (the curve has four);
# * *quality*, stamped: the same questions, but every answer is "... is an important part of fine-tuning. It helps the model to learn better.";
# * *quality*, swapped: the same rows, but every fact has the good answer of another fact.
#
# **Predict:** where do the three lie, above or below the curve? On the left (unseen facts)? On the right (recall)?

# %%
curve = course.stored("study.learning_curve")
points = [row for row in curve["rows"] if row["arm"] == "four wordings"]
labels = ("one wording a fact", "stamped answers", "swapped answers")
plots.learning_curve(points, dict(zip(labels, curve["rows"][len(points):], strict=True)))

# %% [markdown]
# These rows are stored too; `make study NAME=learning_curve` makes them again. Bars are 95 % intervals over facts, the dashed line is the curve at `100` rows. Lower is better.
#
# * **Quantity.** With {{study.learning_curve.smallest_rows}} rows, NLL on unseen facts changed by {{study.learning_curve.smallest_unseen_change:+.2f}} nats
#   per token, with {{study.learning_curve.largest_rows}} rows by {{study.learning_curve.largest_unseen_change:+.2f}}. Ask of every doubling what it bought, and what it would cost you to write the rows.
# * **Diversity.** The same number of rows from four times as many facts gave {{study.learning_curve.one_wording_unseen_change:+.3f}} on unseen facts, against
#   {{study.learning_curve.same_unseen_change:+.3f}} on the curve (paired difference {{study.learning_curve.one_wording_unseen_vs:+.3f}}, 95 % interval
#   {{study.learning_curve.one_wording_unseen_vs_low:+.3f}} to {{study.learning_curve.one_wording_unseen_vs_high:+.3f}}). On recall it was {{study.learning_curve.one_wording_reworded_change:+.2f}}
#   against {{study.learning_curve.same_reworded_change:+.2f}}. These are the facts each of them was trained on, so not the same test; but each answer was read once instead of four times.
# * **Quality, stamped.** The same questions with empty answers gave {{study.learning_curve.stamped_unseen_change:+.2f}} on unseen facts and {{study.learning_curve.stamped_reworded_change:+.2f}} on recall.
# * **Quality, swapped.** Good sentences under the wrong questions gave {{study.learning_curve.swapped_unseen_change:+.2f}} and {{study.learning_curve.swapped_reworded_change:+.2f}}. On recall that differs
#   from the curve by {{study.learning_curve.swapped_reworded_vs:+.2f}} ({{study.learning_curve.swapped_reworded_vs_low:+.2f}} to {{study.learning_curve.swapped_reworded_vs_high:+.2f}}), although every single answer was wrong. On unseen facts it was worse than the curve by
#   {{study.learning_curve.swapped_unseen_vs:+.3f}} ({{study.learning_curve.swapped_unseen_vs_low:+.3f}} to {{study.learning_curve.swapped_unseen_vs_high:+.3f}}): visible, and about as large as what diversity gained.
#
# Think about the last point. NLL asks how well the model predicts the right sentence, word by word. A run that has read the sentence predicts it well, wherever it stood. So a
# good score on recall does not say that your rows are right. Only reading them does.
#
# ## One point, run again
#
# Stored rows should be checkable. Train the smallest point of the curve yourself. `run_trial` loads the model, adds a small
# adapter, scores, trains, and scores again. Lessons 03 to 06 open each of these steps.

# %%
from finetune_utils.trials import fact_rows, run_trial

test_rows = min(curve["settings"]["test_rows"], profile.eval_rows)
rows, tests = fact_rows(points[0]["facts"], wordings=4, test_rows=test_rows)
trial = run_trial(profile.side_model, spread(rows, profile.train_rows), tests)
print(f"{len(rows)} rows, {trial.training.steps} steps in {trial.training.seconds:.0f} s")

# %%
for name, title in {"unseen": "unseen facts", "reworded": "new wordings of trained facts"}.items():
    now, then = trial.change(name), points[0]
    print(f"{title}: now {now.estimate:+.2f} [{now.low:+.2f}, {now.high:+.2f}], "
          f"stored {then[f'{name}_change']:+.2f} [{then[f'{name}_low']:+.2f}, {then[f'{name}_high']:+.2f}] nats per token")

# %% [markdown]
# On another processor the last digit may differ, and with `smoke` fewer rows are scored. Look at the width of the second interval: it rests on
# {{study.learning_curve.smallest_facts}} facts.

# %% [markdown]
# ## A data card
#
# Your future self needs to know what is in the file. A data card says what it is, who wrote it, under which license, how it was
# split, and what is wrong with it. Numbers in it are counted, not remembered. Here is one for the README pairs.

# %%
table = normalize(readme_pairs)
words = length_spread([row["answer"] for row in table.rows])
card = f"""# seedledger questions
What: {len(table.rows)} {table.shape.name} pairs, each answerable from the README alone.
Who: written by hand for a course; synthetic, and the program does not exist.
License: CC0-1.0. Personal data: {sum(len(find_personal_data(r['answer'])) for r in table.rows)} findings.
Fields: {', '.join(table.shape.fields.values())}. Answers: {words['min']:.0f} to {words['max']:.0f} words.
Splits: none. Copies removed: {len(deduplicate(table.rows, ['question'])[1])}.
Limits: too few rows to train on; tidier than what people ask."""
print(card)

# %% [markdown]
# The cards of all the course's files are in `data/README.md`. Is its count of `course_qa.jsonl` still true?

# %%
from finetune_utils.data import DATA_DIR

cards = (DATA_DIR / "README.md").read_text(encoding="utf-8")
stated = re.search(r"\*\*Counts\.\*\* ([\d,]+) rows: (\d+) facts", cards)
print(f"the card says {stated[1]} rows and {stated[2]} facts; counted: {len(course_qa):,} and {len(facts)}")

# %% [markdown]
# ## Check your run

# %%
import shutil

shutil.rmtree(folder)
course.check_run(
    "lesson02", profile,
    drafts_agree=all(agree), prompts_with_input=with_input, grounded_invented=grounded(invented[0], text),
    distinct_written=distinct_ngrams(written, 2), distinct_stamped=distinct_ngrams(stamped, 2),
    near_written=len(near_duplicates(written, 0.6)), near_stamped=len(near_duplicates(stamped, 0.6)),
    copies_removed=len(removed), personal_found=len(found), personal_left=left,
    leak_fact=leak(**by_fact), lookup_row=lookup_row, lookup_fact=lookup_fact,
    **trial.summary(),
)

# %% [markdown]
# ## What you learned
#
# * Rows of every shape become one schema, and a template makes them text. A faulty row is refused with its line.
# * Templates make rows alike: {{lesson02.distinct_stamped:.0%}} distinct bigrams against {{lesson02.distinct_written:.0%}}.
# * Patterns find some personal data. Permission is a separate question, and it comes first.
# * Split by what you want the model to generalize to. A row-wise split gave a photocopier {{lesson02.lookup_row:.0%}}.
# * More rows, more varied rows and right rows are three different things. A score on recall can miss that rows are wrong; a reader does not.
#
# ## Where this breaks
#
# * The rows here are synthetic and tidy. Questions from strangers are messier, and scores on them are lower.
# * The learning curve is one seed, one model and one pass. Its shape will differ for your task; draw your own.
# * Word and letter statistics see neither meaning nor truth. The pattern search misses names without a cue, addresses, and numbers in words.
# * A fact-wise split keeps a fact together, but neighboring facts still share words and ideas.
#
# ## Further reading
#
# * Gebru et al., *Datasheets for Datasets*, arXiv 1803.09010.
# * Taori et al., *Stanford Alpaca*, github.com/tatsu-lab/stanford_alpaca; Wang et al., *Self-Instruct*, arXiv 2212.10560.
# * Zhou et al., *LIMA: Less Is More for Alignment*, arXiv 2305.11206 (a thousand good rows).
# * Lee et al., *Deduplicating Training Data Makes Language Models Better*, arXiv 2107.06499.
# * Carlini et al., *Extracting Training Data from Large Language Models*, arXiv 2012.07805.
# * Kapoor and Narayanan, *Leakage and the Reproducibility Crisis in ML-based Science*, arXiv 2207.07048.
# * The documentation of `datasets`: huggingface.co/docs/datasets.
