# ---
# jupyter:
#   course:
#     minutes: {smoke: 1, cpu: 2, gpu: 2}
#     needs: the model (fetched once), about 3 GB of free memory
#     data: [course_qa.jsonl, instructions.jsonl, neutral_text.txt, adapters/course-assistant]
#     teaching:
#       half_day: true
#       waits: ["Many prompts, three kinds"]
#       skippable:
#         - "When does training pay?"
#         - Where fine-tuning fits
#         - Kinds of fine-tuning
#       watch:
#         redirect_plain: off-topic questions turned back, plain prompt
#         redirect_tuned: the same, tuned model
#         wrongly_tuned: good questions turned back, tuned model
#         unseen_tuned: overlap with the answer on unseen facts, tuned model
#         unseen_retrieval: the same, untuned model with retrieval
#       mistakes:
#         - "One good answer is taken as proof. Ask for the count over all rows, and for the good questions that were turned back."
#         - "Fine-tuning is expected to add facts. Let them read the answers on unseen facts: the voice is right, the content often is not."
#         - "The examples of a few-shot prompt come from the test rows. Then the prompt holds the answer (exercise 01.3)."
#         - "In exercise 01.2 the mean per token is returned. The probability of a whole answer needs the sum, over the answer's tokens alone."
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Lesson 01: Why fine-tune
#
# You will ask the same questions in four ways, three prompts and a tuned model, and count what each changes. After this lesson you can
#
# * say what a pretrained model does, and read its next-token probabilities;
# * tell apart what a prompt changes, what fine-tuning changes, and what neither of them changes;
# * choose between prompting, retrieval and fine-tuning, with the number of requests after which training pays;
# * name the kinds of fine-tuning and recognize which one a data set is made for;
# * plan a first fine-tuning that has a chance to work.

# %% tags=["bootstrap"]

# %% tags=["parameters"]
PROFILE = "cpu"

# %%
from finetune_utils import course

profile = course.start(PROFILE)

# %% [markdown]
# ## A model predicts the next token
#
# A language model reads a text and says what may come next. The simplest one counts. Here is a text of eleven words. Count
# with a pencil: which words follow "the", and how often?

# %%
from collections import Counter
from itertools import pairwise

words = "the cat sat on the mat and the cat drank milk".split()
after_the = Counter(second for first, second in pairwise(words) if first == "the")
for word, count in after_the.most_common():
    print(f"{word}: {count} of {after_the.total()} = {count / after_the.total():.2f}")

# %% [markdown]
# That is a model: a probability for every word that may come next. It knows one word of context and eleven words of text.
#
# SmolLM2 does the same with thousands of words of context, and it learned from 2 trillion tokens. A token is a word or a
# piece of one. Load it. This lesson uses the small model in every profile, since the tuned model that you will meet was made from it.

# %%
from finetune_utils.models import count_parameters, load_model

model, tokenizer = load_model("smollm2-135m")
print(f"{count_parameters(model).total:,} parameters, {len(tokenizer):,} tokens in the vocabulary")

# %% [markdown]
# A pretrained model is this: parameters that were already trained on a huge amount of text. They turn any text into one
# probability for each token of the vocabulary.
#
# Three words for the next cell. A *tensor* is an array of numbers. *Logits* are the model's raw scores, one for each token of the vocabulary at each
# place of the text: `[0, -1]` takes the first text and its last place. *Softmax* turns scores into probabilities that add up to 1. (`inference_mode` says that nothing is trained.)
#
# **Predict, then run.** Which token comes first after "The capital of France is"? And after "Fine-tuning a language model means"? How
# sure will the model be?

# %%
import torch


def likely_next(text, count=6):
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    with torch.inference_mode():
        probabilities = torch.softmax(model(ids).logits[0, -1].float(), dim=-1)
    best = probabilities.topk(count)
    return [(tokenizer.decode([i]), p) for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


certain, open_end = likely_next("The capital of France is"), likely_next("Fine-tuning a language model means")

# %%
from finetune_utils import plots

plots.next_tokens({"The capital of France is": certain, "Fine-tuning a language model means": open_end})

# %% [markdown]
# Read the left panel with care. The model did not look anything up. It has seen this sentence in many forms, and `' Paris'` followed.
# Other tokens keep a share. It does not consult a table of facts, and it has no field that says "I do not know".
#
# To write a text, take the likeliest token, add it to the text, and ask again. This is greedy decoding.

# %%
def continue_text(text, count):
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    for _ in range(count):
        with torch.inference_mode():
            best = model(ids).logits[0, -1].argmax()
        ids = torch.cat([ids, best.view(1, 1)], dim=1)
    return tokenizer.decode(ids[0])


mine = continue_text("The capital of France is", 10)
print(mine)

# %% [markdown]
# Nobody asked for what follows the first period. The model does not know that it was finished; it goes on with what often comes next.
#
# Your draft also reads the whole text again for every token. The tested version lives in `finetune_utils.generation`: it keeps what it has
# read, answers many prompts at once, and stops at the end. Both must write the same.

# %%
from finetune_utils.generation import generate

theirs = generate(model, tokenizer, ["The capital of France is"], max_new_tokens=10)[0]
print("the same text:", mine == "The capital of France is " + theirs)

# %% [markdown]
# ## Continue the text, or answer?
#
# The weights know only one trick: go on with the text. What you get depends on the text they see. The chat template wraps a question
# so that the likeliest continuation is an answer. Look at what the model really reads.

# %%
from finetune_utils.prompts import chat_prompt, render_prompt

print(chat_prompt(tokenizer, "What is fine-tuning?"))

# %% [markdown]
# **Predict, then run.** The same weights get the first words of a letter, and a question: once as raw text, once through the chat template. What do
# they write?

# %%
from finetune_utils.generation import fast_copy

untuned = fast_copy(model)
texts = ["Dear Ruth, your parcel came on Thursday", "How do I fine-tune a language model?", "What is the capital of France?"]
raw = generate(untuned, tokenizer, texts, max_new_tokens=36)
chat = generate(untuned, tokenizer, [chat_prompt(tokenizer, text) for text in texts], max_new_tokens=36)
table = [
    {"text": text, "continued as raw text": left or "(it stops at once)", "asked through the template": right}
    for text, left, right in zip(texts, raw, chat, strict=True)
]
course.show_table(table, width=34)

# %% [markdown]
# Raw, the letter goes on as a letter, and a question may be followed by anything that follows questions on web pages. Through the template, the
# model speaks as an assistant, even where that makes no sense. Nothing in the weights changed.
#
# Weights that have learned only to continue text are called a base model. SmolLM2-135M-Instruct has had a second training, instruction
# tuning, which taught it the second behavior. In this course it is the *untuned model*: untuned for the task that comes now.
#
# ## The same question, four ways
#
# The task: be the teaching assistant of this course. Answer questions on fine-tuning in one to three sentences. Turn back politely when
# a question is about something else; this is called a redirect.
#
# You can ask for that in four ways. Three of them only change the prompt.

# %%
from finetune_utils import runs

rows = runs.course_rows(train_facts=runs.ASSISTANT_FACTS)
on_topic = [row for row in rows.train if runs.is_fact(row)]
redirects = [row for row in rows.train if runs.is_off_topic(row)]
solved = [(row["question"], row["answer"]) for row in (on_topic[0], redirects[0], on_topic[1], redirects[1])]
rules = (
    "You are the teaching assistant of a course on fine-tuning language models. Answer in one to three complete "
    "sentences. If a question is not about fine-tuning, decline politely and turn back to fine-tuning."
)
ways = {
    "plain": lambda question: chat_prompt(tokenizer, question),
    "instruction": lambda question: chat_prompt(tokenizer, question, system=rules),
    "few-shot": lambda question: chat_prompt(tokenizer, question, system=rules, examples=solved),
}

# %% [markdown]
# * **plain**: the question alone;
# * **instruction**: the rules of the task, then the question;
# * **few-shot**: the rules, four solved examples, then the question.
#
# The examples come from the training rows. Were they taken from the rows you test on, you would give answers away.
#
# The fourth way changes the model. This adapter, a small set of extra weights, was trained in lesson 04's way on the training rows.
# The tuned model gets the question after a system message of two words, as it was trained: rules and examples have moved into the weights.

# %%
assistant, _ = runs.load_assistant()
added = sum(p.numel() for name, p in assistant.named_parameters() if "lora_" in name)
print(f"The adapter adds {added:,} parameters to {count_parameters(model).total:,}: {added / count_parameters(model).total:.1%}.")
tuned = fast_copy(assistant)
models = {"plain": untuned, "instruction": untuned, "few-shot": untuned, "tuned": tuned}
ways["tuned"] = lambda question: render_prompt({"question": question}, tokenizer, runs.ASSISTANT_TEMPLATE)

# %% [markdown]
# ### Many prompts, three kinds
#
# The rows below were never trained on. They answer three different questions.

# %%
count = max(2, profile.generate_rows * 3 // 16)
chosen = runs.spread(sorted({row["fact"] for row in rows.unseen}), max(2, count * 2 // 3))
unseen = [row for row in rows.unseen if row["fact"] in chosen and row["id"][-1] in "12"]
reworded, off_topic = runs.spread(rows.reworded, count), runs.spread(rows.off_topic, count)
asked = reworded + unseen + off_topic
for name, part in {"new wordings": reworded, "unseen facts": unseen, "off-topic": off_topic}.items():
    print(f"{name:12} {len(part):3} rows, for example: {part[0]['question']}")

# %% [markdown]
# * **new wordings**: the fact was in the training rows, this wording was not;
# * **unseen facts**: no training row mentions the fact; each is asked in two wordings, as a full question and as in a search box;
# * **off-topic**: should be turned back.
#
# Put all of them to the model in all four ways. No answer is skipped.

# %%
import time

answers, prompt_tokens, seconds = {}, {}, {}
for way, build in ways.items():
    prompts = [build(row["question"]) for row in asked]
    started = time.perf_counter()
    texts = generate(models[way], tokenizer, prompts, profile.max_new_tokens, batch_size=len(prompts))
    seconds[way] = (time.perf_counter() - started) / len(asked)
    prompt_tokens[way] = sum(len(ids) for ids in tokenizer(prompts)["input_ids"]) / len(asked)
    answers[way] = {row["id"]: text for row, text in zip(asked, texts, strict=True)}
print(f"{len(asked)} prompts x {len(ways)} ways = {len(asked) * len(ways)} answers")

# %% [markdown]
# Look at one question first, as most demonstrations do.

# %%
print("Q:", off_topic[0]["question"])
for way in ways:
    print(f"\n{way}: {answers[way][off_topic[0]['id']]}")

# %% [markdown]
# It is tempting to judge now. Do not: one answer may be luck. Count over all.

# %% [markdown]
# ### Staying on topic
#
# `is_redirect` looks at the first three sentences: does one of them name fine-tuning and speak of the assistant itself, as in "let's keep to
# fine-tuning"? Lesson 04 checks this rule against answers labeled by hand. There are two ways to fail: answering an off-topic question, and
# turning back a good one.
#
# **Predict, then run.** Which way of asking turns back most off-topic questions? Which one turns back good ones too?

# %%
from finetune_utils.evaluation import is_redirect, rate

turned_back, wrongly = {}, {}
for way in ways:
    turned_back[way] = rate([is_redirect(answers[way][row["id"]]) for row in off_topic])
    wrongly[way] = rate([is_redirect(answers[way][row["id"]]) for row in reworded + unseen])
    good, bad = turned_back[way], wrongly[way]
    print(f"{way:12} off-topic turned back {good.estimate:4.0%} [{good.low:.0%}, {good.high:.0%}] of {len(off_topic)};"
          f" good ones turned back {bad.estimate:4.0%} [{bad.low:.0%}, {bad.high:.0%}] of {len(reworded + unseen)}")

# %% [markdown]
# The brackets are 95 % intervals: how far the share may move with other questions of this kind. In the stored run the plain prompt turned back
# {{lesson01.redirect_plain:.0%}} of the off-topic questions, the instruction {{lesson01.redirect_instruction:.0%}}, the few-shot prompt
# {{lesson01.redirect_few_shot:.0%}} and the tuned model {{lesson01.redirect_tuned:.0%}}. Of the good questions, the few-shot prompt turned back
# {{lesson01.wrongly_few_shot:.0%}} and the tuned model {{lesson01.wrongly_tuned:.0%}}.
#
# Count both sides: a system that turns back everything would be perfect on the first. Two of the four solved examples are redirects, and the few-shot prompt
# still rarely turns back. The rule counts the turn, not the sense: "I can tell you about the rain" would pass after it. Now read three few-shot answers to good questions: did the model take over the task, or only the tone?

# %%
course.show_table([{"question": row["question"], "few-shot": answers["few-shot"][row["id"]]} for row in unseen[:3]], width=55)

# %% [markdown]
# ### Format
#
# The task says one to three complete sentences. Write that as code, and try it on answers you can judge yourself.

# %%
import re


def in_format(text):
    """One to three sentences, and the last one is finished."""
    sentences = re.split(r"(?<=[.!?])\s+", text.strip())
    return len(sentences) <= 3 and text.strip().endswith((".", "!", "?"))


for text in ["LoRA adds a small adapter.", "It depends. On what? On you. Or me.", "There are three reasons: 1. The"]:
    print(in_format(text), "|", text)

# %% [markdown]
# The first passes. The second has four sentences. The third was cut off before its end.

# %%
formatted = {way: rate([in_format(text) for text in answers[way].values()]) for way in ways}
for way, share in formatted.items():
    print(f"{way:12} in format {share.estimate:4.0%} [{share.low:.0%}, {share.high:.0%}] of {len(asked)}")

# %% [markdown]
# ### Consistency, and a measure that fools you
#
# A consistent assistant gives answers of similar length. So measure the lengths. **Predict:** which way varies least?

# %%
from finetune_utils.quality import length_spread

table = []
for way in ways:
    lengths = length_spread(answers[way].values())
    table.append({"way": way, "shortest": lengths["min"], "middle half": f"{lengths['q1']:.0f} to {lengths['q3']:.0f}",
                  "longest": lengths["max"], "in format": f"{formatted[way].estimate:.0%}"})
course.show_table(table, caption=f"Words per answer; the limit is {profile.max_new_tokens} tokens")

# %% [markdown]
# A narrow spread can have two causes. Either the model knows when to stop, or every answer ran into the token limit, and the limit made them equal. The
# last column helps you tell: an answer that was cut off is not in format. By the middle half, the plain answers vary least of all, and they are the ones least often in format. Length alone can praise the wrong model.
#
# Here is a better question: does the same question, worded differently, get the same answer? To compare two texts, count the words
# they share. By hand: "the cat sat" and "the cat ran away" share two words of three and four.

# %%
def words_in(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def overlap(first, second):
    """Shared words, counted twice, over the words of both: 1 for equal words, 0 for none in common."""
    shared = Counter(words_in(first)) & Counter(words_in(second))
    return 2 * shared.total() / max(1, len(words_in(first)) + len(words_in(second)))


print(f"overlap: {overlap('the cat sat', 'the cat ran away'):.3f}, by hand 2 * 2 / (3 + 4) = {4 / 7:.3f}")

# %% [markdown]
# This is unigram F1. The tested version lives in the package `rouge_score` under the name ROUGE-1, and lesson 05 takes it apart.
# Both must agree on real answers.

# %%
from rouge_score.rouge_scorer import RougeScorer

rouge = RougeScorer(["rouge1"])
some = [(answers["plain"][row["id"]], row["answer"]) for row in reworded]
gap = max(abs(overlap(a, b) - rouge.score(b, a)["rouge1"].fmeasure) for a, b in some)
print(f"largest difference over {len(some)} answers: {gap:.1e}")

# %% [markdown]
# Every unseen fact was asked in two wordings. Compare the two answers. As a baseline, compare answers to *different* facts: a model that always says the
# same thing agrees with itself perfectly. Only the distance between the two columns is consistency.

# %%
agreement, distance, table = {}, {}, []
pairs = [(a, b) for i, a in enumerate(unseen) for b in unseen[i + 1 :]]
for way in ways:
    same = [(a["fact"], overlap(answers[way][a["id"]], answers[way][b["id"]])) for a, b in pairs if a["fact"] == b["fact"]]
    other = [overlap(answers[way][a["id"]], answers[way][b["id"]]) for a, b in pairs if a["fact"] != b["fact"]]
    agreement[way] = rate([value for _, value in same], groups=[fact for fact, _ in same])
    distance[way] = agreement[way].estimate - sum(other) / len(other)
    table.append({"way": way, "same question, two wordings": f"{agreement[way].estimate:.2f}",
                  "95 % interval": f"{agreement[way].low:.2f} to {agreement[way].high:.2f}",
                  "baseline: different questions": f"{sum(other) / len(other):.2f}"})
course.show_table(table, caption=f"Overlap between two answers, {len(chosen)} facts")

# %% [markdown]
# In the stored run the distance is {{lesson01.distance_plain:+.2f}} for the plain prompt and {{lesson01.distance_tuned:+.2f}} for the tuned model. The tuned
# model is consistent in form. In content, on facts it was never told, two wordings get two answers.

# %% [markdown]
# ### Knowledge
#
# Is the answer right? The overlap with the reference answer is a rough measure: a false answer in the right words scores well. So the baseline must be a
# text that is certainly wrong, in perfect style, and on the subject: of all references of *other* facts, the one that fits the question best. A word
# that occurs in few references tells more than one that is everywhere, so it weighs more.

# %%
import math

from finetune_utils.data import load_rows

notes = sorted({row["answer"] for row in load_rows("course_qa") if runs.is_fact(row)})
in_notes = Counter(word for note in notes for word in set(words_in(note)))


def best_note(question, among):
    asked_for = set(words_in(question))
    return max(among, key=lambda note: sum(math.log(len(notes) / in_notes[w]) for w in asked_for & set(words_in(note))))


row = unseen[0]
print("question:  ", row["question"])
print("wrong note:", best_note(row["question"], [note for note in notes if note != row["answer"]]))

# %%
def mean_overlap(texts, part):
    return rate([overlap(text, row["answer"]) for text, row in zip(texts, part, strict=True)], groups=[row["fact"] for row in part])


def wrong_notes(part):
    return [best_note(row["question"], [note for note in notes if note != row["answer"]]) for row in part]


recall, unknown = ({way: mean_overlap([answers[way][row["id"]] for row in part], part) for way in ways} for part in (reworded, unseen))
base_recall, base_unknown = (mean_overlap(wrong_notes(part), part).estimate for part in (reworded, unseen))

# %%
table = [{"way": way, "new wordings of trained facts": f"{recall[way].estimate:.2f} [{recall[way].low:.2f}, {recall[way].high:.2f}]",
          "unseen facts": f"{unknown[way].estimate:.2f} [{unknown[way].low:.2f}, {unknown[way].high:.2f}]"} for way in ways]
table.append({"way": "baseline: the best wrong note", "new wordings of trained facts": f"{base_recall:.2f}",
              "unseen facts": f"{base_unknown:.2f}"})
course.show_table(table, caption="Overlap with the reference answer and its 95 % interval by fact")

# %% [markdown]
# Put the four counts on one page.

# %%
panels = {"off-topic\nturned back": turned_back, "in format": formatted, "overlap,\nnew wordings": recall, "overlap,\nunseen facts": unknown}
baselines = {"overlap,\nnew wordings": base_recall, "overlap,\nunseen facts": base_unknown}
plots.compare_ways(panels, baselines)

# %% [markdown]
# ## What did not improve
#
# Compare the tuned model row by row: with the plain prompt, and with the wrong notes.

# %%
from finetune_utils.evaluation import mean_difference

gains = {}
for name, part in {"new wordings": reworded, "unseen facts": unseen}.items():
    scored = {way: [overlap(answers[way][row["id"]], row["answer"]) for row in part] for way in ("plain", "tuned")}
    scored["wrong notes"] = [overlap(note, row["answer"]) for note, row in zip(wrong_notes(part), part, strict=True)]
    for other in ("plain", "wrong notes"):
        gains[name, other] = mean_difference(scored[other], scored["tuned"], [row["fact"] for row in part])
        print(f"{name:12} tuned minus {other:11}: {gains[name, other]} (95 % interval by fact)")

# %% [markdown]
# Read both intervals against the plain prompt first: do they hold 0? Against a note that is certainly wrong, the tuned model's overlap differs by
# {{lesson01.unseen_gain:+.3f}} on unseen facts, with an interval from {{lesson01.unseen_gain_low:+.3f}} to {{lesson01.unseen_gain_high:+.3f}}. It picked up the words and
# the tone of such answers, and no training row could tell it their content.
#
# On new wordings of trained facts the difference is {{lesson01.recall_gain:+.2f}} [{{lesson01.recall_gain_low:+.2f}}, {{lesson01.recall_gain_high:+.2f}}]. Being told a fact a
# few times is not the same as knowing it. Now read two answers on unseen facts, and look for the false statements.

# %%
table = [{"question": row["question"], "tuned": answers["tuned"][row["id"]], "reference": row["answer"]} for row in unseen[:4:2]]
course.show_table(table, width=40)

# %% [markdown]
# A statement that sounds right and is false is called a hallucination. Fine-tuning did not cure it. It may have made it worse: a wrong answer
# now comes in the voice of a careful teacher.
#
# **Fine-tuning changes behavior: form, length, tone, scope. It is a poor way to add knowledge.**
#
# ### Look it up instead
#
# Retrieval puts the missing fact into the prompt. You have the search already: `best_note`. This time the right note is among the notes.

# %%
picked = [best_note(row["question"], notes) for row in unseen]
found = [note == row["answer"] for note, row in zip(picked, unseen, strict=True)]
print(f"{len(notes)} notes; the right one is found for {sum(found)} of {len(unseen)} questions on unseen facts")

# %% [markdown]
# Give each note to the untuned model. The wording of this prompt was chosen on dev rows, among five: a model this small is easily confused.

# %%
ask_with_note = "Question: {}\n\nAnswer the question in one or two sentences from this note: {}"
prompts = [chat_prompt(tokenizer, ask_with_note.format(row["question"], note)) for row, note in zip(unseen, picked, strict=True)]
texts = generate(untuned, tokenizer, prompts, profile.max_new_tokens, batch_size=len(prompts))
prompt_tokens["retrieval"] = sum(len(ids) for ids in tokenizer(prompts)["input_ids"]) / len(prompts)
looked_up = mean_overlap(texts, unseen)
print(f"overlap on unseen facts: retrieval {looked_up.estimate:.2f} [{looked_up.low:.2f}, {looked_up.high:.2f}], "
      f"tuned {unknown['tuned'].estimate:.2f}, plain {unknown['plain'].estimate:.2f}")
for name, hit in {"right note": True, "wrong note": False}.items():
    part = [overlap(text, row["answer"]) for text, row, right in zip(texts, unseen, found, strict=True) if right is hit]
    print(f"{name}: {len(part)} questions" + (f", overlap {sum(part) / len(part):.2f}" if part else ""))

# %% [markdown]
# With notes, the untuned model reaches {{lesson01.unseen_retrieval:.2f}} on facts that the tuned model cannot know; the tuned model reaches
# {{lesson01.unseen_tuned:.2f}}. The comparison is not fair, and that is the point: retrieval may read the answer. And even a note about another fact,
# handed in as the answer, scored as much in the table above. So few questions and so blunt a measure do not show that retrieval wins. The split says more: retrieval is only as good as its search, as the last two lines show. Counting shared words found the right note for {{lesson01.notes_found:.0%}} of the questions. Tomorrow's note can be used tomorrow; the tuned
# model would need a new training.

# %% [markdown]
# ## Prompt, retrieve, or fine-tune?
#
# | | prompting | retrieval | fine-tuning |
# |---|---|---|---|
# | **upfront cost** | an afternoon | a search index and its upkeep | hundreds of good pairs, a training run, a test set |
# | **running cost** | rules and examples are read again at every request, unless the server keeps them (prefix caching) | the notes are read at every request | the shortest prompt, and often a smaller model |
# | **data that fits** | a few examples | as much as you can search | as much as you can write and train on |
# | **hallucination** | as the model is | less where the right note is found, as before elsewhere | no cure: on untrained facts the same, or worse; on trained ones not counted here |
# | **freshness** | edit the prompt | edit the note | train again |
# | **good for** | trying a task out | facts, and facts that change | form, tone, scope, a narrow task done often |
#
# They combine. A tuned model can read retrieved notes, and a good prompt is the first step of all three.
#
# The running cost starts with the prompt's length, and you have just measured it.

# %%
table = [{"way": way, "tokens in the prompt": round(tokens), "seconds per answer here": f"{seconds[way]:.2f}" if way in seconds else "-"}
         for way, tokens in prompt_tokens.items()]
course.show_table(table)

# %% [markdown]
# ### When does training pay?
#
# Training costs at the start and saves at every request. By hand: it costs 300 more upfront, and a request costs one cent instead of four. So it
# pays after `300 / 0.03` requests.

# %%
def break_even(now, later):
    """Requests after which `later` has cost less in total; each is (upfront, per request). None: never."""
    saved = now[1] - later[1]
    return max(0.0, (later[0] - now[0]) / saved) if saved > 0 else None


print(f"{break_even((0, 0.04), (300, 0.01)):,.0f} requests;", break_even((0, 0.01), (300, 0.01)))

# %% [markdown]
# Now with more figures. **They are examples for you to edit, not market prices.** Prices are for a million tokens. The prompt lengths are the
# ones you measured.

# %%
figures = {
    "large_in": 2.00, "large_out": 8.00,  # a large model that you prompt
    "small_in": 0.10, "small_out": 0.40,  # a small model that you tuned
    "answer_tokens": 60, "requests_per_day": 1_000,
    "pairs": 1_000, "minutes_per_pair": 2, "hourly_wage": 30.0, "training_run": 5.0,
    "prompt_hours": 4, "retrieval_hours": 24,
}  # fmt: skip

# %% [markdown]
# A request costs its prompt and its answer. Upfront, all three options cost somebody's hours.

# %%
def costs(f):
    """Upfront cost and cost per request of the three options."""
    def request(prompt, size):
        return (prompt * f[f"{size}_in"] + f["answer_tokens"] * f[f"{size}_out"]) / 1e6
    writing = f["pairs"] * f["minutes_per_pair"] / 60 * f["hourly_wage"]
    return {
        "few-shot": (f["prompt_hours"] * f["hourly_wage"], request(prompt_tokens["few-shot"], "large")),
        "retrieval": (f["retrieval_hours"] * f["hourly_wage"], request(prompt_tokens["retrieval"], "large")),
        "tuned": (writing + f["training_run"], request(prompt_tokens["tuned"], "small")),
    }

# %%
options = costs(figures)
meet = break_even(options["few-shot"], options["tuned"])
for name, (upfront, each) in options.items():
    print(f"{name:10} {upfront:8,.0f} upfront, {1000 * each:.3f} per 1,000 requests")
print(f"tuned beats few-shot after {meet:,.0f} requests: {meet / figures['requests_per_day']:,.0f} days")

# %%
plots.running_costs(options, requests=2 * meet, meet=meet)

# %% [markdown]
# Most of the upfront cost is not the computer. It is people who write pairs.
#
# **Predict, then run.** What moves the break-even more: a large model at half the price, or pairs that take twice as long to write? Or a small model
# that is no cheaper than the large one?

# %%
changes = {
    "as above": {},
    "large model at half the price": {"large_in": 1.00, "large_out": 4.00},
    "twice the minutes per pair": {"minutes_per_pair": 4},
    "the same model, only the prompt is shorter": {"small_in": 2.00, "small_out": 8.00},
    "300 pairs are enough": {"pairs": 300},
}
for name, change in changes.items():
    changed = costs(figures | change)
    print(f"{name:44} {break_even(changed['few-shot'], changed['tuned']):12,.0f} requests")

# %% [markdown]
# Pairs that take twice as long put the break-even off by about as much as half the price does. With the same model for both, only the shorter prompt saves anything; even so it pays in the end. And with `300` pairs a fifth of the
# requests is enough: the writing is what costs.
#
# Token prices are not the only reason. A small model of your own changes four things:
#
# | | a large model behind an interface | a small model that you tuned |
# |---|---|---|
# | **performance** | good at almost everything, in its own style | good at one task; test whether others got worse |
# | **privacy** | your users' texts leave your house | texts stay; but the training rows are now inside the weights |
# | **cost** | per token, nothing while idle | a machine that costs while idle too |
# | **reliability: latency** | network, queues, rate limits | your own hardware, and it is steady |
# | **reliability: uptime** | theirs; the model may change or be withdrawn | yours; the weights stay the same until you change them |
# | **reliability: moderation** | built in, by their rules | yours to write, as with the redirects above |
#
# ## Where fine-tuning fits
#
# Pretraining and fine-tuning are the same kind of training on different text. Put the two side by side. The prose is from `neutral_text.txt`, the manual page from Python's own documentation.

# %%
from pydoc_data.topics import topics

prose = [row["text"] for row in load_rows("neutral_text")]
manual = list(topics.values())
instructions = load_rows("instructions")
first = instructions[0]
table = [
    {"what pretraining reads": prose[0][:230] + " ...",
     "what fine-tuning reads": f"Instruction: {first['instruction']}\nInput: {first['input']}\nOutput: {first['output']}"},
    {"what pretraining reads": topics["while"].strip()[:230] + " ...",
     "what fine-tuning reads": f"Question: {on_topic[0]['question']}\nAnswer: {on_topic[0]['answer']}"},
]
course.show_table(table, width=45)

# %% [markdown]
# Real pretraining text is web pages, books and code, good and bad. With a connection you can look at some of C4, a cleaned crawl of the web.

# %%
STREAM_C4 = False  # True fetches three pages from the Hugging Face hub

if STREAM_C4:
    for row in load_rows("allenai/c4", source="hub", limit=3):
        print(row["text"][:200].replace("\n", " "), "...\n")
else:
    print("Not streamed: this lesson works without a network.")

# %% [markdown]
# Now count. In raw text every token is something to predict, except the first, which has nothing before it. In a pair only the answer is: the prompt is
# read, and not trained on. Tokens that are trained on are called supervised.

# %%
from finetune_utils.tokenization import tokenize_rows

def count_tokens(name, rows):
    done = tokenize_rows(rows, tokenizer, max_length=1_000_000)
    return {"text": name, "rows": len(rows), "tokens": f"{done.tokens:,}", "supervised": f"{done.supervised:,}",
            "share": f"{done.supervised / done.tokens:.0%}"}

course.show_table([
    count_tokens("everyday prose", [{"text": text} for text in prose]),
    count_tokens("Python's manual", [{"text": text} for text in manual]),
    count_tokens("the assistant's training rows", rows.train),
])

# %% [markdown]
# SmolLM2-135M was pretrained on 2 trillion tokens, says its model card. **Predict:** for each supervised token in the last line of the table, how many tokens
# of pretraining? (The assistant itself saw even fewer: lesson 04 trains on some of the redirects only.)

# %%
from finetune_utils.nll import token_nll

supervised = tokenize_rows(rows.train, tokenizer).supervised
print(f"{2e12 / supervised:,.0f} to 1")
for name, part in {"prose": [{"text": text} for text in prose[:8]], "answers": rows.train[:8]}.items():
    print(f"{name}: NLL {token_nll(untuned, tokenize_rows(part, tokenizer).examples, tokenizer).mean:.2f} nats per token")

# %% [markdown]
# The last two lines come from one function. NLL is minus the logarithm of the probability of the right next token, on average. With the natural logarithm its unit is called a nat. The objective is the same for prose and for
# answers. What differs is amount and structure. With so few tokens you cannot teach a language or a science. You can choose, among all that the
# model can already do, what it does from now on.
#
# ## Kinds of fine-tuning
#
# **By what is trained.** Full fine-tuning changes every parameter. Parameter-efficient fine-tuning freezes the model and trains an addition, such as the adapter above. LoRA
# is the usual one; lesson 06 takes it apart.
#
# **By what the rows are for.**
#
# | kind | rows | after it the model ... |
# |---|---|---|
# | single-task | one task, many examples | does this task; others may get worse |
# | multi-task | several tasks, mixed | does all of them, and tends to keep more of what it could |
# | domain | raw text of one field, as in pretraining | speaks the field's language; does not yet answer |
# | instruction | many kinds of instructions | answers instead of continuing |
#
# See how the same function makes training examples of each kind, and how much of them is trained.

# %%
from finetune_utils.data import normalize
from finetune_utils.tokenization import count_supervised, encode_row

task = normalize(instructions).rows
kinds = {
    "single-task": rows.train[0],
    "multi-task, first task": task[0],
    "multi-task, second task": next(row for row in task if row["instruction"].startswith("Extract")),
    "domain": {"text": topics["while"].strip()[:300]},
    "instruction": task[1],
}

# %%
table = []
for kind, row in kinds.items():
    example = encode_row(row, tokenizer)
    start = row.get("question", row.get("text", ""))[:90].replace("\n", " ")
    table.append({"kind": kind, "starts": start, "tokens": len(example["input_ids"]), "supervised": count_supervised(example)})
course.show_table(table)

# %% [markdown]
# Two words that you will meet. *Transfer learning* is the idea behind all of it: what was learned on one task helps on the next. *Few-shot* means
# a handful of examples. In a few-shot prompt they are read and forgotten; few-shot fine-tuning trains on them. Lesson 02 shows how far small sets get.
#
# **By direction.** Reading tasks put much text in and get little out: classify, extract, route. Writing tasks get more out: chat, draft, explain. Sort the
# instruction rows by it.

# %%
def reads(row):
    return len(words_in(row["input"])) > len(words_in(row["output"]))


reading = [row for row in instructions if reads(row)]
writing = [row for row in instructions if not reads(row)]
print(f"{len(reading)} reading tasks, {len(writing)} writing tasks")
for name, row in {"reading": reading[1], "writing": writing[0]}.items():
    print(f"\n{name}: {row['instruction']} {row['input']}\n  -> {row['output']}")

# %% [markdown]
# Writing tasks cost more, since every token of the answer is computed one after another, and they are harder to score. If you may choose, begin with a reading task.
#
# ## Your first fine-tuning
#
# 1. Pick **one** task that a large model does passably when prompted. If none can do it, a small one will not learn it from your rows.
# 2. Collect about 1,000 pairs that are **better** than passable. Lesson 02.
# 3. Fine-tune a small model. Lessons 03 and 04.
# 4. Measure it on rows it never saw, against the untuned model and against a good prompt. Lesson 05.
# 5. Only then grow: more data, a harder task, a larger model, in this order.
#
# "One task" must be clear. Can you tell a bad output from a good one, and a good one from a better one? If you cannot, the model will not learn it from
# your pairs. The best proof of clarity is a check that a program can make.

# %%
question = "How many rows do I need to fine-tune?"
outputs = {
    "bad": "Great question! It depends on many factors. Data is very important in machine learning and",
    "good": "You need a good amount of clean data. A few hundred rows can already help.",
    "better": "Start with about 1,000 clean pairs for one task. Train on half of them too: if the score barely moves, write better rows, not more.",
}
checks = {
    "in format": in_format,
    "no small talk": lambda text: not re.match(r"(great question|sure|of course|as an ai)", text.lower()),
    "gives a number": lambda text: bool(re.search(r"\d", text)),
    "says what to do": lambda text: bool(re.search(r"\b(start|train|write|use|try)\b", text.lower())),
}
course.show_table([{"": name, question: text, "passes": ", ".join(c for c in checks if checks[c](text)) or "nothing"}
                   for name, text in outputs.items()])

# %% [markdown]
# "Good" is not good enough for a training row: nothing in it is false, and it leaves out what the reader asked for. The model will copy exactly this.
#
# ## Check your run

# %%
recall_gain, unseen_gain = gains["new wordings", "wrong notes"], gains["unseen facts", "wrong notes"]
course.check_run(
    "lesson01", profile,
    paris=certain[0][1], open_end=open_end[0][1], same_text=mine.endswith(theirs), overlap_gap=gap,
    redirect_plain=turned_back["plain"].estimate, redirect_instruction=turned_back["instruction"].estimate,
    redirect_few_shot=turned_back["few-shot"].estimate, redirect_tuned=turned_back["tuned"].estimate,
    wrongly_few_shot=wrongly["few-shot"].estimate, wrongly_tuned=wrongly["tuned"].estimate,
    format_plain=formatted["plain"].estimate, format_tuned=formatted["tuned"].estimate,
    distance_plain=distance["plain"], distance_tuned=distance["tuned"],
    recall_tuned=recall["tuned"].estimate, unseen_plain=unknown["plain"].estimate, unseen_tuned=unknown["tuned"].estimate,
    recall_gain=recall_gain.estimate, recall_gain_low=recall_gain.low, recall_gain_high=recall_gain.high,
    unseen_gain=unseen_gain.estimate, unseen_gain_low=unseen_gain.low, unseen_gain_high=unseen_gain.high,
    unseen_retrieval=looked_up.estimate, notes_found=sum(found) / len(found),
    tokens_plain=prompt_tokens["plain"], tokens_few_shot=prompt_tokens["few-shot"], break_even=meet,
)

# %% [markdown]
# ## What you learned
#
# * A language model gives every token a probability of coming next. Everything else is a text that makes the wanted continuation likely.
# * A prompt steers one request. Fine-tuning changes the habit: with a system message of two words, the tuned model turned back {{lesson01.redirect_tuned:.0%}} of a few off-topic questions. The few-shot prompt, which states the rule and
#   shows it, turned back {{lesson01.redirect_few_shot:.0%}}. Of the tuned model's answers, {{lesson01.format_tuned:.0%}} were in format. (The plain prompt is no fair rival: nobody told it the rules.)
# * Facts that were never trained stay unknown. For knowledge, look it up, and measure the search: here it found the right note for {{lesson01.notes_found:.0%}} of the questions.
# * Training pays when the same narrow task is asked very often, or when privacy, latency or steadiness decide.
#
# ## Where this breaks
#
# * Overlap counts words, not truth. Swap "does" for "does not" and it hardly moves. Lesson 05 has better measures.
# * The test rows were written by the same hands as the training rows. Strangers' questions are harder.
# * A 135M-parameter model follows instructions poorly. A large model gains far more from a good prompt, so the distance between prompt and fine-tuning is smaller there.
# * The calculator leaves out the machine that a model of your own occupies, upkeep, and the next training when the task changes.
#
# ## Further reading
#
# * Brown et al., *Language Models are Few-Shot Learners* (GPT-3), arXiv 2005.14165.
# * Lewis et al., *Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks*, arXiv 2005.11401.
# * Ouyang et al., *Training language models to follow instructions with human feedback*, arXiv 2203.02155.
# * Zhou et al., *LIMA: Less Is More for Alignment*, arXiv 2305.11206.
# * Gekhman et al., *Does Fine-Tuning LLMs on New Knowledge Encourage Hallucinations?*, arXiv 2405.05904.
# * Raffel et al., *Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer* (T5 and C4), arXiv 1910.10683.
# * Ben Allal et al., *SmolLM2: When Smol Goes Big*, arXiv 2502.02737.
