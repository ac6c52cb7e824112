"""The one dial: three profiles that grow, and a clear answer to any other name."""

import dataclasses

import pytest

from finetune_utils.errors import UserError
from finetune_utils.profiles import PROFILES, get_profile

SIZES = (
    "train_rows",
    "eval_rows",
    "generate_rows",
    "batch_size",
    "generate_batch_size",
    "max_new_tokens",
    "lora_rank",
)


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu"])
def test_a_profile_is_found_by_the_name_it_carries(name):
    assert get_profile(name).name == name
    assert get_profile(name) is PROFILES[name]


@pytest.mark.parametrize("size", SIZES)
def test_no_size_shrinks_from_smoke_to_cpu_to_gpu(size):
    sizes = [getattr(PROFILES[name], size) for name in ("smoke", "cpu", "gpu")]
    assert 0 < sizes[0] <= sizes[1] <= sizes[2]


def test_smoke_runs_the_model_of_the_cpu_profile_on_far_fewer_rows():
    smoke, cpu = PROFILES["smoke"], PROFILES["cpu"]
    assert smoke.model == cpu.model
    assert smoke.train_rows * 10 < cpu.train_rows


def test_side_trials_take_the_lesson_model_except_where_nothing_is_learned_anyway():
    assert PROFILES["smoke"].side_model == "tiny"
    for name in ("cpu", "gpu"):
        assert PROFILES[name].side_model == PROFILES[name].model


def test_a_profile_cannot_be_changed_by_accident():
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_profile("cpu").train_rows = 7


@pytest.mark.parametrize("name", ["CPU", "", "fast"])
def test_an_unknown_profile_is_answered_with_the_known_ones(name):
    with pytest.raises(UserError, match=f"Unknown profile '{name}': choose one of smoke, cpu, gpu"):
        get_profile(name)
