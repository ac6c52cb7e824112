# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Exercises 06: LoRA
#
# Five exercises on small matrices and the tiny model; each takes five to ten minutes. Replace what stands below each task, run the cell, then run the
# check in the next cell. A failing check says what is probably wrong. Solutions: `notebooks/solutions/06_lora.ipynb`.

# %%
import torch

from finetune_utils import hardware
from finetune_utils.models import load_model

hardware.quiet()
quiet = {"say": lambda message: None}
W = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 0.0]])  # 2 outputs x 3 inputs
A = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # rank 2 x 3 inputs
B = torch.tensor([[0.5, 0.0], [1.0, 2.0]])  # 2 outputs x rank 2
x = torch.tensor([1.0, 2.0, 3.0])

# %% [markdown]
# ## 06.1 The output of a LoRA layer (easy, 5 minutes)
#
# Write `lora_output(x, w, a, b, alpha)` for one input vector `x`: the frozen part plus the detour, scaled by `alpha` divided by the rank. Read the
# rank off the shape of `a`. Example: with the matrices above and `alpha=4`, `W x` is `[7, 2]`, `B (A x)` is `[2, 8]`, the scale is 2, and the output is `[11, 18]`.
#
# <details><summary>Hint</summary><code>a</code> has the shape (rank, inputs), so <code>a.shape[0]</code> is the rank. Multiply from the right: first
# <code>a @ x</code>, then <code>b @</code> that.</details>

# %% tags=["exercise"]
def lora_output(x, w, a, b, alpha):
    # solution
    return w @ x + alpha / a.shape[0] * (b @ (a @ x))
    # stub: raise NotImplementedError("frozen part plus scaled detour")
    # end solution


# %% tags=["check"]
try:
    got = lora_output(x, W, A, B, alpha=4)
except NotImplementedError:
    got = None
assert got is not None, "06.1 is not written yet: return W x plus alpha / rank times B (A x)."
got = got.tolist()
assert got != [15.0, 34.0], "You multiply the detour by alpha. Divide alpha by the rank first, so that a change of rank does not change its strength."
assert got != [9.0, 10.0], "The detour is not scaled: multiply it by alpha / rank, here 4 / 2."
assert got != [4.0, 16.0], "You return the detour alone: the frozen part W x has to be added."
assert got == [11.0, 18.0], f"You return {got}, by hand it is [11, 18]: compute W x, A x and B (A x) one by one."
print("06.1 is right.")

# %% [markdown]
# ## 06.2 How many weights does it train? (easy, 5 minutes)
#
# Write `lora_weights(shapes, rank)`: the number of trained weights when every matrix of `shapes`, a list of `(outputs, inputs)`, gets a detour. Example:
# `lora_weights([(2, 3)], 1)` is 5.
#
# <details><summary>Hint</summary><code>A</code> holds rank x inputs numbers, <code>B</code> outputs x rank.</details>

# %% tags=["exercise"]
def lora_weights(shapes, rank):
    # solution
    return sum(rank * (outputs + inputs) for outputs, inputs in shapes)
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.lora import add_lora
from finetune_utils.memory import linear_shapes
from finetune_utils.models import count_parameters

got = lora_weights([(2, 3)], 1)
assert got is not None, "06.2 returns None: add up rank x inputs for A and outputs x rank for B over all matrices."
assert got != 6, "6 is outputs x inputs, the size of the frozen matrix itself. The detour has rank x (outputs + inputs) numbers."
assert got == 5, f"One matrix of 2 x 3 with rank 1 has 3 numbers in A and 2 in B: 5. You return {got}."
tiny = load_model("tiny", **quiet)[0]
shapes = linear_shapes(tiny)
for rank in (1, 8):
    counted = count_parameters(add_lora(load_model("tiny", **quiet)[0], rank=rank)).trainable
    assert lora_weights(shapes, rank) == counted, f"peft trains {counted} weights at rank {rank}, you count {lora_weights(shapes, rank)}: is the rank in both products?"
print("06.2 is right, and peft agrees.")

# %% [markdown]
# ## 06.3 Merge (medium, 5 minutes)
#
# Write `merged_weight(w, a, b, alpha)`: the single matrix that gives the same outputs as the frozen matrix with its detour.
#
# <details><summary>Hint</summary>The result must have the shape of <code>w</code>. Only one order of <code>a</code> and <code>b</code> gives that shape
# for every rank.</details>

# %% tags=["exercise"]
def merged_weight(w, a, b, alpha):
    # solution
    return w + alpha / a.shape[0] * (b @ a)
    # stub: return None
    # end solution


# %% tags=["check"]
torch.manual_seed(0)
w, a, b, many = torch.randn(4, 3), torch.randn(2, 3), torch.randn(4, 2), torch.randn(7, 3)
got = merged_weight(w, a, b, alpha=8)
assert got is not None, "06.3 returns None: add the scaled product of B and A to W."
assert got.shape == w.shape, f"The merged matrix has the shape {tuple(got.shape)}, the frozen one {tuple(w.shape)}: check the order of the product."
wanted = many @ w.T + 4 * (many @ a.T @ b.T)
assert not torch.allclose(got, w), "You return W unchanged: the product of B and A is missing."
gap = (many @ got.T - wanted).abs().max().item()
assert gap < 1e-4, f"Merged and unmerged outputs differ by up to {gap:.2f}: the product needs the scale alpha / rank, here 8 / 2."
assert torch.equal(merged_weight(w, a, 0 * b, 8), w), "With B = 0 the merged matrix must be W itself."
print("06.3 is right.")

# %% [markdown]
# ## 06.4 Has it moved? (medium, 10 minutes)
#
# Write `moved_share(model)`: the share of adapted layers (0 to 1) whose `B` is no longer zero. An adapted layer of `peft` has an attribute `lora_B`; its matrix is
# `layer.lora_B["default"].weight`. A fresh adapter gives 0.0, one that was trained 1.0.
#
# <details><summary>Hint</summary>Walk over <code>model.modules()</code> and keep those with <code>hasattr(module, "lora_B")</code>. A matrix has moved when
# <code>.abs().max() &gt; 0</code>.</details>

# %% tags=["exercise"]
def moved_share(model):
    # solution
    layers = [module for module in model.modules() if hasattr(module, "lora_B")]
    moved = [bool(layer.lora_B["default"].weight.abs().max() > 0) for layer in layers]
    return sum(moved) / len(moved)
    # stub: return None
    # end solution


# %% tags=["check"]
tuned = add_lora(load_model("tiny", **quiet)[0], rank=4)
got = moved_share(tuned)
assert got is not None, "06.4 returns None: collect the layers with lora_B and count those whose B is not zero."
assert got == 0.0, f"A fresh adapter has moved nowhere, you return {got}: look at B, not at A, which starts at random values."
for number, layer in enumerate(module for module in tuned.modules() if hasattr(module, "lora_B")):
    if number < 7:  # 7 of 14 layers
        layer.lora_B["default"].weight.data[0, 0] = -0.5
got = moved_share(tuned)
assert got != 0.0, "Half of the layers have a B with one negative number, and you find none: take abs() before max()."
assert got == 0.5, f"7 of 14 layers have moved, you return {got}: divide by the number of adapted layers."
print("06.4 is right.")

# %% [markdown]
# ## 06.5 Who answers what? (medium, 10 minutes)
#
# A batch holds requests of several users. Each request is a dict with a `prompt`, and perhaps with an `adapter`. Write `adapter_names(requests, known)`: one name for each
# request, in order, for `generate(..., adapters=...)`. No adapter, or one that is not in `known`, is answered by the untuned model, whose name is `"__base__"`.
# Example: `adapter_names([{"prompt": "a"}, {"prompt": "b", "adapter": "loud"}], ["loud"])` is `["__base__", "loud"]`.
#
# <details><summary>Hint</summary><code>request.get("adapter")</code> is None when there is none.</details>

# %% tags=["exercise"]
def adapter_names(requests, known):
    # solution
    return [request["adapter"] if request.get("adapter") in known else "__base__" for request in requests]
    # stub: return None
    # end solution


# %% tags=["check"]
from finetune_utils.generation import generate

requests = [{"prompt": "one"}, {"prompt": "two", "adapter": "default"}, {"prompt": "three", "adapter": "gone"}, {"prompt": "four", "adapter": None}]
got = adapter_names(requests, ["default"])
assert got is not None, "06.5 returns None: return a list with one name for each request."
assert len(got) == len(requests), f"{len(requests)} requests need {len(requests)} names, you return {len(got)}: a request without an adapter counts too."
assert None not in got, 'peft has no adapter called None: write "__base__" for the untuned model.'
assert "gone" not in got, 'There is no adapter called "gone", and peft would stop the whole batch: send that request to "__base__".'
assert got == ["__base__", "default", "__base__", "__base__"], f"You return {got}: keep the order of the requests."

# %% tags=["check"]
tuned, tokenizer = load_model("tiny", **quiet)
tuned = add_lora(tuned, rank=4)
for module in tuned.modules():
    if hasattr(module, "lora_B"):
        torch.nn.init.normal_(module.lora_B["default"].weight)
mixed = generate(tuned, tokenizer, [r["prompt"] for r in requests], max_new_tokens=4, adapters=got)
with tuned.disable_adapter():
    untuned = generate(tuned, tokenizer, [r["prompt"] for r in requests], max_new_tokens=4)
assert [mixed[i] == untuned[i] for i in range(4)] == [True, False, True, True], "Only the second request should get another answer than the untuned model's."
print("06.5 is right: one batch, two models.")
