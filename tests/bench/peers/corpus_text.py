"""The corpus as tokens, and its suffix array: what the peers with a static store are given."""

import hashlib
import json
import lzma
import pathlib

import numpy as np
import tokenizers

# Tokens that suffixes are ordered by; longer common prefixes stay in any order.
SUFFIX_DEPTH = 16


class Corpus:
    """tokens: int32, documents one after another, each followed by `separator`, which is no token.
    starts: where each document begins, and at the end len(tokens)."""

    def __init__(self, tokens: np.ndarray, separator: int):
        self.tokens = tokens
        self.separator = separator
        ends = np.nonzero(tokens == separator)[0] + 1
        self.starts = np.concatenate([[0], ends])

    def documents(self):
        for begin, end in zip(self.starts, self.starts[1:]):
            yield self.tokens[begin : end - 1]


def load(text: pathlib.Path, model: pathlib.Path, cache: pathlib.Path) -> Corpus:
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    separator = tokenizer.get_vocab_size()
    key = hashlib.sha256((model / "tokenizer.json").read_bytes() + text.read_bytes()).hexdigest()
    saved = cache / "corpus" / f"{key[:16]}.npy"
    if saved.exists():
        return Corpus(np.load(saved), separator)
    with lzma.open(text, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    parts = []
    for begin in range(0, len(texts), 1000):
        batch = tokenizer.encode_batch(texts[begin : begin + 1000], add_special_tokens=False)
        for encoding in batch:
            parts.append(np.array([*encoding.ids, separator], np.int32))
    tokens = np.concatenate(parts)
    saved.parent.mkdir(parents=True, exist_ok=True)
    np.save(saved, tokens)
    return Corpus(tokens, separator)


def suffix_array(tokens: np.ndarray) -> np.ndarray:
    """Positions, ordered by the SUFFIX_DEPTH tokens from there on (prefix doubling)."""
    rank = tokens.astype(np.int64) + 1
    depth = 1
    order = np.argsort(rank, kind="stable")
    while depth < SUFFIX_DEPTH:
        beyond = np.zeros_like(rank)
        beyond[:-depth] = rank[depth:]
        key = rank * (rank.max() + 1) + beyond
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        rank = np.empty_like(key)
        rank[order] = np.concatenate([[1], 1 + np.cumsum(ordered[1:] != ordered[:-1])])
        depth *= 2
    return order
