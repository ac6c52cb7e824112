"""Which model fits on which graphics card, and what a training run costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import UserError
from .memory import MemoryEstimate

# Part of a card that a run cannot have: the driver's own memory, and gaps between blocks.
RESERVE = 0.1


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes:
        memory: bytes, decimal as in the data sheet.
        tera_operations: floating-point operations a second in 16 bits on the tensor cores, in units of 10^12, without sparsity.
        bf16: it multiplies bfloat16 in hardware (compute capability 8 or higher).
        source: where the figures stand.
    """

    name: str
    memory: int
    tera_operations: float
    bf16: bool
    source: str


CARDS = (
    Card("T4", 16_000_000_000, 65, False, "NVIDIA T4 Tensor Core GPU data sheet: 16 GB GDDR6, 65 TFLOPS FP16"),
    Card("V100", 32_000_000_000, 125, False, "NVIDIA V100 data sheet (SXM2): 16 or 32 GB HBM2, 125 TFLOPS"),
    Card("A100", 80_000_000_000, 312, True, "NVIDIA A100 data sheet: 40 or 80 GB, 312 TFLOPS BF16 dense"),
    Card(
        "H100", 80_000_000_000, 989, True, "NVIDIA H100 data sheet (SXM): 80 GB HBM3, 1,979 TFLOPS BF16 with sparsity"
    ),
)


def fits(need: MemoryEstimate, card: Card, cards: int = 1) -> bool:
    """True when a run has room on `cards` such cards that share it (see `on_each`), `RESERVE` of each left free."""
    return need.on_each(cards) <= card.memory * (1 - RESERVE)


def where_it_fits(need: MemoryEstimate, cards: Sequence[Card] = CARDS, most: int = 8) -> str:
    """The cheapest way on the list to have room, in words: "T4", "2 x A100", or that it does not fit."""
    for number in (n for n in (1, 2, 4, 8) if n <= most):
        for card in cards:
            if fits(need, card, number):
                return card.name if number == 1 else f"{number} x {card.name}"
    return f"not on {most} x {cards[-1].name}"


def run_hours(
    parameters: float, tokens: float, card: Card, full: bool = False, utilization: float = 0.3, cards: int = 1
) -> float:
    """Hours that training on `tokens` tokens takes.

    A token costs 2 operations a parameter forward and 4 backward (Kaplan et al. 2020, arXiv 2001.08361). Where the
    weights are frozen their own gradients fall away: 2 forward, 2 backward.

    Args:
        parameters: of the whole model, frozen ones too.
        tokens: rows x tokens a row x epochs, padding included.
        utilization: share of the card's peak that a run reaches; 0.3 is a common figure for one well-fed card.

    Raises:
        UserError: a utilization that is not a share.
    """
    if not 0 < utilization <= 1:
        raise UserError(f"The utilization is {utilization}: it is a share of the peak, above 0 and at most 1.")
    operations = (6 if full else 4) * parameters * tokens
    return operations / (card.tera_operations * 1e12 * utilization * cards) / 3600


def run_cost(hours: float, price_an_hour: float, fixed_hours: float = 0.25, cards: int = 1, runs: int = 1) -> float:
    """What renting costs: every run also pays `fixed_hours` for starting up, loading the model and scoring."""
    return runs * (hours + fixed_hours) * price_an_hour * cards


def break_even(now: tuple[float, float], later: tuple[float, float]) -> float | None:
    """Units (requests, hours, runs) after which `later` has cost less in total; each is (upfront, per unit). None: never."""
    saved = now[1] - later[1]
    return max(0.0, (later[0] - now[0]) / saved) if saved > 0 else None


def fit_table(needs: Mapping[str, Mapping[str, MemoryEstimate]], cards: Sequence[Card] = CARDS) -> list[dict[str, str]]:
    """One row a model: for each method the first place on the list with room for it."""
    return [{"model": name} | {method: where_it_fits(need, cards) for method, need in methods.items()}
            for name, methods in needs.items()]  # fmt: skip
