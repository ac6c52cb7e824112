# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 08: Sentiment classification
#
# Five exercises on small tables and the tiny model; each takes five to fifteen minutes. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/08_sentiment.ipynb`.

# %%
import numpy as np

from finetune_utils import hardware
from finetune_utils.classification import encode_posts, load_classifier
from finetune_utils.sentiment import near_copy, posts

hardware.quiet()
parts = posts()

# %% [markdown]
# ## 08.1 Macro-F1 from a table (easy, 10 minutes)
#
# Write `macro_f1(counts)`: `counts[i][j]` is how many texts of class `i` were taken for class `j`. The F1 of a class is twice its hits, divided by the sum of its row plus the sum of its
# column; a class with an empty row and column gets 0. Return the mean over the classes. Example: `macro_f1([[3, 1], [0, 4]])` is
# (6 / 7 + 8 / 9) / 2, about 0.873.
#
# <details><summary>Hint</summary>With <code>counts = np.array(counts)</code>, the hits are <code>counts.diagonal()</code>, row sums <code>counts.sum(axis=1)</code> and column sums
# <code>counts.sum(axis=0)</code>.</details>

# %% tags=["exercise"]
def macro_f1(counts):
    # solution
    counts = np.array(counts)
    below = counts.sum(axis=0) + counts.sum(axis=1)
    return float((2 * counts.diagonal() / np.maximum(below, 1)).mean())
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.class_metrics import confusion
from finetune_utils.class_metrics import macro_f1 as tested

got = macro_f1([[3, 1], [0, 4]])
assert got is not None, "08.1 returns None: compute the F1 of each class from its hits, its row and its column, then the mean."
assert abs(got - 7 / 8) > 1e-6, "0.875 is the accuracy, the hits over all texts. Macro-F1 is the mean of the F1 of each class."
assert abs(got - (6 / 7 + 8 / 9) / 2) < 1e-9, f"You return {got:.4f}, by hand it is 0.8730: F1 is 2 x hits / (row sum + column sum)."
empty = macro_f1([[2, 0, 0], [0, 2, 0], [0, 0, 0]])
assert not np.isnan(empty), "The third class has no texts and was never said: 0 / 0 gives nan. Let it count as 0."
assert abs(empty - 2 / 3) < 1e-9, f"Two perfect classes and an absent one give 2 / 3, you return {empty:.4f}: divide by the number of all classes."
truth, said = np.random.default_rng(1).integers(3, size=(2, 50))
assert abs(macro_f1(confusion(truth, said, 3)) - tested(truth, said, 3)) < 1e-9, "On 50 random texts you and the package differ: are rows and columns both in the sum?"
print("08.1 is right.")

# %% [markdown]
# ## 08.2 Where does the head read? (easy, 5 minutes)
#
# Write `last_positions(mask)`: `mask` is an attention mask of shape (rows, length) with 1 for tokens and 0 for padding, and every row is padded on the right. Return a list with the position of the
# last token of each row. Example: `last_positions([[1, 1, 1], [1, 0, 0]])` is `[2, 0]`.
#
# <details><summary>Hint</summary>With padding on the right, the number of ones says where the last one is.</details>

# %% tags=["exercise"]
def last_positions(mask):
    # solution
    return [sum(row) - 1 for row in mask]
    # stub: return None
    # end solution


# %% tags=["check"]
got = last_positions([[1, 1, 1], [1, 0, 0]])
assert got is not None, "08.2 returns None: return one position for each row of the mask."
assert list(got) != [3, 1], "You return how many tokens there are. Positions count from 0, so the last one is one less."
assert list(got) != [2, 2], "You return the last column for every row, which is padding in the second. Count the ones of each row."
assert list(got) == [2, 0], f"You return {list(got)}, wanted [2, 0]."

# %% tags=["check"]
import torch

from finetune_utils.batching import SupervisedCollator

model, tokenizer = load_classifier("tiny", say=lambda message: None)
batch = SupervisedCollator(tokenizer.pad_token_id, sparse=False)(encode_posts(parts["train"][:3], tokenizer))
labels, inputs = batch.pop("labels"), batch
with torch.no_grad():
    hidden = model.model(**inputs).last_hidden_state
    wanted = model(**inputs).logits
places = last_positions(inputs["attention_mask"].tolist())
assert places is not None, "08.2 returns None for the mask of three posts."
picked = hidden[torch.arange(3), places]
assert torch.allclose(model.score(picked), wanted, atol=1e-5), "With your positions the head gives other scores than the model: check a row with padding."
print("08.2 is right: the model reads where you say.")

# %% [markdown]
# ## 08.3 Weights for rare classes (medium, 5 minutes)
#
# Write `class_weights(labels, classes)`: a list with one weight a class, so that every class weighs the same in total and the weights of all texts add up to the number of texts. `labels` are numbers from 0.
# Example: `class_weights([0, 0, 0, 1], 2)` is `[2/3, 2]`: three texts at 2/3 and one at 2.
#
# <details><summary>Hint</summary>Each class shall weigh <code>len(labels) / classes</code> in total. Divide that among its texts.</details>

# %% tags=["exercise"]
def class_weights(labels, classes):
    # solution
    return [len(labels) / (classes * labels.count(label)) for label in range(classes)]
    # stub: return None
    # end solution


# %% tags=["check"]
from sklearn.utils.class_weight import compute_class_weight

got = class_weights([0, 0, 0, 1], 2)
assert got is not None, "08.3 returns None: give each class len(labels) / classes in total, shared by its texts."
total = 3 * got[0] + got[1]
assert got[0] < got[1], "The frequent class has the larger weight: a rare text must weigh more, so divide by the count."
assert abs(3 * got[0] - got[1]) < 1e-9, f"Class 0 weighs {3 * got[0]:.2f} in total and class 1 {got[1]:.2f}: they should be equal."
assert abs(total - 4) < 1e-9, f"The four texts weigh {total:.2f} together, wanted 4: otherwise the loss, and with it the best learning rate, changes its size."
many = [0] * 24 + [1] * 3 + [2] * 3
assert np.allclose(class_weights(many, 3), compute_class_weight("balanced", classes=np.arange(3), y=many)), "On three classes scikit-learn's `balanced` gives other weights: do you divide by the number of classes?"
print("08.3 is right, and scikit-learn agrees.")

# %% [markdown]
# ## 08.4 Keep copies together (medium, 15 minutes)
#
# `near_duplicates` gives pairs `(i, j, similarity)` of texts that are much alike. Write `groups(count, pairs)`: a list with one group number for each of `count` texts, equal for texts that are connected by pairs, directly or
# through others, and different for all others. Example: `groups(4, [(0, 1, 0.9), (1, 3, 0.8)])` may be `[0, 0, 2, 0]`: 0 and 3 are connected through 1.
#
# <details><summary>Hint</summary>Start with <code>group = list(range(count))</code>. For each pair, give every text of the one group the number of the other.</details>

# %% tags=["exercise"]
def groups(count, pairs):
    # solution
    group = list(range(count))
    for i, j, _ in pairs:
        old, new = group[j], group[i]
        group = [new if number == old else number for number in group]
    return group
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.quality import near_duplicates

got = groups(4, [(0, 1, 0.9), (1, 3, 0.8)])
assert got is not None, "08.4 returns None: return a list with one group number for each text."
assert len(got) == 4, f"4 texts need 4 numbers, you return {len(got)}: a text without a copy is a group of its own."
assert got[0] == got[1] and got[1] == got[3], "Texts 0 and 3 are connected through 1 and must share a number: relabel the whole group, not one text."
assert got[2] != got[0], "Text 2 is like no other and has the number of a group: start with a different number for each."
assert len(set(groups(5, [(0, 1, 1), (2, 3, 1), (1, 3, 1)]))) == 2, "The third pair joins two groups that exist already: all four texts must end in one."
texts = [row["text"] for row in parts["dev"]]
texts += [near_copy(text) for text in texts]
found, half = groups(len(texts), near_duplicates(texts, 0.4)), len(texts) // 2
apart = [text for text, mine, copys in zip(texts, found[:half], found[half:]) if mine != copys]
assert not apart, f"{len(apart)} posts are in another group than their copy, so a split could part them. The first: {apart[0]!r}"
print(f"08.4 is right: {len(texts)} posts and copies make {len(set(found))} groups.")

# %% [markdown]
# ## 08.5 Underfitted, overfitted or fine? (easy, 5 minutes)
#
# Write `verdict(train, dev)` for the losses of each epoch on train and dev posts. Return `"overfitting"` when the last dev loss is more than 0.05 above the lowest dev loss. Otherwise return
# `"underfitting"` when the last train loss is still above 0.9, and `"fine"` in all other cases. Guessing among three classes costs about 1.1.
# Example: `verdict([1.0, 0.6, 0.2], [1.0, 0.8, 1.1])` is `"overfitting"`.
#
# <details><summary>Hint</summary>Compare <code>dev[-1]</code> with <code>min(dev)</code> first.</details>

# %% tags=["exercise"]
def verdict(train, dev):
    # solution
    if dev[-1] - min(dev) > 0.05:
        return "overfitting"
    return "underfitting" if train[-1] > 0.9 else "fine"
    # stub: return None
    # end solution


# %% tags=["check"]
got = verdict([1.0, 0.6, 0.2], [1.0, 0.8, 1.1])
assert got is not None, "08.5 returns None: return one of the three words."
assert got == "overfitting", f"The dev loss rose from 0.8 to 1.1 while the train loss fell, and you say {got!r}."
assert verdict([1.1, 1.08, 1.05], [1.1, 1.09, 1.06]) == "underfitting", "Both losses are still near guessing, which is 1.1: the model has hardly learned anything."
assert verdict([1.0, 0.7, 0.5], [1.0, 0.8, 0.78]) == "fine", "Both losses fell to the end: nothing is wrong with this run."
assert verdict([1.1, 1.0, 0.95], [1.1, 0.9, 1.2]) == "overfitting", "When the dev loss has risen, the run is past its best, whatever the train loss says: test that first."
assert verdict([1.0, 0.7, 0.4], [1.0, 0.75, 0.78]) == "fine", "A rise of 0.03 above the lowest dev loss is noise with so few posts: the limit is 0.05."
print("08.5 is right.")
