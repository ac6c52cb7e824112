# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 04: Training
#
# Four exercises on the tiny model; each takes five to ten minutes. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/04_training.ipynb`.

# %%
import math

import torch

from finetune_utils import hardware
from finetune_utils.models import load_model
from finetune_utils.runs import course_rows
from finetune_utils.tokenization import tokenize_rows

hardware.quiet()
model, tokenizer = load_model("tiny", say=lambda message: None)
examples = tokenize_rows(course_rows().train[:24], tokenizer).examples

# %% [markdown]
# ## 04.1 The loss of one token (easy, 5 minutes)
#
# Write `token_loss(logits, target)`: the negative log-likelihood in nats of token `target`, given a list of logits. Use
# `math.exp` and `math.log` only. Example: `token_loss([0.0, 0.0], 1)` is `log(2)`, about `0.693`.
#
# <details><summary>Hint</summary>Probability = exp(logit of the target) divided by the sum of exp of all logits. The loss is
# minus its logarithm.</details>

# %% tags=["exercise"]
def token_loss(logits, target):
    # solution
    total = sum(math.exp(x) for x in logits)
    return -math.log(math.exp(logits[target]) / total)
    # stub: raise NotImplementedError("softmax, then minus the logarithm")
    # end solution


# %% tags=["check"]
try:
    got = token_loss([2.0, 1.0, 0.0], 1)
except NotImplementedError:
    got = None
assert got is not None, "04.1 is not written yet: return minus the log of the target's softmax probability."
assert got > 0, f"A loss is never negative, and yours is {got:.3f}: the minus sign is missing."
want = torch.nn.functional.cross_entropy(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([1])).item()
assert abs(got - want) < 1e-6, f"You return {got:.4f}, PyTorch {want:.4f}: divide by the sum over all tokens before you take the log."
print("04.1 is right.")

# %% [markdown]
# ## 04.2 The five lines (easy, 10 minutes)
#
# Complete `fit(steps)`: train `w` so that `3 * w` comes close to `6`, with the loss `(3 * w - 6) ** 2`, SGD and a rate of `0.05`.
# Return the list of losses, one a step. The loss must fall in every step.
#
# <details><summary>Hint</summary>forward, loss, <code>backward()</code>, <code>step()</code>, <code>zero_grad()</code>. Append
# <code>loss.item()</code>, not the tensor.</details>

# %% tags=["exercise"]
def fit(steps):
    w = torch.tensor([0.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.05)
    losses = []
    for _ in range(steps):
        # solution
        loss = ((3 * w - 6) ** 2).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        # stub: pass
        # end solution
    return losses


# %% tags=["check"]
losses = fit(5)
assert len(losses) == 5, f"04.2: fit(5) must return 5 losses, it returns {len(losses)}: write the five lines inside the loop."
assert abs(losses[0] - 36) < 1e-4, f"The first loss is (3 * 0 - 6) ** 2 = 36, yours is {losses[0]:.2f}: record it before the step."
falling = all(b < a for a, b in zip(losses, losses[1:], strict=False))
assert falling, f"The losses {[round(x, 2) for x in losses]} do not fall every time: is zero_grad() missing?"
print("04.2 is right.")

# %% [markdown]
# ## 04.3 How many steps? (medium, 5 minutes)
#
# Write `optimizer_steps(rows, batch_size, accumulation, epochs)`: how many times `optimizer.step()` runs. A last, smaller batch counts. Example: 10 rows,
# batches of 4, accumulation 1, 2 epochs: 20 rows pass in batches of 4, so 5 steps (this course joins the epochs before it cuts batches).
#
# <details><summary>Hint</summary>One step consumes <code>batch_size * accumulation</code> rows.</details>

# %% tags=["exercise"]
def optimizer_steps(rows, batch_size, accumulation, epochs):
    # solution
    return math.ceil(rows * epochs / (batch_size * accumulation))
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.training import TrainSettings, train

got = optimizer_steps(10, 4, 1, 2)
assert got is not None, "04.3 returns None: compute rows that pass in all epochs, divided by rows per step, rounded up."
assert got != 6, "You round up in each epoch. This course joins the epochs first: 20 rows in batches of 4 are 5 steps."
assert got == 5, f"10 rows x 2 epochs in batches of 4 are 5 steps, you return {got}."
assert optimizer_steps(10, 4, 1, 1) == 3, "10 rows in batches of 4 are 4 + 4 + 2: the last, smaller batch is a step, too. Round up."
assert optimizer_steps(24, 4, 3, 1) == 2, "With accumulation 3, three batches of 4 make one step: 24 rows are 2 steps."
result = train(model, tokenizer, examples, TrainSettings(epochs=1, batch_size=4, accumulation=3, learning_rate=0.0))
assert result.steps == optimizer_steps(24, 4, 3, 1), "train() took another number of steps than you computed."
print("04.3 is right, and train() agrees.")

# %% [markdown]
# ## 04.4 Stop in time (medium, 10 minutes)
#
# Write `best_step(scores, patience)`. `scores` is a list of `(step, dev_nll)` in order. Stop after `patience` scores in a row without
# improvement, and return the step whose weights you keep. Example: `best_step([(1, 3.0), (2, 2.5), (3, 2.6), (4, 2.7), (5, 2.0)], 2)` is 2: the run stops at step 4 and never
# sees step 5.
#
# <details><summary>Hint</summary>Keep the best value, its step, and a count of scores since then. Stop the loop when the count reaches
# the patience.</details>

# %% tags=["exercise"]
def best_step(scores, patience):
    # solution
    best, kept, worse = float("inf"), None, 0
    for step, value in scores:
        if value < best:
            best, kept, worse = value, step, 0
        else:
            worse += 1
        if worse == patience:
            break
    return kept
    # stub: return None
    # end solution


# %% tags=["check"]
curve = [(1, 3.0), (2, 2.5), (3, 2.6), (4, 2.7), (5, 2.0)]
got = best_step(curve, 2)
assert got is not None, "04.4 returns None: walk through the scores and remember the best one so far."
assert got != 5, "You return step 5, but the run had already stopped at step 4: early stopping cannot see the future."
assert got != 4, "You return the step at which the run stops; keep the weights of the best score before it."
assert got == 2 and best_step(curve, 3) == 5, "With patience 2 the answer is 2; with patience 3 the run goes on and finds step 5."
assert best_step([(1, 2.0), (2, 2.1), (3, 1.9), (4, 1.95), (5, 1.8)], 2) == 5, "An improvement must set the count back to 0."
print("04.4 is right.")
