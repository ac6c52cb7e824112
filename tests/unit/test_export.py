"""Merged weights and GGUF files that load back and write the same text; nothing half-written stays."""

import json

import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFReader

from finetune_utils import export, gguf_file
from finetune_utils.errors import UserError
from finetune_utils.export import export_merged, load_gguf, same_texts
from finetune_utils.gguf_file import pair_rows, write_gguf
from finetune_utils.lora import add_lora
from finetune_utils.models import load_model
from finetune_utils.prompts import render_prompt

PROMPTS = ["What is an adapter?", "Explain the label mask to me.", "token token"]


def silent(message):
    pass


@pytest.fixture
def prompts(tokenizer):
    return [render_prompt({"question": text}, tokenizer, "chat") for text in PROMPTS]


@pytest.fixture
def moved_dir(tuned_dir):
    """The tuned folder, its adapter pushed far enough to change what the model writes."""
    from safetensors.torch import load_file, save_file

    path = tuned_dir / "adapter_model.safetensors"
    torch.manual_seed(3)
    save_file({name: torch.randn_like(t) * 0.3 for name, t in load_file(path).items()}, path, {"format": "pt"})
    return tuned_dir


def test_merged_weights_write_what_the_adapter_wrote(moved_dir, model_dir, tmp_path, prompts):
    folder = export_merged(moved_dir, tmp_path / "merged", say=silent)
    tuned, merged = load_model(str(moved_dir), say=silent), load_model(str(folder), say=silent)
    assert not hasattr(merged[0], "peft_config")
    assert same_texts(tuned, merged, prompts) == [True] * 3
    untuned = load_model(str(model_dir), say=silent)
    assert not all(same_texts(untuned, merged, prompts)), "the adapter changes nothing, so nothing was tested"
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "run.json", "README.md"} <= names
    assert not any(name.startswith("adapter") for name in names)
    assert "merged into the weights" in (folder / "README.md").read_text()


def test_a_gguf_file_in_float32_reads_back_to_the_same_weights_and_texts(
    model_dir, tokenizer, tmp_path, prompts, capfd
):
    folder = export_merged(model_dir, tmp_path / "plain", gguf="f32", say=silent)
    before, after = load_model(str(folder), say=silent), load_gguf(folder / "model-f32.gguf")
    assert "Converting" not in capfd.readouterr().err, "a notebook would keep this progress bar"
    state = after.state_dict()
    for name, tensor in before[0].state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert same_texts(before, (after, before[1]), prompts) == [True] * 3
    read_back = transformers.AutoTokenizer.from_pretrained(folder, gguf_file="model-f32.gguf")
    for text in [*prompts, "Spelling: \u00e9t\u00e9, 1234 ..."]:
        assert read_back(text).input_ids == tokenizer(text).input_ids
    fields = GGUFReader(folder / "model-f32.gguf").fields
    told = [fields[f"tokenizer.ggml.{name}_token_id"].contents() for name in ("bos", "eos", "padding")]
    assert told == [11, 13, 7], "other programs would not know where an answer ends"


@pytest.mark.parametrize(("kind", "error"), [("f16", 5e-4), ("q8_0", 0.02)])
def test_smaller_kinds_round_the_weights_and_no_more(tiny_model, tokenizer, tmp_path, kind, error):
    model = tiny_model(intermediate_size=64)
    state = load_gguf(write_gguf(model, tokenizer, tmp_path / "m.gguf", kind)).state_dict()
    for name, tensor in model.state_dict().items():
        gap = (state[name] - tensor).abs().max() / tensor.abs().max()
        assert gap < error, name
    rounded = [name for name, tensor in model.state_dict().items() if not torch.equal(state[name], tensor)]
    assert rounded
    assert not any("norm" in name for name in rounded)


def test_rows_that_do_not_fill_a_block_of_8_bits_stay_in_16(tiny_model, tokenizer, tmp_path):
    kinds = {
        t.name: t.tensor_type
        for t in GGUFReader(write_gguf(tiny_model(), tokenizer, tmp_path / "m.gguf", "q8_0")).tensors
    }
    assert kinds["blk.0.ffn_down.weight"] == GGMLQuantizationType.F16  # 48 numbers a row
    assert kinds["blk.0.ffn_up.weight"] == GGMLQuantizationType.Q8_0
    assert kinds["output_norm.weight"] == GGMLQuantizationType.F32


def test_tied_embeddings_are_written_once(tiny_model, tokenizer, tmp_path):
    for tied in (True, False):
        model = tiny_model(tie_word_embeddings=tied)
        reader = GGUFReader(write_gguf(model, tokenizer, tmp_path / f"{tied}.gguf", "f32"))
        assert ("output.weight" in {t.name for t in reader.tensors}) is not tied
        assert reader.fields["tokenizer.ggml.pre"].contents() == "smollm"
        assert reader.fields["tokenizer.chat_template"].contents() == tokenizer.chat_template


def test_rows_of_a_head_are_paired_by_hand():
    weight = torch.arange(8.0)[:, None]  # two heads of four rows
    assert pair_rows(weight, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_what_cannot_be_written_is_refused_in_one_line(tiny_model, tokenizer, tmp_path):
    with pytest.raises(UserError, match="Unknown kind of GGUF file 'q4': choose one of f32, f16, q8_0"):
        write_gguf(tiny_model(), tokenizer, tmp_path / "x.gguf", "q4")
    with pytest.raises(UserError, match="only a merged Llama"):
        write_gguf(add_lora(tiny_model()), tokenizer, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention_bias": True}, "biases in its linear layers"),
        ({"mlp_bias": True}, "biases in its linear layers"),
        ({"head_dim": 16}, "heads of 16 numbers instead of 8"),
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            r"scaled positions \(linear\)",
        ),
    ],
)
def test_nothing_of_a_model_is_left_out_in_silence(tiny_model, tokenizer, tmp_path, changes, said):
    with pytest.raises(UserError, match=said + ", which this writer would leave out"):
        write_gguf(tiny_model(**changes), tokenizer, tmp_path / "x.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing_behind(model_dir, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf_file, "_add_tensor", full_disk)
    with pytest.raises(UserError, match="no space left on device"):
        export_merged(model_dir, tmp_path / "out", gguf="f32", say=silent)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(model_dir, tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(UserError, match="exists already"):
        export_merged(model_dir, tmp_path / "kept", say=silent)
    with pytest.raises(UserError, match="Unknown number format 'int3'"):
        export_merged(model_dir, tmp_path / "new", dtype="int3", say=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_half_the_bytes_in_16_bits(model_dir, tmp_path):
    sizes = [
        (export_merged(model_dir, tmp_path / dtype, dtype, say=silent) / "model.safetensors").stat().st_size
        for dtype in ("fp32", "bf16")
    ]
    assert sizes[1] < 0.6 * sizes[0]
    assert json.loads((tmp_path / "bf16" / "config.json").read_text())["dtype"] == "bfloat16"
    assert set(export.DTYPES) == {"fp32", "bf16", "fp16"}


def test_the_command_exports(moved_dir, tmp_path, run):
    done = run("export", "--model", moved_dir, "--output", tmp_path / "out", "--gguf", "f16")
    assert done.code == 0, done.err
    assert "Merged the adapter" in done.out
    assert (tmp_path / "out" / "model-f16.gguf").is_file()
    assert run("export", "--model", moved_dir, "--output", tmp_path / "out").code == 2
