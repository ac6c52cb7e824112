"""Fixtures of all tests: no network in the unit tier, a throwaway tokenizer, tiny models with random weights."""

from __future__ import annotations

import copy
import gc
import os
import socket
import tempfile
from pathlib import Path

# Read by the libraries when they are imported, so it has to stand before them.
_HUB_CACHE = tempfile.TemporaryDirectory(prefix="finetune-tests-")
os.environ |= {
    "HF_HOME": _HUB_CACHE.name,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402

from finetune_utils.hardware import cast_weights  # noqa: E402

# A busy machine is no reason to fail.
hypothesis.settings.register_profile("course", deadline=None)
hypothesis.settings.load_profile("course")

UNIT = Path(__file__).parent / "unit"
LOOPBACK = ("localhost", "127.0.0.1", "::1", "", None)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

# Ids that no hard-coded 0, 2 or -100 can be mistaken for.
PAD_ID, START_ID, END_ID = 7, 11, 13
SPECIALS = [f"<|extra_{i}|>" for i in range(14)]
SPECIALS[0], SPECIALS[PAD_ID] = "<|endoftext|>", "<|pad|>"
SPECIALS[START_ID], SPECIALS[END_ID] = "<|im_start|>", "<|im_end|>"
SENTENCES = [
    "What is a learning rate? It is how far one step moves the weights.",
    "Why does the loss print nan after a while? The learning rate is too high; lower it.",
    "An adapter holds few weights, and the frozen model holds the rest.",
    "You are a helpful assistant. system user assistant",
    "The label mask hides the prompt, so that only the answer is trained.",
]
# SmolLM2's own template, shorter in its words.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def sealed(request, tmp_path, monkeypatch):
    """Unit tests reach no network and no cache of models. A try fails the test even where the error is caught."""
    if UNIT not in request.path.parents:
        yield
        return
    tried: list[str] = []
    connect, connect_ex, lookup = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(place: object) -> None:
        tried.append(str(place))
        pytest.fail(f"a unit test tried to reach the network: {place}")

    def guarded(call):
        def guard(self, address, *rest):
            inet = self.family in (socket.AF_INET, socket.AF_INET6)
            if inet and address[0] not in LOOPBACK:
                refuse(address)
            return call(self, address, *rest)

        return guard

    def guarded_lookup(host, *rest, **named):
        if host not in LOOPBACK:
            refuse(host)
        return lookup(host, *rest, **named)

    monkeypatch.setattr(socket.socket, "connect", guarded(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # a pip in another process is out of the guard's reach
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "finetune-home"))
    for name in ("MODEL", "PRECISION", "RESULTS", "SEED", "UNDER_RUN"):
        monkeypatch.delenv(f"FINETUNE_{name}", raising=False)
    yield tried
    assert not tried, f"a unit test tried to reach the network: {', '.join(tried)}"


@pytest.fixture(autouse=True, scope="session")
def light():
    """Make small runs cheap: one thread is enough for tiny tensors, and keeps the order of every sum.

    The Trainer collects garbage at the end of a run; freezing leaves out what the libraries loaded, nearly all of it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained_tokenizer() -> Tokenizer:
    """A byte-level BPE trained on a few sentences: it can spell anything and knows some words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


@pytest.fixture
def make_tokenizer(trained_tokenizer):
    """Build the tokenizer with other special tokens: `make_tokenizer(pad_token="<|im_end|>")`; None leaves one out."""

    def make(chat_template: str | None = CHAT_TEMPLATE, **specials: str | None):
        names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"} | specials
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=copy.deepcopy(trained_tokenizer),
            **{name: token for name, token in names.items() if token is not None},
        )
        tokenizer.chat_template = chat_template
        return tokenizer

    return make


@pytest.fixture
def tokenizer(make_tokenizer):
    """Like SmolLM2's, with a pad token of its own: pad is 7, start of turn 11, end of turn 13."""
    return make_tokenizer()


@pytest.fixture
def tiny_model(trained_tokenizer):
    """Build a two-layer Llama with random weights: `tiny_model(seed=3, dtype=torch.bfloat16)`.

    Its weights are larger than usual, so that its answers differ from prompt to prompt.
    """

    def make(seed: int = 0, dtype: torch.dtype = torch.float32, **changes):
        config = transformers.LlamaConfig(
            **{
                "vocab_size": trained_tokenizer.get_vocab_size(),
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 512,
                "tie_word_embeddings": False,
                "initializer_range": 0.15,
                "bos_token_id": START_ID,
                "eos_token_id": END_ID,
                "pad_token_id": PAD_ID,
            }
            | changes
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return cast_weights(transformers.LlamaForCausalLM(config), dtype).eval()

    return make
