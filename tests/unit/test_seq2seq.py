"""Encoder-decoders: pairs that end, two lengths of padding, a loss that counts tokens; a tiny T5 trains, scores, answers."""

import json
from types import SimpleNamespace

import pytest
import torch
import transformers

from finetune_utils.batching import SupervisedCollator, collator_for
from finetune_utils.data import load_rows
from finetune_utils.errors import UserError
from finetune_utils.generation import fast_copy, generate
from finetune_utils.hardware import FP32
from finetune_utils.lora import add_lora
from finetune_utils.models import load_seq2seq
from finetune_utils.nll import token_nll
from finetune_utils.seq2seq import PairCollator, count_pair, encode_pairs, is_encoder_decoder
from finetune_utils.summaries import with_wordings
from finetune_utils.tokenization import IGNORE
from finetune_utils.trainer import CourseTrainer
from finetune_utils.training import TrainSettings, train

ROWS = [
    {"question": "Sum up: Ana wants tea.", "answer": "Ana wants tea."},
    {"question": "Sum up: Bo sells the old lamp to Cy for ten.", "answer": "Cy buys a lamp."},
    {"question": "Sum up: no.", "answer": "No."},
    {"question": "Sum up: it rains and the game is off.", "answer": "The game is off because it rains."},
]


@pytest.fixture
def t5(tokenizer):
    """A tiny T5 with random weights, in eval mode."""

    def make(seed=0):
        torch.manual_seed(seed)
        config = transformers.T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        return transformers.T5ForConditionalGeneration(config).eval()

    return make


def test_a_pair_has_two_texts_that_both_end(tokenizer):
    first, *_, long = encode_pairs([*ROWS, {"question": "a " * 90, "answer": "b " * 90}], tokenizer, 40, 30)
    end = tokenizer.eos_token_id
    assert tokenizer.decode(first["input_ids"][:-1]) == ROWS[0]["question"]
    assert tokenizer.decode(first["labels"][:-1]) == ROWS[0]["answer"]
    assert (len(long["input_ids"]), len(long["labels"])) == (40, 30)
    for example in (first, long):
        assert example["input_ids"][-1] == example["labels"][-1] == end
        assert end not in example["labels"][:-1]


@pytest.mark.parametrize("field", ["question", "answer"])
def test_an_empty_half_is_named_with_its_row(tokenizer, field):
    with pytest.raises(UserError, match=f'2: found an empty "{field}"'):
        encode_pairs([ROWS[0], {**ROWS[1], field: ""}], tokenizer)


def test_questions_and_answers_are_padded_each_to_its_own_length():
    rows = [{"input_ids": [5] * 9, "labels": [6, 7, 13]}, {"input_ids": [5] * 4, "labels": [6, 13]}]
    batch = PairCollator(pad_token_id=7)(rows)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["labels"].shape == (2, 8)
    assert batch["attention_mask"].sum(dim=1).tolist() == [9, 4]
    assert batch["input_ids"][1].tolist() == [5] * 4 + [7] * 12
    assert batch["labels"][0].tolist() == [6, 7, 13] + [IGNORE] * 5  # a 7 that is no padding keeps its label
    assert [count_pair({"labels": row}) for row in batch["labels"].tolist()] == [3, 2]


def test_the_kind_of_model_decides_the_collator(t5, tiny_model, tokenizer):
    assert isinstance(collator_for(t5(), tokenizer), PairCollator)
    assert isinstance(collator_for(tiny_model(), tokenizer), SupervisedCollator)
    adapted = add_lora(t5(), rank=2, precision=FP32)
    assert is_encoder_decoder(adapted)
    assert adapted.active_peft_config.task_type == "SEQ_2_SEQ_LM"
    assert add_lora(tiny_model(), rank=2, precision=FP32).active_peft_config.task_type == "CAUSAL_LM"


def trainer_of(model, processes=1):
    """A trainer with only what its loss needs."""
    trainer = CourseTrainer.__new__(CourseTrainer)
    trainer.model, trainer.accelerator = model, SimpleNamespace(num_processes=processes)
    return trainer


def test_accumulated_losses_weigh_every_token_alike(t5, tokenizer):
    model, examples = t5(), encode_pairs(ROWS, tokenizer)
    collate, counts = PairCollator(tokenizer.pad_token_id), [count_pair(e) for e in examples]
    assert len(set(counts)) > 2
    trainer = trainer_of(model)
    whole = trainer.compute_loss(model, collate(examples))
    parts = sum(trainer.compute_loss(model, collate([e]), num_items_in_batch=sum(counts)) for e in examples)
    means = sum(trainer.compute_loss(model, collate([e])) for e in examples) / len(examples)
    assert torch.isclose(parts, whole, atol=1e-5)
    assert not torch.isclose(means, whole, atol=1e-4)
    assert torch.isclose(whole, model(**collate(examples)).loss, atol=1e-5)


def test_a_model_wrapped_for_several_processes_gets_the_loss_of_pairs(t5, tokenizer):
    model = t5()

    class Wrapped(torch.nn.Module):
        """Like DistributedDataParallel: passes calls on and has no `config`."""

        def forward(self, **inputs):
            return model(**inputs)

    end = tokenizer.eos_token_id
    batch = PairCollator(tokenizer.pad_token_id)([{"input_ids": [21, 22, end], "labels": [23, 24, 25, end]}])
    loss = trainer_of(model, processes=2).compute_loss(Wrapped(), batch, num_items_in_batch=16)
    assert loss.item() == pytest.approx(model(**batch).loss.item() * 4 * 2 / 16)


def test_the_score_of_a_row_does_not_depend_on_its_batch(t5, tokenizer):
    model, examples = t5(), encode_pairs(ROWS, tokenizer)
    together = token_nll(model, examples, tokenizer)
    alone = [token_nll(model, [example], tokenizer).sums[0] for example in examples]
    assert together.counts.tolist() == [len(e["labels"]) for e in examples]
    assert together.sums.tolist() == pytest.approx(alone, abs=1e-3)
    own = model(**PairCollator(tokenizer.pad_token_id)(examples)).loss.item()
    assert together.mean == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_courses_own_train_lowers_the_nll_of_a_t5(t5, tokenizer, accumulation):
    model, examples = t5(), encode_pairs(ROWS, tokenizer)
    before = token_nll(model, examples, tokenizer).mean
    settings = TrainSettings(max_steps=12, batch_size=2, accumulation=accumulation, learning_rate=5e-3)
    result = train(model, tokenizer, examples, settings, precision=FP32)
    assert result.steps == 12
    assert result.losses[0] == pytest.approx(before, rel=0.2)  # a mean over tokens, not multiplied by the accumulation
    assert token_nll(model, examples, tokenizer).mean < before - 0.3


def test_lora_trains_a_t5_and_leaves_its_weights_alone(t5, tokenizer):
    model, examples = add_lora(t5(), rank=4), encode_pairs(ROWS, tokenizer)
    frozen = {name: p.clone() for name, p in model.named_parameters() if "lora_" not in name}
    before = token_nll(model, examples, tokenizer).mean
    train(model, tokenizer, examples, TrainSettings(max_steps=12, batch_size=2, learning_rate=2e-2))
    assert token_nll(model, examples, tokenizer).mean < before - 0.1
    for name, parameter in model.named_parameters():
        assert "lora_" in name or torch.equal(parameter, frozen[name])


def test_answers_come_in_the_order_asked_and_without_the_start_token(t5, tokenizer):
    model, settings = t5(), TrainSettings(max_steps=100, batch_size=4, learning_rate=1e-2)
    train(model, tokenizer, encode_pairs(ROWS[:3], tokenizer), settings, precision=FP32)
    questions = [row["question"] for row in ROWS[:3]]
    together = generate(model, tokenizer, questions, max_new_tokens=40)
    assert together == [row["answer"] for row in ROWS[:3]]  # learned by heart, first token and stop included
    assert generate(model, tokenizer, questions[::-1], max_new_tokens=40, batch_size=1) == together[::-1]
    assert fast_copy(model, FP32) is not model


def test_a_folder_with_a_t5_is_loaded_and_dialogsum_rows_fit_it(t5, tokenizer, tmp_path):
    folder = tmp_path / "tiny-t5"
    t5().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    said = []
    model, loaded = load_seq2seq(str(folder), device=torch.device("cpu"), say=said.append)
    assert said == ["Model tiny-t5: an encoder-decoder from a folder."]
    raw = {"id": "train_0", "topic": "greeting", "summary": "#Person1# greets #Person2#.", "extra": 1,
           "dialogue": "#Person1#: Hi.\n#Person2#: Hello there."}  # fmt: skip
    path = tmp_path / "dialogsum.jsonl"
    path.write_text("".join(json.dumps({**raw, "id": f"train_{i}"}) + "\n" for i in range(3)), encoding="utf-8")
    rows = with_wordings(load_rows("knkarthick/dialogsum", source="hub", data_files=str(path)))
    examples = encode_pairs(rows, loaded)
    assert len(examples) == 3
    result = train(model, loaded, examples, TrainSettings(max_steps=2, batch_size=2, learning_rate=1e-3))
    assert result.steps == 2
    assert len(generate(model, loaded, [row["question"] for row in rows], max_new_tokens=4)) == 3


def test_a_decoder_only_model_is_refused_in_one_line(model_dir):
    with pytest.raises(UserError) as caught:
        load_seq2seq(str(model_dir))
    assert str(caught.value) == f"{model_dir}: found a model of type llama; expected an encoder-decoder such as T5."


def test_without_the_hub_one_line_says_so():
    with pytest.raises(UserError, match=r"The hub's model google/flan-t5-base: cannot be loaded") as caught:
        load_seq2seq("google/flan-t5-base")
    assert "\n" not in str(caught.value)
