#!/usr/bin/env python3
"""Writes small models of random weights with what `transformers` computes for them in fp32.

    variant_reference.py OUT_DIR

They have what the real test models have not: scaled rotary embeddings, an output layer of its own,
biases everywhere, heads of another size. For each variant OUT_DIR/NAME gets a model folder, and
  logits.f32      raw little-endian float32, [tokens, vocab_size], row-major
  reference.json  {"key", "tokens": [...]}, last
None has the usual rotary embeddings; that logits would be others with those is checked here.
Nothing is computed if reference.json already has the key: a hash of this script and the versions of
the two libraries.
"""

import copy
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, MistralConfig, Qwen2Config

TOKENS = 200
# Logits must move by this much, or the rotary embeddings test nothing.
LEAST_EFFECT = 0.1
SHAPE = {"vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
         "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
OTHER_THETA = {"rope_type": "default", "rope_theta": 500000.0}


def variants() -> dict[str, tuple[Any, bool]]:
    """By name: the configuration, and whether config.json gets the older spelling of rotary
    embeddings ("rope_theta" and "rope_scaling")."""
    llama3 = {"rope_parameters": LLAMA3_ROPE}
    linear = {"rope_parameters": LINEAR_ROPE}
    other = {"rope_parameters": OTHER_THETA}
    tied, untied = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
    biases = {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 4}
    mistral = {"head_dim": 48, "sliding_window": None}
    return {
        "llama3_rope": (LlamaConfig(**SHAPE | llama3 | untied), False),
        "llama3_rope_older": (LlamaConfig(**SHAPE | llama3 | tied), True),
        "linear_rope": (LlamaConfig(**SHAPE | linear | tied), False),
        "linear_rope_older": (LlamaConfig(**SHAPE | linear | untied), True),
        "biases": (LlamaConfig(**SHAPE | other | untied | biases), False),
        "mistral": (MistralConfig(**SHAPE | other | untied | mistral), False),
        "qwen2_untied": (Qwen2Config(**SHAPE | other | untied), True),
    }


def build(config: Any) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                scale = 1.0 if "embed" in name else 1.5 / parameter.shape[1] ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2
                                + (1.0 if "norm" in name else 0.0))
    return model


def logits_of(model: Any, tokens: list[int]) -> Any:
    with torch.inference_mode():
        return model(torch.tensor([tokens])).logits[0].float()


def spell_older(path: Path) -> None:
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    path.write_text(json.dumps(config))


def write(folder: Path, config: Any, older: bool, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / "reference.json"
    reference.unlink(missing_ok=True)  # It vouches for the rest.
    model = build(config)
    model.save_pretrained(folder)
    if older:
        spell_older(folder / "config.json")
    generator = torch.Generator().manual_seed(11)
    tokens = torch.randint(0, config.vocab_size, (TOKENS,), generator=generator).tolist()
    logits = logits_of(model, tokens)
    usual = copy.deepcopy(config)
    usual.rope_parameters = PLAIN_ROPE
    effect = (logits_of(build(usual), tokens) - logits).abs().max().item()
    if effect < LEAST_EFFECT:
        raise SystemExit(f"{folder.name}: usual rotary embeddings change logits by {effect} only")
    (folder / "logits.f32").write_bytes(logits.contiguous().numpy().astype("<f4").tobytes())
    temporary = folder / "reference.json.tmp"
    temporary.write_text(json.dumps({"key": key, "tokens": tokens}))
    temporary.rename(reference)


def main() -> int:
    out = Path(sys.argv[1])
    key = hashlib.sha256(Path(__file__).read_bytes() + torch.__version__.encode()
                         + transformers.__version__.encode()).hexdigest()
    for name, (config, older) in variants().items():
        try:
            done = json.loads((out / name / "reference.json").read_text())["key"] == key
        except (OSError, ValueError, KeyError):
            done = False
        if not done:
            write(out / name, config, older, key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
