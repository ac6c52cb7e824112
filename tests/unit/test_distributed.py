"""Two real processes against one: the same losses, one set of files, one voice; and the configurations that start them."""

import json
import os

import pytest
import torch

from finetune_utils import distributed, processes
from finetune_utils.batching import fill_last_batch
from finetune_utils.distributed import CONFIGS, launch, launch_command, loss_gap, read_losses
from finetune_utils.errors import UserError
from finetune_utils.tokenization import IGNORE

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)

pytestmark = pytest.mark.timeout(900)  # programs are started, and a busy machine is slow at that


@pytest.fixture
def words(save, rows, model_dir, tmp_path):
    """A `finetune` of 21 steps of 4 rows; in the last step only 2 rows are left, so one process gets none of them."""
    options = ["--epochs", 82 / 12, "--batch-size", 4, "--test-size", 0, "--learning-rate", 0.01]
    return lambda name: ["finetune", save(rows), "--model", model_dir, "--output", tmp_path / name, *options]


@needs_gloo
def test_two_processes_have_the_losses_of_one(words, run, tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_PRECISION", "fp32")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = run(*words("one"))
    assert done.code == 0, done.err
    printed = launch(words("two"))
    one, two = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    gap = loss_gap(one, two)
    assert gap.steps == 21
    assert one[0] - one[-1] > 0.05, "a run that learns nothing has the same losses however it is dealt out"
    assert gap.first < 1e-6
    assert gap.largest < 1e-4
    assert printed.count("Recognized") == 1, "both processes speak"
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
    assert records[0]["settings"] == records[1]["settings"]
    assert records[1]["status"] == "complete"
    names = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert names[0] == names[1], "two processes leave other files than one"


@needs_gloo
def test_a_batch_that_cannot_be_dealt_out_is_refused_in_one_line(words):
    options = words("odd")
    options[options.index("--batch-size") + 1] = 3
    with pytest.raises(UserError, match="A batch of 3 rows cannot be dealt out to 2 processes"):
        launch(options)


def test_a_failing_run_shows_its_own_message(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        launch(["finetune", tmp_path / "gone.jsonl", "--output", tmp_path / "x"], processes=1)


def test_alone_there_is_nobody_to_wait_for(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.join()
    processes.wait()
    processes.leave()
    assert (processes.count(), processes.is_first(), processes.agree("mine")) == (1, True, "mine")
    assert processes.share_of(7) == 7


def test_shares_are_equal_or_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    assert processes.share_of(12) == 4
    with pytest.raises(UserError, match="multiple of 3"):
        processes.share_of(8)


def test_the_last_batch_is_filled_with_rows_that_count_nothing():
    whole = [{"input_ids": [5, 6], "labels": [5, 6]}] * 5
    filled = fill_last_batch(whole, 4, token=-8)
    assert len(filled) == 8
    assert filled[:5] == whole
    assert filled[5:] == [{"input_ids": [-8], "labels": [IGNORE]}] * 3
    assert fill_last_batch(whole[:4], 4, token=-8) == whole[:4]


def test_accelerate_reads_the_configuration_for_gpus():
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.utils import DistributedType

    config = load_config_from_file(str(CONFIGS / "fsdp.yaml"))
    assert config.distributed_type == DistributedType.FSDP
    assert (config.mixed_precision, config.num_processes, config.use_cpu) == ("bf16", 2, False)
    assert config.fsdp_config["fsdp_version"] == 2


def test_accelerate_turns_the_configuration_into_a_plan_to_share_the_layers(monkeypatch, tiny_model):
    """The launcher's own parsing: file, arguments, environment, plugin. Layers of a Llama are what is shared."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS / "fsdp.yaml"), "train.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert arguments.use_fsdp
    for name, value in prepare_multi_gpu_env(arguments).items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    plugin.set_auto_wrap_policy(tiny_model())
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert {layer.__name__ for layer in wrapped} == {"LlamaDecoderLayer"}


def test_the_configuration_for_a_cpu_starts_two_processes_without_a_gpu():
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS / "two_processes.yaml"), "train.py"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert (arguments.multi_gpu, arguments.use_cpu, arguments.num_processes) == (True, True, 2)


def test_the_command_names_the_configuration_and_a_port_of_its_own():
    first, second = launch_command(["doctor"]), launch_command(["doctor"], processes=4)
    assert first[-3:] == ["-m", "finetune_utils", "doctor"]
    assert first[first.index("--config_file") + 1].endswith("two_processes.yaml")
    assert second[second.index("--num_processes") + 1] == "4"
    ports = [command[command.index("--main_process_port") + 1] for command in (first, second)]
    assert all(int(port) > 1023 for port in ports)
    with pytest.raises(UserError, match="no configuration 'tpu': choose one of fsdp, two_processes"):
        launch_command(["doctor"], config="tpu")


def test_runs_of_different_length_are_not_compared():
    assert loss_gap([4.0, 2.0], [4.0 + 2e-7, 2.002]).largest == pytest.approx(1e-3)
    for other in ([4.0], []):
        with pytest.raises(UserError, match="equally long"):
            loss_gap([4.0, 2.0] if other else [], other)


def test_only_steps_with_a_loss_are_read(tmp_path):
    (tmp_path / distributed.HISTORY_FILE).write_text('{"step": 1, "loss": 3.5}\n{"step": 2, "eval_nll": 9.0}\n')
    assert read_losses(tmp_path) == [3.5]
