"""Did it learn? Checks after LoRA training: base untouched, adapter moved, merged = adapter, outputs differ."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError
from .hardware import cast_weights, choose_precision
from .lora import is_4bit, is_lora, merge

MERGE_TOLERANCE = 1e-4  # largest difference of logits in float32


@dataclass(frozen=True)
class Learned:
    """What `did_it_learn` found.

    Attributes:
        base_tensors: how many frozen tensors were compared.
        changed: names of those that are not bit-identical.
        adapters: adapted layers; `moved`: those whose B is no longer zero.
        update: largest |B A| scale, relative to |W|, over the layers (Frobenius norms); 0 when nothing was learned.
        merged_gap: largest difference between the logits of the merged and of the adapted model in float32.
        rounded_gap: the same with the merged weights rounded to bfloat16 (the arithmetic stays float32).
        output_gap: largest difference between the logits with and without the adapter in float32.

    The two gaps of merging are None for 4-bit weights, which cannot be merged.
    """

    base_tensors: int
    changed: list[str]
    adapters: int
    moved: int
    update: float
    merged_gap: float | None
    rounded_gap: float | None
    output_gap: float

    @property
    def checks(self) -> dict[str, bool]:
        """Every check with its outcome, in words."""
        found = {
            "the base weights are bit-identical": not self.changed,
            "every B has moved away from zero": self.moved == self.adapters > 0,
            "the outputs differ from the base model's": self.output_gap > 0,
        }
        if self.merged_gap is not None:
            found["merged weights give the adapter's outputs"] = self.merged_gap <= MERGE_TOLERANCE
        return found

    @property
    def ok(self) -> bool:
        """True when all checks hold."""
        return all(self.checks.values())

    def __str__(self) -> str:
        details = {
            "the base weights are bit-identical": f"{self.base_tensors - len(self.changed)} of {self.base_tensors} tensors"
            + (f"; changed: {', '.join(self.changed[:3])}" if self.changed else ""),
            "every B has moved away from zero": f"{self.moved} of {self.adapters} layers; largest update {self.update:.2%} of W",
            "the outputs differ from the base model's": f"logits by up to {self.output_gap:.3g}",
        }
        if self.merged_gap is not None:
            details["merged weights give the adapter's outputs"] = (
                f"logits within {self.merged_gap:.1e} in float32, {self.rounded_gap:.1e} with weights rounded to bfloat16"
            )
        return "\n".join(f"{'yes' if ok else 'NO '}  {name} ({details[name]})" for name, ok in self.checks.items())


def fingerprint(model: Any) -> dict[str, str]:
    """SHA-256 of every frozen tensor of a model, by its name without peft's additions; take it before training."""
    found = {}
    for name, tensor in model.state_dict().items():
        if "lora_" not in name and isinstance(tensor, torch.Tensor):
            raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            found[_plain(name)] = hashlib.sha256(raw.numpy().tobytes()).hexdigest()
    return found


def did_it_learn(model: Any, input_ids: torch.Tensor, before: dict[str, str]) -> Learned:
    """Compare a LoRA model after training with what it was before.

    Args:
        model: with its adapter attached; it comes back as it was.
        input_ids: tokens (rows, length) on which outputs are compared.
        before: `fingerprint(model)` taken when the adapter was fresh.

    Raises:
        UserError: the model has no adapter, or `before` belongs to another model.
    """
    if not is_lora(model):
        raise UserError("did_it_learn needs a model with a LoRA adapter (`add_lora`).")
    now = fingerprint(model)
    if now.keys() != before.keys():
        raise UserError("The fingerprint belongs to another model: take it with `fingerprint(model)` before training.")
    layers = [m for m in model.modules() if hasattr(m, "lora_B") and model.active_adapter in m.lora_B]
    moved = sum(bool(m.lora_B[model.active_adapter].weight.detach().abs().max() > 0) for m in layers)
    apart = model if is_4bit(model) else cast_weights(copy.deepcopy(model), torch.float32)
    tuned = _logits(apart, input_ids)
    with apart.disable_adapter():
        untuned = _logits(apart, input_ids)
    merged_gap = rounded_gap = None
    if not is_4bit(model):
        merged = merge(apart)
        merged_gap = _gap(_logits(merged, input_ids), tuned)
        # The weights are rounded, the arithmetic is not.
        rounded = cast_weights(cast_weights(merged, torch.bfloat16), torch.float32)
        rounded_gap = _gap(_logits(rounded, input_ids), tuned)
    return Learned(
        base_tensors=len(now),
        changed=[name for name, digest in now.items() if digest != before[name]],
        adapters=len(layers),
        moved=moved,
        update=max((_update(layer, model.active_adapter) for layer in layers), default=0.0),
        merged_gap=merged_gap,
        rounded_gap=rounded_gap,
        output_gap=_gap(tuned, untuned),
    )


def adapter_gradients(model: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradient of every trainable tensor for the loss on `input_ids` (rows, length), which are their own labels.

    Nothing is left behind: the model's gradients are cleared, and it comes back in the mode it was in. Taken twice, with
    something in between that should not matter, the two tell whether it did.
    """
    training, device = model.training, next(model.parameters()).device
    model.train()
    model.zero_grad()
    ids, precision = input_ids.to(device), choose_precision(device)
    with torch.autocast(device.type, precision.dtype, enabled=precision.low):
        model(input_ids=ids, labels=ids).loss.backward()
    found = {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.train(training)
    return found


def gradient_gap(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of gradients, relative to the largest entry of its tensor.

    Raises:
        UserError: they belong to different models.
    """
    if before.keys() != after.keys():
        raise UserError("The gradients belong to different models: take both from the same one.")
    gaps = [float((before[n] - after[n]).abs().max() / before[n].abs().max().clamp(min=1e-12)) for n in before]
    return max(gaps, default=0.0)


def layer_updates(model: Any) -> dict[str, list[float]]:
    """|scale B A| / |W| of every adapted matrix (Frobenius norms): one list for each kind of matrix, in layer order."""
    found: dict[str, list[float]] = {}
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_B") and model.active_adapter in layer.lora_B:
            found.setdefault(name.rpartition(".")[2].removesuffix("_proj"), []).append(
                _update(layer, model.active_adapter)
            )
    return found


def _plain(name: str) -> str:
    return re.sub(r"^base_model\.model\.|\.base_layer\b", "", name)


def _update(layer: Any, name: str) -> float:
    """|scale B A| / |W|. 4-bit weights are not expanded for this: their own norm is unknown, and 0 is returned."""
    base = layer.base_layer.weight
    if not base.is_floating_point():
        return 0.0
    product = layer.lora_B[name].weight.detach() @ layer.lora_A[name].weight.detach()
    return float(layer.scaling[name] * product.norm() / base.detach().float().norm())


@torch.no_grad()
def _logits(model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    training = model.training
    model.eval()
    logits = model(input_ids=input_ids.to(next(model.parameters()).device)).logits.float()
    model.train(training)
    return logits


def _gap(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())
