"""`finetune`, `evaluate` and `generate` on every shape of row, from the command line."""

import json

import pytest

from finetune_utils.commands import format_evaluation, format_example
from finetune_utils.data import read_rows
from finetune_utils.run_record import read_record

QUICK = ("--max-steps", 2, "--batch-size", 2, "--learning-rate", "5e-3")


def as_messages(row, system=None):
    turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + turns}


SHAPES = {
    "question/answer": lambda row: row,
    "instruction/output": lambda row: {"instruction": "Explain.", "input": row["question"], "output": row["answer"]},
    "instruction/response": lambda row: {"instruction": row["question"], "response": row["answer"]},
    "input/output": lambda row: {"input": row["question"], "output": row["answer"]},
    "prompt/completion": lambda row: {"prompt": row["question"], "completion": row["answer"]},
    "messages": as_messages,
    "text": lambda row: {"text": f"{row['question']} {row['answer']}"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_goes_through_all_three_commands(shape, rows, save, run, model_dir, tmp_path):
    data, folder = save([SHAPES[shape](row) for row in rows]), tmp_path / "tuned"
    done = run("finetune", data, "--model", model_dir, "--output", folder, *QUICK, "--json")
    assert (done.code, done.json["output"]) == (0, str(folder))
    assert done.json["results"]["steps"] == 2
    assert "Recognized 12 rows of" in done.err
    kind = {"messages": "messages", "text": "text"}.get(shape, "question/answer")
    assert f"12 rows of {kind} (from column" in done.err
    assert {"run.json", "test.jsonl", "adapter_model.safetensors"} <= {p.name for p in folder.iterdir()}
    assert not list(folder.glob("checkpoint-*"))

    done = run("evaluate", data, "--model", folder, "--max-new-tokens", 3, "--json")
    assert done.code == 0, done.err
    report = done.json
    assert report["rows"] == 12
    assert report["seen_rows"] == len(read_record(folder).train_rows) == report["seen"]["rows"]
    assert report["unseen"]["rows"] == len(read_rows(folder / "test.jsonl")) == 12 - report["seen_rows"]
    assert report["unseen"]["nll_untuned"] != report["unseen"]["nll_tuned"]
    assert ("answers" in report) == (shape != "text")

    if shape == "text":
        done = run("generate", "--model", folder, "--max-new-tokens", 3, "--json", "Once upon a time")
        assert (done.code, len(done.json)) == (0, 1)
        return
    done = run("generate", "--model", folder, "--input", data, "--max-new-tokens", 3, "--json")
    assert done.code == 0, done.err
    assert [row["question"].split("\n\n")[-1] for row in done.json] == [row["question"] for row in rows]
    assert all(isinstance(row["generated"], str) for row in done.json)


def test_finetune_tells_a_person_what_it_did(rows, save, run, model_dir, tmp_path):
    folder = tmp_path / "tuned"
    done = run("finetune", save(rows), "--model", model_dir, "--output", folder, *QUICK)
    assert done.code == 0, done.err
    for words in (
        "Recognized 12 rows of question/answer (from columns question, answer).",
        "Model tiny-llama: from the folder",
        "8 rows to train on, 4 to test on;",
        "Needs about",
        "of the tokens: the answers and their ends; prompts are masked.",
        "Trained 2 steps in",
        "Test NLL per token:",
        "on 4 unseen rows (change ",
        "95 % interval",
        "  Question  ",
        "  Before    ",
        "  After     ",
        f"Saved to {folder}.",
    ):
        assert words in done.out


def test_all_weights_can_be_trained_and_the_result_stands_alone(rows, save, run, model_dir, tmp_path):
    folder = tmp_path / "tuned"
    done = run("finetune", save(rows), "--model", model_dir, "--output", folder, *QUICK, "--full", "--json")
    assert done.code == 0, done.err
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "run.json", "test.jsonl"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    for path in model_dir.iterdir():
        path.unlink()
    assert run("generate", "--model", folder, "--max-new-tokens", 2, "Why?").code == 0


def test_json_is_all_there_is_on_the_standard_output(rows, save, run, model_dir, tuned_dir, tmp_path):
    assert isinstance(run("doctor", "--json").json, dict)
    done = run("evaluate", save(rows), "--model", tuned_dir, "--max-new-tokens", 2, "--json")
    assert isinstance(done.json, dict)
    assert "Model tiny-llama" in done.err
    done = run("generate", "--model", tuned_dir, "--max-new-tokens", 2, "--json", "Why", "so", "slow?")
    assert [row["question"] for row in done.json] == ["Why so slow?"]
    assert "Adapter: from the folder" in done.err


def test_a_number_that_is_not_finite_is_null_in_json(run, monkeypatch):
    monkeypatch.setattr("finetune_utils.doctor.doctor", lambda: {"loss": float("nan"), "rate": float("inf"), "ok": 0.5})
    assert run("doctor", "--json").json == {"loss": None, "rate": None, "ok": 0.5}


def test_the_saved_test_rows_are_unseen_and_the_others_seen(rows, save, run, tuned_dir):
    test_rows = [(row["question"], row["answer"]) for row in read_rows(tuned_dir / "test.jsonl")]
    trained = [row for row in rows if (row["question"], row["answer"]) not in test_rows]
    assert not {row["answer"] for row in trained} & {answer for _, answer in test_rows}

    report = run("evaluate", tuned_dir / "test.jsonl", "--model", tuned_dir, "--max-new-tokens", 2, "--json").json
    assert (report["rows"], report["seen_rows"]) == (len(test_rows), 0)
    assert "seen" not in report
    # Letter case and spaces do not make a row new.
    loud = [{"question": f" {row['question'].upper()} ", "answer": row["answer"]} for row in trained]
    new = {"question": "What is a row?", "answer": "It is one example."}
    done = run("evaluate", save([*loud, new], "mixed.jsonl"), "--model", tuned_dir, "--max-new-tokens", 2)
    assert done.code == 0, done.err
    assert f"{len(trained)} of them were trained on; they are scored apart." in done.out
    assert "Rows not trained on: 1\n" in done.out
    assert f"Rows trained on (recall, not skill): {len(trained)}\n" in done.out


def test_a_model_that_this_course_did_not_train_can_be_scored_too(rows, save, run, model_dir):
    done = run("evaluate", save(rows), "--model", model_dir, "--max-new-tokens", 2)
    assert done.code == 0, done.err
    assert "no run.json: which rows it was trained on is not known" in done.out
    assert "\nAll rows: 12\n" in done.out
    assert "no untuned model to compare with" in done.out


def test_evaluate_without_answers_only_scores(rows, save, run, tuned_dir):
    report = run("evaluate", save(rows), "--model", tuned_dir, "--answers", 0, "--json").json
    assert "answers" not in report
    assert report["unseen"]["nll_tuned"] > 0


def test_exact_match_ignores_case_and_spaces(rows, save, run, tuned_dir, monkeypatch):
    said = {"untuned": "no idea", "tuned": " IT holds few weights\nbeside a frozen model. "}
    calls = []

    def generate(model, tokenizer, prompts, *_, **__):
        calls.append("untuned" if not calls else "tuned")
        return [said[calls[-1]]] * len(prompts)

    monkeypatch.setattr("finetune_utils.commands.generate", generate)
    fresh = [{"question": f"Wording {n} of {row['question']}", "answer": row["answer"]} for n, row in enumerate(rows)]
    values = run("evaluate", save(fresh, "fresh.jsonl"), "--model", tuned_dir, "--json").json["answers"]
    assert (values["exact_match_untuned"], values["exact_match_tuned"]) == (0.0, 2 / 12)
    assert values["exact_match_change_low"] <= 2 / 12 <= values["exact_match_change_high"]
    assert values["examples"][0] == {
        "question": fresh[0]["question"],
        "reference": fresh[0]["answer"],
        **said,
    }


def test_a_conversation_is_asked_up_to_its_last_question(rows, save, run, model_dir, tmp_path, monkeypatch):
    talk = as_messages(rows[0], system="Be brief.")["messages"]
    talk += [{"role": "user", "content": "And why?"}, {"role": "assistant", "content": "Because it works."}]
    others = [as_messages(row) for row in rows]
    folder = tmp_path / "tuned"
    assert run("finetune", save(others), "--model", model_dir, "--output", folder, *QUICK).code == 0
    seen = []

    def generate(model, tokenizer, prompts, *_, **__):
        seen.extend(prompts)
        return ["because  IT works."] * len(prompts)

    monkeypatch.setattr("finetune_utils.commands.generate", generate)
    data = save([{"messages": talk}], "talk.jsonl")
    answers = run("evaluate", data, "--model", folder, "--json").json["answers"]
    assert answers["exact_match_tuned"] == 1.0
    assert answers["examples"][0]["question"] == "And why?"
    assert run("generate", "--input", data, "--model", folder, "--json").json[0]["question"] == "And why?"
    assert run("generate", "--input", save([{"messages": talk[:-1]}], "open.jsonl"), "--model", folder).code == 0
    assert len(set(seen)) == 1
    assert seen[0].startswith("<|im_start|>system\nBe brief.<|im_end|>")
    assert rows[0]["answer"] in seen[0]
    assert seen[0].endswith("And why?<|im_end|>\n<|im_start|>assistant\n")


def test_what_was_trained_is_what_is_asked(rows, save, run, model_dir, tmp_path, monkeypatch):
    """The prompt of `generate` is a prefix of what the trainer saw, without a chat template too."""
    (model_dir / "chat_template.jinja").unlink(missing_ok=True)
    folder = tmp_path / "tuned"
    trained = []

    def spy(model, tokenizer, examples, *_, **__):
        trained.extend(tokenizer.decode(example["input_ids"]) for example in examples)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("finetune_utils.quickstart.train", spy)
        assert run("finetune", save(rows), "--model", model_dir, "--output", folder, *QUICK).code == 130
    assert run("finetune", save(rows), "--model", model_dir, "--output", folder, *QUICK, "--resume").code == 0
    asked = []
    monkeypatch.setattr(
        "finetune_utils.commands.generate", lambda model, tokenizer, prompts, *_, **__: asked.extend(prompts) or [""]
    )
    question = next(row["question"] for row in rows if any(row["question"] in text for text in trained))
    assert run("generate", "--model", folder, question).code == 0
    assert asked[0] == f"### Question:\n{question}\n\n### Answer:\n"
    assert sum(text.startswith(asked[0]) for text in trained) == 1


def test_generate_writes_answers_beside_the_rows(run, save, model_dir, tmp_path):
    rows = [{"question": "Why?", "topic": "t7"}, {"question": "How so?", "topic": "t9"}]
    output = tmp_path / "answers.jsonl"
    done = run("generate", "--model", model_dir, "--input", save(rows), "--output", output, "--max-new-tokens", 3)
    assert (done.code, done.out) == (0, f"Wrote 2 answers to {output}.\n")
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["question"], row["topic"]) for row in written] == [("Why?", "t7"), ("How so?", "t9")]
    assert [list(row)[-1] for row in written] == ["generated", "generated"]


def test_answers_come_in_the_order_of_the_rows_whatever_the_batch(run, save, model_dir):
    rows = [{"question": "Why? " * (1 + 5 * (n % 3)) + str(n)} for n in range(7)]
    words = ("generate", "--model", model_dir, "--input", save(rows), "--max-new-tokens", 4, "--json")
    batched, alone = run(*words).json, run(*words, "--batch-size", 1).json
    assert [row["question"] for row in batched] == [row["question"] for row in rows]
    assert len({row["generated"] for row in batched}) > 1
    assert batched == alone


def test_generate_prints_plain_answers_for_a_person(run, save, model_dir):
    one = run("generate", "--model", model_dir, "--max-new-tokens", 3, "Why?")
    assert one.code == 0
    assert one.out.count("\n") >= 1
    many = run("generate", "--model", model_dir, "--max-new-tokens", 3, "--input", save([{"question": "Why?"}]))
    assert many.out == f"Why?\n  {one.out}"


def test_an_answer_without_a_word_is_said_to_be_so():
    shown = format_example({"question": "Why?", "reference": "So.", "before": "", "after": "So."})
    assert shown.splitlines()[1:] == [
        "  Question  Why?",
        "  Reference So.",
        "  Before    (nothing)",
        "  After     So.",
    ]


def test_a_report_names_both_numbers_and_the_interval():
    part = {"rows": 7, "nll_untuned": 3.25, "nll_tuned": 2.5, "nll_change": -0.75}
    part |= {"nll_change_low": -0.875, "nll_change_high": -0.625}
    report = {"rows": 7, "data": "d.jsonl", "template": "chat", "training_known": True, "seen_rows": 0, "unseen": part}
    text = format_evaluation(report)
    assert "untuned 3.250, tuned 2.500" in text
    assert "change -0.750, 95 % interval -0.875 to -0.625" in text
