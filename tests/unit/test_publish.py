"""A card that says what the record says, and a push that needs to be meant. The hub is faked."""

import json
from pathlib import Path

import pytest

from finetune_utils import publish
from finetune_utils.errors import UserError
from finetune_utils.publish import model_card, plan_push, push_to_hub, write_card


class FakeHub:
    def __init__(self):
        self.created, self.files = [], {}

    def create_repo(self, repo_id, private, exist_ok):
        self.created.append((repo_id, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def online(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def carded(tuned_dir):
    write_card(tuned_dir)
    return tuned_dir


def change(folder, **values):
    record = json.loads((folder / "run.json").read_text())
    results = record["results"] | values.pop("results", {})
    (folder / "run.json").write_text(json.dumps(record | values | {"results": results}))


def test_every_figure_of_the_card_comes_from_the_record(tuned_dir):
    seven = {"nll_before": 7.125, "nll_after": 6.25, "nll_change": -0.875, "nll_change_low": -1.5, "nll_change_high": -0.25,
             "test_rows": 4321, "steps": 98765}  # fmt: skip
    change(tuned_dir, data="mine.jsonl", template="short-chat", results=seven)
    card = model_card(tuned_dir)
    assert "| 7.125 | 6.250 | -0.875 (-1.500 to -0.250) |" in card
    for text in ("4,321 rows", "98,765 steps", "`mine.jsonl`", "`short-chat`", "The interval excludes zero."):
        assert text in card
    change(tuned_dir, results={"nll_change_high": 0.5})
    assert "no difference was shown" in model_card(tuned_dir)


def test_a_run_without_test_rows_claims_nothing(tuned_dir):
    record = json.loads((tuned_dir / "run.json").read_text())
    record["results"] = {"steps": 2}
    (tuned_dir / "run.json").write_text(json.dumps(record))
    card = model_card(tuned_dir)
    assert "Not measured" in card
    assert "NLL" not in card


def test_the_card_begins_with_what_the_hub_reads_and_names_no_path(tuned_dir, model_dir):
    import yaml

    card = model_card(tuned_dir)
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == model_dir.name
    assert head["library_name"] == "peft"
    assert str(model_dir.parent) not in card
    change(tuned_dir, model="smollm2-135m")
    head = yaml.safe_load(model_card(tuned_dir).split("---")[1])
    assert (head["base_model"], head["license"]) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")


def test_an_unfinished_run_gets_no_card(tuned_dir, tmp_path):
    change(tuned_dir, status="running")
    with pytest.raises(UserError, match="an unfinished run"):
        model_card(tuned_dir)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no run.json"):
        model_card(tmp_path / "empty")


def test_a_push_lists_and_stops_until_the_name_is_repeated(carded, online):
    hub = FakeHub()
    for confirm in ("", "yes", "ada/other"):
        with pytest.raises(UserError, match="Nothing was uploaded.*adapter_model.safetensors.*'ada/model'"):
            push_to_hub(carded, "ada/model", confirm, api=hub)
    assert (hub.created, hub.files) == ([], {})


def test_a_meant_push_uploads_weights_and_card_and_keeps_rows_at_home(carded, model_dir, online):
    change(carded, model="smollm2-135m")
    write_card(carded)
    hub = FakeHub()
    assert push_to_hub(carded, "ada/model", confirm="ada/model", api=hub).endswith("/ada/model")
    assert hub.created == [("ada/model", True, True)], "private unless asked otherwise"
    assert sorted(hub.files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert (carded / "test.jsonl").is_file()
    config = json.loads(hub.files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert not any(str(model_dir).encode() in content for content in hub.files.values())
    assert str(model_dir) in (carded / "adapter_config.json").read_text(), "the file at home stays as it is"


def test_a_local_base_model_has_no_public_name(carded, online):
    hub = FakeHub()
    push_to_hub(carded, "ada/model", "ada/model", private=False, api=hub)
    assert hub.created[0][1] is False
    assert json.loads(hub.files["adapter_config.json"])["base_model_name_or_path"] is None


def test_a_card_that_does_not_fit_the_record_is_refused(carded):
    assert "README.md" in plan_push(carded)
    (carded / "README.md").write_text((carded / "README.md").read_text() + "The best model of its kind.\n")
    with pytest.raises(UserError, match="differs from the run's record"):
        plan_push(carded)
    (carded / "README.md").unlink()
    with pytest.raises(UserError, match="no card"):
        plan_push(carded)
    write_card(carded)
    (carded / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        plan_push(carded)


def test_offline_or_without_a_token_nothing_is_tried(carded, monkeypatch):
    hub = FakeHub()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        push_to_hub(carded, "ada/model", "ada/model", api=hub)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="no token"):
        push_to_hub(carded, "ada/model", "ada/model")
    assert hub.created == []


def test_what_goes_up_holds_no_rows_and_no_pickles():
    assert not any(name in publish.UPLOADED for name in ("run.json", "test.jsonl", "history.jsonl", "*"))
    assert not any(name.endswith((".bin", ".pt", ".jsonl")) for name in publish.UPLOADED)
