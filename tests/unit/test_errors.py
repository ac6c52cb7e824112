"""A user's mistake fits on one line and says where, what, and what to do."""

import errno

import pytest

from finetune_utils.errors import UserError, os_reason, out_of_memory, system_error, writing


def test_the_standard_line_names_place_finding_expectation_and_remedy():
    error = UserError.at("rows.jsonl", 17, found="an empty answer", expected="some text", do="fill it in")
    assert str(error) == "rows.jsonl:17: found an empty answer; expected some text; fill it in."


def test_parts_that_are_not_known_are_left_out():
    assert str(UserError.at("rows.jsonl", found="nothing")) == "rows.jsonl: found nothing."
    assert str(UserError.at("a.csv", 3, found="x", do="mend it")) == "a.csv:3: found x; mend it."


def test_a_message_is_always_one_line():
    assert str(UserError("first\n\tsecond   third \n")) == "first second third"
    assert str(UserError.at("f", 1, found="a\nb")) == "f:1: found a b."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "permission denied"),
        (OSError("Broken Stick"), "broken stick"),
        (TimeoutError(), "timeouterror"),
    ],
)
def test_the_reason_of_the_operating_system_is_told_in_plain_words(error, words):
    assert os_reason(error) == words


TORCH = "[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"
TENSORS = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system"),
        (RuntimeError(TORCH), "no space left on device"),
        (Exception(TENSORS), "no space left on device"),
        (Exception(TENSORS.replace("28", "13")), "permission denied"),
    ],
)
def test_a_refusal_to_write_is_one_line_whichever_library_met_it(error, reason):
    with pytest.raises(UserError) as caught, writing("out/checkpoint-8", "free some space"):
        raise error
    assert str(caught.value) == f"out/checkpoint-8: found that it cannot be written ({reason}); free some space."
    assert caught.value.__cause__ is error


def test_other_errors_pass_unchanged():
    assert system_error(RuntimeError("PytorchStreamReader failed reading zip archive, inline_container.cc")) is None
    with pytest.raises(ZeroDivisionError), writing("out", "free some space"):
        raise ZeroDivisionError("a bug")
    with pytest.raises(UserError, match=r"^rows:7: bad$"), writing("out", "free some space"):
        raise UserError("rows:7: bad")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_memory_that_ran_out_is_recognized_whoever_says_so(error, expected):
    assert out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), errno.EACCES),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (Exception("Error while serializing: I/O error: Permission denied (os error 13)"), errno.EACCES),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), errno.ENOSPC),
        (RuntimeError("[enforce fail at inline_container.cc:145] . PytorchStreamReader failed reading"), None),
        (ValueError("the rank is 0"), None),
        (UserError("the disk is full"), None),
    ],
)
def test_the_refusal_of_the_system_is_found_behind_other_errors(error, number):
    cause = system_error(error)
    assert (cause.errno if cause else None) == number


def test_only_refusals_to_write_are_turned_into_a_line():
    with (
        pytest.raises(UserError, match=r"out: found that it cannot be written \(no space left on device\); free some."),
        writing("out", "free some"),
    ):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
    for error in (ValueError("a bug"), UserError("already clear"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, writing("out", "free some"):
            raise error
        assert caught.value is error
