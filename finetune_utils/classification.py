"""Classify texts with a language model or an encoder: load it with a head, encode posts, read scores and features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from .batching import BATCH_TOKENS, SupervisedCollator, length_batches
from .class_labels import class_example, is_classifier
from .errors import UserError
from .hardware import cast_weights, choose_device
from .models import DEFAULT_MODEL, load_model, reading
from .nll import autocast
from .soft_labels import choice_tokens
from .tokenization import Example
from .weights import SOURCES, ensure_model

LABELS = ("negative", "neutral", "positive")
# It ends where the label would follow, so that the last token has reason to think of one.
PROMPT = "Post: {text}\nSentiment:"


def load_classifier(
    name: str = DEFAULT_MODEL,
    labels: Sequence[str] = LABELS,
    words: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> tuple[Any, Any]:
    """Load a model with a fresh head that scores one of `labels` a text, and its tokenizer.

    Decoders (SmolLM2, GPT-2) and encoders (MiniLM, BERT) alike. A decoder's head reads the last token before the padding,
    which it finds by id: so the pad id is written into its configuration.

    Args:
        name: `smollm2-135m`, `minilm`, `tiny`, a folder that holds a model, or a hub id such as `openai-community/gpt2`.
        words: one word a label, each a single token (" negative"): the head starts from the model's own output rows of
            these words, and so says what the model itself would find most likely. Without them it starts at random.
        seed: of the random head.

    Raises:
        UserError: no such model, damaged weights, or words that the head cannot start from.
    """
    names = dict(enumerate(labels))
    options = {"num_labels": len(names), "id2label": names, "label2id": {label: i for i, label in names.items()}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, tokenizer = _tiny(options) if name == "tiny" else _load(name, options, dtype, say)
    if tokenizer.pad_token_id is None:  # `is None`: an id of 0 is a real token
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    if words is not None:
        start_from_words(model, tokenizer, words)
    say(f"Model {Path(name).name if Path(name).is_dir() else name} with a head of {len(names)} classes.")
    return cast_weights(model, dtype).to(device or choose_device()).eval(), tokenizer


def _load(name: str, options: dict[str, Any], dtype: torch.dtype, say: Callable[[str], None]) -> tuple[Any, Any]:
    source = str(ensure_model(name, say)) if name in SOURCES else name
    if "/" not in source and not Path(source).is_dir():
        raise UserError(
            f"Unknown model {name!r}: use {DEFAULT_MODEL}, minilm, a folder that holds a model, or a hub id such as "
            "openai-community/gpt2."
        )

    def load() -> tuple[Any, Any]:
        """Model and tokenizer of `source`."""
        if AutoConfig.from_pretrained(source, trust_remote_code=False).is_encoder_decoder:
            raise UserError.at(source, found="an encoder-decoder model", expected="a decoder or an encoder")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        more = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False, **options}
        return AutoModelForSequenceClassification.from_pretrained(source, **more), tokenizer

    do = f"check the name and the network, or use {DEFAULT_MODEL}, which needs no hub"
    return reading(load, f"{name} as a classifier", do)


def _tiny(options: dict[str, Any]) -> tuple[Any, Any]:
    body, tokenizer = load_model("tiny", say=lambda message: None)
    config = copy.deepcopy(body.config)
    config.update(options)
    model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(body.state_dict(), strict=False)
    return model, tokenizer


def start_from_words(model: Any, tokenizer: Any, words: Sequence[str]) -> None:
    """Set the rows of a decoder's head to its output rows of `words`, one a label.

    Raises:
        UserError: an encoder, a model whose output layer is not its embedding, a word of several tokens, or another
            number of words than labels.
    """
    if not hasattr(model, "score"):
        raise UserError("This model does not predict words: its head can only start at random.")
    if not getattr(model.config, "tie_word_embeddings", False):
        raise UserError(
            "This model's output layer is not its embedding and is not loaded with the head: start at random."
        )
    if len(words) != model.config.num_labels:
        raise UserError(f"Found {len(words)} words for {model.config.num_labels} labels: give one for each.")
    rows = model.get_input_embeddings().weight[choice_tokens(words, tokenizer)]
    model.score.weight.data.copy_(rows.detach())


def encode_posts(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    labels: Sequence[str] = LABELS,
    prompt: str = "{text}",
    special: bool = True,
    max_length: int = 256,
) -> list[Example]:
    """Turn rows of `text` and `label` into examples with one label a row.

    Args:
        prompt: what stands around the text, with `{text}` in its place.
        special: whether the tokenizer adds its own start and end tokens; encoders need them.
        max_length: a longer text loses its end; the prompt around it stays.

    Raises:
        UserError: a row without text, or with a label that is none of `labels`.
    """
    examples = []
    for number, row in enumerate(rows, start=1):
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or not text.strip():
            raise UserError.at("rows", row.get("line", number), found="no text", expected='words under "text"')
        if label not in labels:
            raise UserError.at(
                "rows", row.get("line", number), found=f"the label {label!r}", expected=f"one of {', '.join(labels)}"
            )
        ids = _ids(text, tokenizer, prompt, special)
        if len(ids) > max_length:  # shorten the text itself, so that the end of the prompt stays
            pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
            kept = tokenizer.decode(pieces[: max(1, len(pieces) - (len(ids) - max_length))])
            ids = _ids(kept, tokenizer, prompt, special)
        examples.append(class_example(ids, list(labels).index(label), len(labels)))
    return examples


def _ids(text: str, tokenizer: Any, prompt: str, special: bool) -> list[int]:
    return tokenizer(prompt.format(text=text), add_special_tokens=special)["input_ids"]


@torch.inference_mode()
def class_log_probs(
    model: Any,
    examples: Sequence[Example],
    tokenizer: Any,
    prefix: str = "",
    batch_tokens: int = BATCH_TOKENS,
) -> np.ndarray:
    """Log-probability of every class for every example, float64 (rows, classes), in the order given.

    Args:
        prefix: a text that stands before every example, such as solved posts. A decoder reads it once and keeps its
            keys and values, so that it costs next to nothing a row.

    Raises:
        UserError: a model without a head, or a prefix for an encoder, which reads all tokens at once.
    """
    if not is_classifier(model):
        raise UserError("This model has no classification head: load it with `load_classifier`.")
    read = None
    with autocast(model):
        if prefix:
            read = _read_prefix(model, tokenizer, prefix)
        found = np.zeros((len(examples), model.config.num_labels))
        for batch, tensors in reading_batches(model, examples, tokenizer, batch_tokens, read):
            logits = model(**tensors).logits.float().cpu()
            found[batch] = logits.double().log_softmax(dim=-1).numpy()
    return found


@torch.inference_mode()
def last_token_features(
    model: Any, examples: Sequence[Example], tokenizer: Any, batch_tokens: int = BATCH_TOKENS
) -> np.ndarray:
    """What the head of a decoder reads: the last layer at the last token of each example, float32 (rows, width)."""
    body = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    found = np.zeros((len(examples), model.config.hidden_size), np.float32)
    with autocast(model):
        for batch, tensors in reading_batches(model, examples, tokenizer, batch_tokens):
            hidden = body(**tensors).last_hidden_state
            last = tensors["attention_mask"].sum(dim=1) - 1  # rows are padded on the right
            found[batch] = hidden[torch.arange(len(batch)), last].float().cpu().numpy()
    return found


def _read_prefix(model: Any, tokenizer: Any, prefix: str) -> tuple[int, Any]:
    """Number of tokens of the prefix, and its keys and values."""
    device = next(model.parameters()).device
    ids = torch.tensor([tokenizer(prefix, add_special_tokens=False)["input_ids"]], device=device)
    output = model(input_ids=ids, use_cache=True) if hasattr(model, "score") else None
    if output is None or getattr(output, "past_key_values", None) is None:
        raise UserError("An encoder reads all tokens at once: put the prefix into the prompt instead.")
    return ids.shape[1], output.past_key_values


def reading_batches(
    model: Any, examples: Sequence[Example], tokenizer: Any, batch_tokens: int, read: tuple[int, Any] | None = None
) -> Any:
    """Row numbers and tensors of batches of similar length, on the model's device; `read`: see `_read_prefix`."""
    was_training = model.training
    model.eval()
    device, before = next(model.parameters()).device, read[0] if read else 0
    collate = SupervisedCollator(tokenizer.pad_token_id, sparse=False)
    for batch in length_batches([before + len(e["input_ids"]) for e in examples], batch_tokens):
        tensors = {k: v.to(device) for k, v in collate([examples[i] for i in batch]).items() if k != "labels"}
        if read:
            seen = torch.ones(len(batch), before, dtype=torch.long, device=device)
            tensors["attention_mask"] = torch.cat([seen, tensors["attention_mask"]], dim=1)
            tensors["past_key_values"] = copy.deepcopy(read[1])
            tensors["past_key_values"].batch_repeat_interleave(len(batch))
            tensors["use_cache"] = True
        yield batch, tensors
    model.train(was_training)
