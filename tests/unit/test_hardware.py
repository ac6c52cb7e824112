"""What the machine can do: the precision rule on faked machines, seeds, memory."""

import os
import random
import types
import warnings

import numpy as np
import pytest
import torch

from finetune_utils import hardware
from finetune_utils.errors import UserError
from finetune_utils.hardware import FP32, choose_device, choose_precision

GPU, CPU, MPS = torch.device("cuda"), torch.device("cpu"), torch.device("mps")


def fake_cpu(monkeypatch, avx512_bf16=False, amx=False):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)


def fake_gpu(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    # PyTorch says yes also where bfloat16 is only emulated.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)


@pytest.mark.parametrize(
    ("capability", "name", "dtype"),
    [
        ((6, 1), "fp16", torch.float16),
        ((7, 5), "fp16", torch.float16),
        ((8, 0), "bf16", torch.bfloat16),
        ((9, 0), "bf16", torch.bfloat16),
        ((12, 0), "bf16", torch.bfloat16),
    ],
)
def test_a_gpu_gets_bfloat16_from_compute_capability_8_on(monkeypatch, capability, name, dtype):
    fake_gpu(monkeypatch, capability)
    precision = choose_precision()
    assert (precision.name, precision.dtype, precision.low) == (name, dtype, True)
    assert f"capability {capability[0]}.x" in precision.reason
    assert ("no bfloat16" in precision.reason) == (name == "fp16")


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx": True}, "bf16"),
        ({"avx512_bf16": True, "amx": True}, "bf16"),
    ],
)
def test_a_cpu_gets_bfloat16_only_where_the_hardware_multiplies_it(monkeypatch, flags, name):
    fake_cpu(monkeypatch, **flags)
    precision = choose_precision(CPU)
    assert precision.name == name
    assert precision.low == (name == "bf16")
    assert "this CPU" in precision.reason
    assert ("no fast 16-bit" in precision.reason) == (name == "fp32")


@pytest.mark.parametrize(("value", "name"), [("fp32", "fp32"), ("bf16", "bf16"), ("", "bf16")])
def test_the_environment_can_ask_for_float32(monkeypatch, value, name):
    fake_cpu(monkeypatch, avx512_bf16=True)
    monkeypatch.setenv("FINETUNE_PRECISION", value)
    assert choose_precision(CPU).name == name


def test_a_pytorch_without_these_checks_counts_as_a_cpu_without_bfloat16(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not hardware.cpu_has_bf16()
    assert choose_precision(CPU).dtype == torch.float32


def test_apples_gpu_trains_in_float32_and_says_why(monkeypatch):
    fake_cpu(monkeypatch, avx512_bf16=True)
    precision = choose_precision(MPS)
    assert (precision.name, precision.low) == ("fp32", False)
    assert "Apple" in precision.reason


@pytest.mark.parametrize(("value", "asked_for"), [("fp32", True), ("bf16", False), ("", False)])
def test_float32_can_be_asked_for_in_the_environment(monkeypatch, value, asked_for):
    fake_cpu(monkeypatch, avx512_bf16=True)
    monkeypatch.setenv("FINETUNE_PRECISION", value)
    assert (choose_precision(CPU) == FP32) is asked_for


def test_a_gpu_is_taken_when_there_is_one_and_apples_only_on_request(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == CPU
    assert choose_device(allow_mps=True) == MPS
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device(allow_mps=True) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == choose_device(allow_mps=True) == GPU


@pytest.mark.parametrize(("has_bf16", "expected"), [(False, "bf16"), (True, "untouched")])
def test_the_fast_float32_route_is_left_alone_where_it_would_round(monkeypatch, has_bf16, expected):
    route = types.SimpleNamespace(fp32_precision="untouched")
    monkeypatch.setattr(hardware.torch.backends, "mkldnn", types.SimpleNamespace(matmul=route))
    monkeypatch.setattr(hardware, "cpu_has_bf16", lambda: has_bf16)
    hardware.use_fast_fp32()
    assert route.fp32_precision == expected


def test_an_older_pytorch_without_the_route_is_no_error(monkeypatch):
    monkeypatch.setattr(hardware.torch.backends, "mkldnn", types.SimpleNamespace())
    hardware.use_fast_fp32()


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


@pytest.mark.parametrize("seed", [0, 8, 2**32 + 5])
def test_a_seed_fixes_all_three_generators(seed):
    hardware.set_seed(seed)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    hardware.set_seed(seed)
    assert draws() == first
    hardware.set_seed(seed + 1)
    assert all(a != b for a, b in zip(first, draws(), strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="measures the GPU there")
def test_peak_memory_grows_with_an_allocation_and_stays_when_it_is_freed():
    before, used = hardware.peak_memory_bytes(), hardware.memory_in_use_bytes()
    size = before - used + 64_000_000  # what earlier tests freed has to be filled first
    block = torch.ones(size // 4)
    in_use = hardware.memory_in_use_bytes()
    del block
    grown = hardware.peak_memory_bytes() - before
    assert 32_000_000 < grown < 128_000_000
    assert in_use - used > 0.8 * size
    assert hardware.memory_in_use_bytes() < in_use - 0.5 * size


def test_free_disk_is_told_for_a_folder_that_does_not_exist_yet(tmp_path):
    assert hardware.free_disk_bytes(tmp_path / "not" / "yet") > 0
    assert not (tmp_path / "not").exists()
    assert hardware.free_memory_bytes() > 0


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False), ("", False), (None, False)])
def test_a_headless_run_is_recognized_by_its_environment(monkeypatch, value, expected):
    if value is not None:
        monkeypatch.setenv("FINETUNE_UNDER_RUN", value)
    assert hardware.under_run() is expected


def test_quiet_hides_what_tells_a_learner_nothing_and_no_other_warning(monkeypatch):
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "a sentinel")
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        hardware.quiet()
        warnings.warn("the model has is_gradient_checkpointing set", stacklevel=1)
        warnings.warn("your labels are upside down", stacklevel=1)
    assert [str(w.message) for w in seen] == ["your labels are upside down"]
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "a sentinel"


def test_the_description_agrees_with_the_choice(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fake_cpu(monkeypatch, amx=True)
    told = hardware.describe()
    assert (told["device"], told["precision"]) == ("cpu", "bf16")
    assert told["precision_reason"] == choose_precision(CPU).reason
    assert all(told.values())


def test_precisions_say_whether_they_have_16_bits():
    assert not FP32.low
    assert hardware.Precision(torch.float16, "fp16", "r").low


def test_every_seed_moves_with_the_one_in_the_environment(monkeypatch):
    draws = {}
    for extra in ("", "0", "5"):
        monkeypatch.setenv("FINETUNE_SEED", extra)
        hardware.set_seed(7)
        draws[extra] = float(torch.rand(1))
    monkeypatch.setenv("FINETUNE_SEED", "")
    hardware.set_seed(12)
    assert draws[""] == draws["0"] != draws["5"] == float(torch.rand(1))


@pytest.mark.parametrize("wrong", ["-1", "one", "1.5"])
def test_a_seed_that_is_no_number_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("FINETUNE_SEED", wrong)
    with pytest.raises(UserError, match="FINETUNE_SEED"):
        hardware.set_seed(0)


@pytest.mark.parametrize(
    ("machine", "seed", "name"),
    [("", "", ""), ("", "2", "2"), ("amd-zen4", "", "amd-zen4"), ("amd-zen4", "3", "amd-zen4-3")],
)
def test_a_repeat_is_named_by_its_machine_and_its_seed(monkeypatch, machine, seed, name):
    monkeypatch.setenv("FINETUNE_REPEAT", machine)
    monkeypatch.setenv("FINETUNE_SEED", seed)
    assert hardware.repeat_name() == name
    hardware.set_seed(7)
    drawn = float(torch.rand(1))
    monkeypatch.delenv("FINETUNE_REPEAT")
    hardware.set_seed(7)
    assert drawn == float(torch.rand(1)), "the name of a machine moves no seed"


@pytest.mark.parametrize("wrong", ["2", "epyc-9004", "../up", "my laptop", "-"])
def test_a_machine_needs_a_plain_name_that_is_no_seed(monkeypatch, wrong):
    monkeypatch.setenv("FINETUNE_REPEAT", wrong)
    with pytest.raises(UserError, match="FINETUNE_REPEAT"):
        hardware.repeat_name()
