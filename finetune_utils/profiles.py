"""The one dial: `smoke`, `cpu` and `gpu` set the model and the sizes of everything a lesson runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .errors import UserError


@dataclass(frozen=True)
class Profile:
    """Sizes of one run. Row counts are upper limits: a smaller data set is used whole.

    Attributes:
        name: what the learner types.
        model: a name that `models.load_model` knows.
        side_model: the model of side trials that load a fresh copy; `smoke` takes the tiny random one to be quick.
        train_rows: training rows at most.
        eval_rows: rows at most in each scored (dev or test) set.
        generate_rows: prompts at most that are answered in one comparison.
        batch_size: rows per training step.
        generate_batch_size: prompts answered at the same time.
        max_new_tokens: tokens at most in one answer.
        lora_rank: rank of a LoRA adapter on all linear layers.
        shrunk: the sizes were cut for a slow CPU, so its numbers have a reference of their own.
    """

    name: str
    model: str
    side_model: str
    train_rows: int
    eval_rows: int
    generate_rows: int
    batch_size: int
    generate_batch_size: int
    max_new_tokens: int
    lora_rank: int
    shrunk: bool = False

    @property
    def reference(self) -> str:
        """The stored results that a run of these sizes is compared with: `cpu-fp32` for the cut `cpu` profile."""
        return f"{self.name}-fp32" if self.shrunk else self.name


_LARGER = "HuggingFaceTB/SmolLM2-1.7B-Instruct"

PROFILES: dict[str, Profile] = {
    # Seconds: every cell runs once, nothing is learned. For tests and for looking around.
    "smoke": Profile("smoke", "smollm2-135m", "tiny", 8, 6, 4, 4, 4, 8, 4),
    # Minutes on two CPU cores: the numbers in the course come from this one.
    "cpu": Profile("cpu", "smollm2-135m", "smollm2-135m", 2_000, 400, 64, 8, 32, 64, 16),
    # A free Colab T4: the larger sibling, same tokenizer and chat template.
    "gpu": Profile("gpu", _LARGER, _LARGER, 2_000, 400, 128, 16, 64, 64, 16),
}


def get_profile(name: str) -> Profile:
    """Return the profile called `name`.

    Raises:
        UserError: `name` is not one of `smoke`, `cpu`, `gpu`.
    """
    if name not in PROFILES:
        raise UserError(f"Unknown profile {name!r}: choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def shrink_for_slow_cpu(profile: Profile) -> Profile:
    """The same profile with row counts for a CPU without bfloat16, where every row takes two to three times as long."""
    rows, scored, prompts = min(profile.train_rows, 400), min(profile.eval_rows, 120), min(profile.generate_rows, 32)
    return replace(profile, train_rows=rows, eval_rows=scored, generate_rows=prompts, shrunk=True)
