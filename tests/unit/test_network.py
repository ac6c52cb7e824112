"""The seal around the unit tests: a try to reach the network fails, also where the error is caught."""

import socket
import urllib.request
from pathlib import Path

import pytest

from finetune_utils import weights

NOWHERE = ("192.0.2.7", 443)  # an address reserved for documentation


@pytest.mark.parametrize(
    ("attempt", "named"),
    [
        (lambda: socket.create_connection(NOWHERE, timeout=1), "192.0.2.7"),
        (lambda: socket.socket().connect(NOWHERE), "192.0.2.7"),
        (lambda: socket.socket().connect_ex(NOWHERE), "192.0.2.7"),
        (lambda: socket.getaddrinfo("huggingface.co", 443), "huggingface.co"),
        (lambda: urllib.request.urlopen("https://huggingface.co"), "huggingface.co"),
    ],
)
def test_a_try_to_reach_the_network_fails_with_the_address(sealed, attempt, named):
    with pytest.raises(pytest.fail.Exception, match=f"tried to reach the network.*{named}"):
        attempt()
    assert named in sealed[0]
    sealed.clear()


def test_code_that_catches_every_error_does_not_hide_the_try(sealed):
    def careless():
        try:
            socket.create_connection(NOWHERE, timeout=1)
        except Exception:
            return "went on"

    with pytest.raises(pytest.fail.Exception):
        careless()
    assert len(sealed) == 1
    sealed.clear()


def test_this_machine_may_talk_to_itself():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_the_cache_of_models_is_empty_and_below_the_temporary_folder(tmp_path):
    assert weights.home() == tmp_path / "finetune-home"
    assert not weights.home().exists()
    assert weights.home() != Path.home() / ".cache" / "finetune_utils"
