#!/usr/bin/env python3
"""Writes what PyPI `tokenizers` and `transformers` give, for tokenizer_test.cc.

    tokenizer_reference.py ids OUT NAME      NAME: a model folder's or a trained tokenizer's
    tokenizer_reference.py chat OUT MODEL    MODEL: a model folder's, or idioms

Model folders are smollm2 (STRATA_TEST_MODEL), qwen2 (STRATA_TEST_MODEL_QWEN2) and those in
STRATA_TEST_TOKENIZERS, if it is set. Texts come from STRATA_TEST_DATA. Results are
kept under OUT and reused while this script, the library and the model stay the same.

OUT/NAME/tokenizer.json   the tokenizer
OUT/NAME/ids.bin          for each text: bytes, ids without and with special tokens,
                          decoded with and without special tokens; each a little-endian
                          uint32 length and then bytes or uint32 numbers; length 0xFFFFFFFF:
                          ids equal to those without, decoded equal to the text as read
OUT/NAME/streams.bin      ids as a model might say them, in any order: for each sequence ids, decoded
                          with and without special tokens; each a length and then numbers or bytes
OUT/idioms/tokenizer_config.json   a template of what those of known models are made of
OUT/NAME/chat.json        [{messages, add_generation_prompt, text or error}]
"""

import fcntl
import hashlib
import json
import lzma
import os
import random
import shutil
import struct
import sys
from pathlib import Path

import tokenizers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPACE = "\u2581"
MODEL_VARIABLES = {"smollm2": "STRATA_TEST_MODEL", "qwen2": "STRATA_TEST_MODEL_QWEN2"}
# How templates of Llama, Gemma, Mistral and others treat what users say.
IDIOMS = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- if date_string is undefined and not date_string is defined %}{% set date_string = "today" %}{% endif %}{{ date_string }}
{%- if system_message is not undefined %}<<SYS>>{{ system_message }}<</SYS>>{% endif %}
{%- for message in messages | rejectattr("role", "equalto", "tool") | selectattr("tool_calls", "undefined") %}
    {%- if message.role not in ["user", "assistant"] %}{{ raise_exception("unknown role " + message.role) }}{% endif %}
    {%- set content = message['content'] %}
    {{- '[' + message.role | upper + ']' + content | trim + '|' + content.strip() + '|' + content.lstrip() }}
    {{- '|' + message.content.rstrip() + '|' + content.strip('\\n') ~ loop.index0 }}
{%- endfor %}
{{- messages | selectattr("role", "equalto", "user") | list | length }}
{%- if add_generation_prompt %}{{ '[ASSISTANT]' }}{% endif %}"""
WHITE_SPACE = [n for n in range(0x10000) if chr(n).isspace()]
GENERATED = 4000
STREAMS = 4000
SAME = struct.pack("<I", 0xFFFFFFFF)
MARKERS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|fim_prefix|>", "<s>", "</s>", "<unk>", "<bos>",
    "<repo_name>", "<|begin_of_text|>", "<mask>", "<right>", "<both>", "word", "\n\n", "\t\t\t", SPACE * 2,
    "<0x41>", "<tool_call>", "<|im_start", "im_end|>", "\u00e9t\u00e9",
]  # fmt: skip


def setting(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"tokenizer_reference.py: set {name}")
    return Path(value)


def model_folder(name):
    """None if the tokenizer is to be trained."""
    if name in MODEL_VARIABLES:
        return setting(MODEL_VARIABLES[name])
    given = os.environ.get("STRATA_TEST_TOKENIZERS")
    folder = Path(given) / name if given else None
    return folder if folder and (folder / "tokenizer.json").exists() else None


def corpus():
    with lzma.open(setting("STRATA_TEST_DATA") / "corpus.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def random_text(rng):
    """A text of one to six runs, each from one corner of Unicode."""
    ranges = [
        (0x20, 0x7E), (0x41, 0x5A), (0x61, 0x7A), (0x30, 0x39), (0x9, 0xD), (0x0, 0x20), (0xA0, 0x24F),
        (0x300, 0x36F), (0x370, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF),
        (0xE00, 0xEFF), (0xF00, 0x109F), (0x1100, 0x11FF), (0x1680, 0x180F), (0x1AB0, 0x1AFF),
        (0x1C80, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20FF), (0x2150, 0x218F),
        (0x2460, 0x24FF), (0x2600, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xA640, 0xABFF),
        (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFFFF), (0x10000, 0x10FFF),
        (0x11000, 0x11FFF), (0x16000, 0x16FFF), (0x1CC00, 0x1D7FF), (0x1E000, 0x1F0FF),
        (0x1F1E6, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x20100), (0x2F800, 0x2FA1F),
        (0xE0000, 0xE01EF), (0x0, 0xD7FF), (0xE000, 0x10FFFF),
    ]  # fmt: skip
    phrases = [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f3\ufe0f\u200d\U0001f308", "\U0001f1e9\U0001f1ea",
        "\U0001f44d\U0001f3fd", "e\u0301", "a\u0323\u0307", "\u1112\u1161\u11ab", "\u05e9\u05dc\u05d5\u05dd",
        "\u0645\u0631\u062d\u0628\u0627 \u202e\u05d0\u202c", "don't I'LL we\u2019re", "'S 'Re x'\u017f", "   ", "\n\n\n",
        " \t \r\n", "1234567890", "\u0661\u0662\u0663", "x\u00b2\u00bd", "\u180e \u180e", "\u0085\u00a0", "\ufeff", "\x00",
        "\u2028", "\u212b\ufb01\u2126", SPACE + "a", " " + SPACE + " ", "0x1F", "http://a.b/c?d=e&f",
    ]  # fmt: skip
    out = ""
    for _ in range(rng.randint(1, 6)):
        kind = rng.random()
        if kind < 0.3:
            out += rng.choice(phrases)
        elif kind < 0.45:
            out += rng.choice(["", " ", "  "]) + rng.choice(MARKERS) + rng.choice(["", " ", "\n"])
        else:
            first, last = rng.choice(ranges)
            for _ in range(rng.randint(1, 12)):
                c = rng.randint(first, last)
                out += " " if rng.random() < 0.1 or 0xD800 <= c < 0xE000 else chr(c)
    return out


def generated(documents):
    rng = random.Random(20250601)
    texts = [b"", b" ", b"a", b"\n", b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", b" " * 5000, b"ab" * 4000, b"\xed\xa0\x80"]
    texts += [("x" * 300 + "\n" + "\u4f60\u597d" * 200).encode(), ("1" * 1000).encode()]
    texts += [m.encode() for m in MARKERS] + [(" " + m + " " + m).encode() for m in MARKERS]
    while len(texts) < GENERATED:
        kind = len(texts) % 4
        if kind == 0:  # special tokens inside real text
            text = rng.choice(documents)[:600]
            for _ in range(rng.randint(1, 4)):
                at = rng.randint(0, len(text))
                text = text[:at] + rng.choice(MARKERS) + text[at:]
            texts.append(text.encode())
        elif kind == 1:  # damaged UTF-8
            raw = bytearray(random_text(rng).encode())
            for _ in range(rng.randint(1, 4)):
                at = rng.randint(0, len(raw))
                if rng.random() < 0.5:
                    raw[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 3)))
                else:
                    del raw[at : at + 1]
            texts.append(bytes(raw))
        elif kind == 2 and len(texts) % 8 == 2:
            texts.append(bytes(rng.randrange(256) for _ in range(rng.randint(1, 40))))
        else:
            texts.append(random_text(rng).encode())
    return texts


def added(id, content, special=True, **flags):
    token = {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False}
    token |= {"normalized": not special, "special": special}
    return token | flags


def template(name, id):
    piece = {"SpecialToken": {"id": name, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    tokens = {name: {"id": name, "ids": [id], "tokens": [name]}}
    return {"type": "TemplateProcessing", "single": [piece, text], "pair": [piece, text, text], "special_tokens": tokens}


def sequence(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


def split(pattern, behavior="Isolated"):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def byte_level(**settings):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False} | settings


def train(documents, pre_tokenizer, alphabet):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=6000, initial_alphabet=alphabet, limit_alphabet=400, show_progress=False)
    tokenizer.train_from_iterator([d[:1500] for d in documents[::11]], trainer)
    return json.loads(tokenizer.to_str())["model"]


def trained_byte_level(name, documents):
    pre = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    model = train(documents, pre, sorted(pre_tokenizers.ByteLevel.alphabet()))
    size = len(model["vocab"])
    result = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
        "added_tokens": [added(size, "<|begin_of_text|>"), added(size + 1, "<|im_start|>"), added(size + 2, "<|im_end|>"),
                         added(size + 3, "<tool_call>", special=False, normalized=False)],
        "post_processor": None, "decoder": byte_level(), "model": model,
    }  # fmt: skip
    if name == "llama3":
        # Tokens that no merge makes: only ignore_merges can give them.
        for word in ("Ġtokenizers", "ĠStrata", "hierarchical"):
            model["vocab"].setdefault(word, size + 4 + len(model["vocab"]) - size)
        model["ignore_merges"] = True
        result["pre_tokenizer"] = sequence("pretokenizers", split({"Regex": LLAMA3}), byte_level())
        result["post_processor"] = sequence("processors", byte_level(), template("<|begin_of_text|>", size))
        # The vocabulary grew, so the added tokens' ids are what `tokenizers` numbers.
        for token in result["added_tokens"]:
            token["id"] += 3
        result["post_processor"]["processors"][1]["special_tokens"]["<|begin_of_text|>"]["ids"] = [size + 3]
        for n, word in enumerate(("Ġtokenizers", "ĠStrata", "hierarchical")):
            model["vocab"][word] = size + n
    elif name == "qwen2like":
        result["normalizer"] = {"type": "NFC"}
        result["pre_tokenizer"] = sequence("pretokenizers", split({"Regex": QWEN2}), byte_level())
    elif name == "gpt2like":
        result["normalizer"] = {"type": "NFKD"}
        result["pre_tokenizer"] = sequence(
            "pretokenizers", {"type": "Digits", "individual_digits": False}, byte_level(add_prefix_space=True, use_regex=True)
        )
        result["added_tokens"] += [
            added(size + 4, "<mask>", lstrip=True), added(size + 5, "<right>", rstrip=True),
            added(size + 6, "<both>", lstrip=True, rstrip=True, single_word=True),
            added(size + 7, "word", special=False, single_word=True), added(size + 8, "\u00e9t\u00e9", special=False),
        ]  # fmt: skip
    return result


def trained_sentencepiece(name, documents):
    base = train(documents, pre_tokenizers.Metaspace(prepend_scheme="never"), [SPACE])
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    byte_fallback = name != "unknown"
    if byte_fallback:
        vocab |= {f"<0x{b:02X}>": 3 + b for b in range(256)}
    # Merges of runs of spaces, as Llama's vocabulary has; training on split text makes none.
    merges = [[SPACE, SPACE], [SPACE * 2, SPACE * 2], ["\n", "\n"]] + base["merges"]
    for token in sorted(base["vocab"], key=base["vocab"].get) + [SPACE * 2, SPACE * 4, "\n", "\n\n"]:
        vocab.setdefault(token, len(vocab))
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": byte_fallback, "ignore_merges": False,
        "vocab": vocab, "merges": merges,
    }  # fmt: skip
    to_mark = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    to_space = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decode = [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}]
    result = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": None, "pre_tokenizer": None, "post_processor": template("<s>", 1),
        "decoder": sequence("decoders", *decode, strip), "model": model,
    }  # fmt: skip
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    if name == "llama2":
        result["normalizer"] = sequence("normalizers", {"type": "Prepend", "prepend": SPACE}, to_mark)
    elif name == "vicuna":  # the same, with the older spelling of merges and normalised specials
        result["normalizer"] = sequence("normalizers", {"type": "Prepend", "prepend": SPACE}, to_mark)
        model["merges"] = [" ".join(pair) for pair in merges]
        result["added_tokens"] = [added(n, t, normalized=True) for n, t in enumerate(("<unk>", "<s>", "</s>"))]
        result["added_tokens"] += [added(len(vocab), "word", special=False), added(len(vocab) + 1, "<mask>", lstrip=True)]
    elif name == "mistral":
        result["pre_tokenizer"] = metaspace
    elif name == "gemma":
        result["normalizer"] = to_mark
        result["pre_tokenizer"] = split({"String": " "}, "MergedWithPrevious")
        result["decoder"] = sequence("decoders", *decode)
        result["added_tokens"] += [
            added(vocab[t], t, special=False, normalized=False) for t in (SPACE * 2, SPACE * 4, "\n\n")
        ]
    elif name == "unknown":
        model["fuse_unk"] = False
        result["pre_tokenizer"] = metaspace | {"prepend_scheme": "always", "split": True}
        result["decoder"] = metaspace | {"prepend_scheme": "always", "split": True}
    return result


def any_ids(rng, tokenizer):
    """Ids that no text has: cut characters, stray bytes, special tokens, ids that are none."""
    size = tokenizer.get_vocab_size()
    # Tokens with bytes of a character that is not whole, which texts have few of.
    odd = [n for n in range(size) if "\ufffd" in tokenizer.decode([n], skip_special_tokens=False)] or [0]
    special = [n for n, token in tokenizer.get_added_tokens_decoder().items()] or [0]
    for _ in range(STREAMS):
        ids = []
        for _ in range(rng.randint(1, 8)):
            kind = rng.random()
            if kind < 0.3:
                ids += [rng.randrange(size) for _ in range(rng.randint(1, 8))]
            elif kind < 0.6:
                ids += [rng.choice(odd) for _ in range(rng.randint(1, 6))]
            elif kind < 0.7:
                ids.append(rng.choice(special))
            elif kind < 0.75:
                ids.append(size + rng.randrange(1000))
            else:
                text = tokenizer.encode(random_text(rng), add_special_tokens=False).ids
                first = rng.randint(0, len(text))
                ids += text[first : first + rng.randint(0, 12)]
        yield ids


def streams_reference(folder, tokenizer):
    sequences = list(any_ids(random.Random(20251124), tokenizer))
    kept = tokenizer.decode_batch(sequences, skip_special_tokens=False)
    skipped = tokenizer.decode_batch(sequences, skip_special_tokens=True)
    with open(folder / "streams.bin", "wb") as out:
        for ids, *texts in zip(sequences, kept, skipped):
            out.write(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids))
            for text in texts:
                out.write(struct.pack("<I", len(text.encode())) + text.encode())


def ids_reference(folder, name):
    documents = corpus()
    if model := model_folder(name):
        shutil.copyfile(model / "tokenizer.json", folder / "tokenizer.json")
    else:
        make = trained_byte_level if name in ("llama3", "qwen2like", "gpt2like") else trained_sentencepiece
        text = json.dumps(make(name, documents), ensure_ascii=False)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    streams_reference(folder, tokenizer)
    raw = [d.encode() for d in documents] + generated(documents)
    with open(folder / "ids.tmp", "wb") as out:
        for at in range(0, len(raw), 1024):
            block = raw[at : at + 1024]
            texts = [r.decode("utf-8", errors="replace") for r in block]
            plain = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
            special = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=True)]
            kept = tokenizer.decode_batch(special, skip_special_tokens=False)
            skipped = tokenizer.decode_batch(special, skip_special_tokens=True)
            for n, data in enumerate(block):
                out.write(struct.pack("<I", len(data)) + data)
                out.write(struct.pack(f"<{len(plain[n]) + 1}I", len(plain[n]), *plain[n]))
                same = special[n] == plain[n]
                out.write(SAME if same else struct.pack(f"<{len(special[n]) + 1}I", len(special[n]), *special[n]))
                for decoded in (kept[n], skipped[n]):
                    encoded = decoded.encode()
                    out.write(SAME if decoded == texts[n] else struct.pack("<I", len(encoded)) + encoded)
    os.replace(folder / "ids.tmp", folder / "ids.bin")


def conversations():
    rng = random.Random(7)
    documents = corpus()
    fixed = [
        [], [("user", "")], [("system", "")], [("system", "Be brief."), ("user", "Hi")], [("assistant", "a")],
        [("user", " leading and trailing \n")], [("user", "<|im_end|>\n<|im_start|>system")],
        [("user", "{{ 1 }}{% if x %}{# c #}")], [("user", "a"), ("system", "late"), ("user", "b")],
        [("tool", "42"), ("tool", "43"), ("user", "x")], [("critic", "unknown role")],
        [("user", "".join(map(chr, WHITE_SPACE)) + " a\u00a0 b " + "".join(map(chr, reversed(WHITE_SPACE))))],
        [("user", "".join(map(chr, WHITE_SPACE)))], [("user", "\u3000\u200b\ufeff\u3000"), ("assistant", "\x1c\x85x\x0b")],
        [("user", "\u05e9\u05dc\u05d5\u05dd \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 \u0000 \\ \" '")],
    ]  # fmt: skip
    for _ in range(300):
        turns = [("system", random_text(rng))] if rng.random() < 0.5 else []
        for n in range(rng.randint(1, 7)):
            text = rng.choice(documents)[:300] if rng.random() < 0.5 else random_text(rng)
            turns.append((("user", "assistant")[n % 2], text))
        fixed.append(turns)
    return [[{"role": role, "content": text} for role, text in turns] for turns in fixed]


def chat_reference(folder, name):
    from transformers import PreTrainedTokenizerFast

    model = model_folder(name)
    if name == "idioms":
        model = folder
        shutil.copyfile(setting("STRATA_TEST_MODEL") / "tokenizer.json", folder / "tokenizer.json")
        config = {"bos_token": "<s>", "chat_template": IDIOMS, "tokenizer_class": "PreTrainedTokenizerFast"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(model))
    cases = []
    for messages in conversations():
        for prompt in (False, True):
            case = {"messages": messages, "add_generation_prompt": prompt}
            try:
                case["text"] = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
            except Exception as error:  # the template's own complaint
                case["error"] = str(error)
            cases.append(case)
    (folder / "chat.tmp").write_text(json.dumps(cases), encoding="utf-8")
    os.replace(folder / "chat.tmp", folder / "chat.json")


def main():
    what, out, name = sys.argv[1:]
    folder = Path(out) / name
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(Path(__file__).read_bytes() + tokenizers.__version__.encode())
    if model := model_folder(name):
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            path = model / file
            key.update(path.read_bytes() if path.exists() else b"-")
    stamp = folder / f"{what}.made"
    with open(folder / "lock", "w") as lock:  # tests run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == key.hexdigest():
            return
        {"ids": ids_reference, "chat": chat_reference}[what](folder, name)
        stamp.write_text(key.hexdigest())


if __name__ == "__main__":
    main()
