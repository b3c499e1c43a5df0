#!/usr/bin/env python3
"""Writes what `transformers` computes in fp32, for the engine's tests to compare with.

    engine_reference.py MODEL_DIR PROMPTS.jsonl OUT_DIR [--threads N]

PROMPTS.jsonl is spec_bench_dev.jsonl (field "turns"). Twenty of its questions are rendered
with the model's chat template and encoded; each keeps its last L tokens, with L one of
five lengths, four prompts each. Prompts of one length run as one batch, so that no padding
and no mask disturbs the sums, and the weights are read once for four rows.

OUT_DIR gets, the JSON file last:
  logits.f32      raw little-endian float32: for each prompt the logits of its last
                  position, [prompts, vocab_size], row-major
  reference.json  {"model", "key", "transformers", "torch", "vocab_size",
                   "logits_file": "logits.f32",
                   "prompts": [{"prompt_tokens": [...],
                                "greedy_tokens": [64 ids, past any end-of-sequence token],
                                "margins": [64 floats: best logit less second best],
                                "logits_offset": bytes into logits_file}]}
Nothing is computed if reference.json already has the key: a hash of the model's files, this
script, the prompts, and the versions of the two libraries.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

LENGTHS = (16, 40, 80, 128, 192)
PROMPTS_PER_LENGTH = 4
GREEDY_TOKENS = 64


def cache_key(model_dir: Path, prompts: Path) -> str:
    import torch
    import transformers

    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    for path in (Path(__file__), prompts, *sorted(model_dir.glob("*.json")),
                 *sorted(model_dir.glob("*.safetensors"))):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(16 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def choose_prompts(tokenizer: Any, path: Path) -> list[list[int]]:
    """Token ids of the prompts, those of one length together. Deterministic."""
    questions = [json.loads(line)["turns"][0] for line in path.open(encoding="utf-8")]
    count = len(LENGTHS) * PROMPTS_PER_LENGTH
    stride = max(1, len(questions) // count)
    encoded = []
    # Spread over the file, which is sorted by kind of question.
    for question in questions[::stride] + questions[1::stride]:
        text = tokenizer.apply_chat_template([{"role": "user", "content": question}],
                                             tokenize=False, add_generation_prompt=True)
        encoded.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    chosen: list[list[int]] = []
    # The longest first, as fewest questions are long enough for them.
    for length in sorted(LENGTHS, reverse=True):
        fitting = [ids for ids in encoded if len(ids) >= length][:PROMPTS_PER_LENGTH]
        if len(fitting) < PROMPTS_PER_LENGTH:
            raise SystemExit(f"{path} has too few prompts of {length} tokens or more")
        for ids in fitting:
            encoded.remove(ids)
            chosen.append(ids[-length:])
    return chosen


def generate(model: Any, prompts: list[list[int]]) -> tuple[Any, list[list[int]],
                                                            list[list[float]]]:
    """Last-position logits, greedy tokens and their margins of prompts of one length."""
    import torch

    tokens: list[Any] = []
    margins: list[Any] = []
    with torch.inference_mode():
        output = model(torch.tensor(prompts), use_cache=True, logits_to_keep=1)
        first = output.logits[:, -1].float()
        logits = first
        for step in range(GREEDY_TOKENS):
            best = torch.topk(logits, 2, dim=-1).values
            # argmax may return any of several maxima; the engine takes the lowest id.
            tokens.append((logits == best[:, :1]).int().argmax(dim=-1))
            margins.append(best[:, 0] - best[:, 1])
            if step + 1 < GREEDY_TOKENS:
                output = model(tokens[-1][:, None], past_key_values=output.past_key_values,
                               use_cache=True)
                logits = output.logits[:, -1].float()
    return first, torch.stack(tokens, 1).tolist(), torch.stack(margins, 1).tolist()


def write_reference(model_dir: Path, prompts_path: Path, out: Path, key: str) -> None:
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    prompts = choose_prompts(tokenizer, prompts_path)
    out.mkdir(parents=True, exist_ok=True)
    reference = out / "reference.json"
    reference.unlink(missing_ok=True)  # It vouches for logits.f32, which changes now.
    rows = []
    started = time.monotonic()
    with (out / "logits.f32").open("wb") as logits_file:
        for begin in range(0, len(prompts), PROMPTS_PER_LENGTH):
            group = prompts[begin:begin + PROMPTS_PER_LENGTH]
            logits, tokens, margins = generate(model, group)
            for i, prompt in enumerate(group):
                rows.append({"prompt_tokens": prompt, "greedy_tokens": tokens[i],
                             "margins": margins[i], "logits_offset": logits_file.tell()})
                logits_file.write(logits[i].contiguous().numpy().astype("<f4").tobytes())
            print(f"{len(rows)} of {len(prompts)} prompts, {time.monotonic() - started:.0f} s",
                  file=sys.stderr)
    temporary = out / "reference.json.tmp"
    temporary.write_text(json.dumps({
        "model": model_dir.name, "key": key, "transformers": transformers.__version__,
        "torch": torch.__version__, "vocab_size": model.config.vocab_size,
        "logits_file": "logits.f32", "prompts": rows}), encoding="utf-8")
    temporary.rename(reference)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0: LibTorch's default")
    args = parser.parse_args()
    for path in (args.model_dir / "config.json", args.prompts):
        if not path.is_file():
            print(f"engine_reference.py: no such file: {path}", file=sys.stderr)
            return 1
    key = cache_key(args.model_dir, args.prompts)
    try:
        done = json.loads((args.out / "reference.json").read_text())["key"] == key
    except (OSError, ValueError, KeyError):
        done = False
    if not done:
        import torch

        if args.threads > 0:
            torch.set_num_threads(args.threads)
        write_reference(args.model_dir, args.prompts, args.out, key)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
