"""The pages beside the lessons: glossary, CONTRIBUTING, issue form."""

import re
from pathlib import Path

import pytest
import yaml

from finetune_utils.__main__ import cli
from finetune_utils.doctor import doctor
from finetune_utils.placeholders import PLACEHOLDER
from finetune_utils.sources import all_lessons

ROOT = Path(__file__).resolve().parents[2]
WRITTEN_LESSONS = 4  # later ones are named in the glossary before they exist
ENTRY = re.compile(r"\*\*(?P<term>[^*]+)\*\* \(lesson (?P<lesson>\d\d)\): (?P<definition>.+)", re.DOTALL)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def entries():
    blocks = [block.strip() for block in read("docs/glossary.md").split("\n\n")[2:]]
    found = [ENTRY.fullmatch(block) for block in blocks]
    assert all(found), f"not an entry: {[b for b, m in zip(blocks, found, strict=True) if not m]}"
    return [(m["term"], m["lesson"], " ".join(m["definition"].split())) for m in found]


def test_the_glossary_is_alphabetical_and_defines_each_term_once():
    terms = [term.casefold() for term, _, _ in entries()]
    assert len(terms) >= 60
    assert terms == sorted(terms)
    assert len(set(terms)) == len(terms)


def test_every_definition_is_one_or_two_sentences():
    for term, _, definition in entries():
        assert 5 <= len(definition.split()) <= 50, term
        assert 1 <= len(re.findall(r"[.!?](?= |$)", definition)) <= 2, term
        assert definition[0].isupper(), term
        assert definition[-1] == ".", term


def test_every_term_names_a_lesson_that_exists():
    written = {lesson.number for lesson in all_lessons(ROOT)}
    planned = {f"{number:02}" for number in range(WRITTEN_LESSONS + 1, 11)}
    assert {lesson for _, lesson, _ in entries()} <= written | planned


@pytest.mark.parametrize("term", ["untuned model", "base model", "redirect", "leak", "NLL", "LoRA", "label mask"])
def test_the_words_that_the_course_leans_on_are_defined(term):
    assert term in {name for name, _, _ in entries()}


def form():
    content = yaml.safe_load(read(".github/ISSUE_TEMPLATE/problem.yml"))
    fields = {item["id"]: item for item in content["body"] if item["type"] != "markdown"}
    assert len(fields) == len([x for x in content["body"] if x["type"] != "markdown"]), "an id occurs twice"
    return content, fields


def test_the_issue_form_asks_for_lesson_cell_and_doctor():
    content, fields = form()
    assert content["name"]
    assert content["description"]
    assert {"lesson", "cell", "happened", "doctor"} <= set(fields)
    assert all(field["attributes"]["label"] for field in fields.values())
    assert all(fields[name]["validations"]["required"] for name in ("lesson", "cell", "happened", "doctor"))
    assert "python -m finetune_utils doctor" in fields["doctor"]["attributes"]["label"]
    assert "doctor" in cli.commands
    assert doctor(), "what the form asks for can be printed"


def test_the_issue_form_lists_every_lesson():
    _, fields = form()
    listed = {option[:2] for option in fields["lesson"]["attributes"]["options"]}
    assert {lesson.number for lesson in all_lessons(ROOT)} <= listed


def test_contributing_names_commands_and_files_that_exist():
    text = read(".github/CONTRIBUTING.md")
    assert len(text.splitlines()) <= 120
    makefile = read("Makefile")
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in re.findall(r"-m finetune_utils ([a-z]+)", text):
        assert command in cli.commands, command
    for path in re.findall(r"`((?:data|docs|tests|notebooks|\.github|\.ci)/[\w./-]*)`", text):
        assert "NN" in path or "NAME" in path or (ROOT / path).exists(), path
    assert PLACEHOLDER.search(text)
