"""Cards, rooms and prices against arithmetic by hand."""

import pytest

from finetune_utils import cards
from finetune_utils.cards import CARDS, Card, break_even, fit_table, fits, run_cost, run_hours, where_it_fits
from finetune_utils.errors import UserError
from finetune_utils.memory import MemoryEstimate

SMALL, LARGE = Card("small", 100, 10, False, "invented"), Card("large", 1000, 20, True, "invented")


def need(shared, own):
    return MemoryEstimate(shared, 0, 0, own, 0, 0)


def test_a_tenth_of_a_card_stays_free():
    assert fits(need(80, 10), SMALL)
    assert not fits(need(81, 10), SMALL)


def test_cards_share_weights_but_each_has_its_own_activations():
    assert need(100, 7).on_each(4) == 25 + 7
    assert need(101, 7).on_each(4) == 26 + 7
    assert fits(need(160, 10), SMALL, cards=2)
    assert not fits(need(10, 100), SMALL, cards=8)


def test_the_first_place_with_room_is_named():
    both = [SMALL, LARGE]
    assert where_it_fits(need(80, 0), both) == "small"
    assert where_it_fits(need(500, 0), both) == "large"
    assert where_it_fits(need(1700, 0), both) == "2 x large"
    assert where_it_fits(need(0, 1700), both) == "not on 8 x large"
    table = fit_table({"toy": {"full": need(500, 0), "lora": need(5, 0)}}, both)
    assert table == [{"model": "toy", "full": "large", "lora": "small"}]


def test_hours_follow_from_operations():
    # 6 x 10^9 weights x 10^6 tokens over 10^13 a second at half speed: 1,200 seconds
    assert run_hours(1e9, 1e6, SMALL, full=True, utilization=0.5) == pytest.approx(1200 / 3600)
    assert run_hours(1e9, 1e6, SMALL, utilization=0.5, cards=2) == pytest.approx(400 / 3600)
    for wrong in (0, 1.5, 30):
        with pytest.raises(UserError, match="share of the peak"):
            run_hours(1e9, 1e6, SMALL, utilization=wrong)


def test_every_run_pays_for_starting_up():
    assert run_cost(2.0, 3.0, fixed_hours=0.5, cards=2, runs=4) == 4 * 2.5 * 3.0 * 2
    assert run_cost(0.0, 4.0) == 1.0


def test_break_even_is_where_the_totals_meet():
    assert break_even((0, 0.04), (300, 0.01)) == pytest.approx(10_000)
    assert break_even((0, 0.01), (300, 0.01)) is None
    assert break_even((500, 2.0), (300, 1.0)) == 0.0


def test_the_real_cards_name_their_sources_and_stand_from_small_to_large():
    assert [card.name for card in CARDS] == ["T4", "V100", "A100", "H100"]
    memories = [card.memory for card in CARDS]
    assert memories == sorted(memories)
    assert [card.bf16 for card in CARDS] == [False, False, True, True]
    assert all(str(card.memory // 10**9) in card.source and "data sheet" in card.source for card in CARDS)
    assert 0 < cards.RESERVE < 0.5
