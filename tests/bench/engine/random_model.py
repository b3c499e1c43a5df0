#!/usr/bin/env python3
"""Writes a model folder with random weights, for times of shapes whose weights are not at hand.

    random_model.py OUT_DIR                  Llama-2-7B (13.5 GB)
    random_model.py OUT_DIR --config FILE    the shapes of a config.json

Weights are bf16. There is no tokenizer: for engine_bench, not for strata-verify."""
import argparse
import json
import pathlib
import struct
from collections.abc import Callable

import torch

LLAMA_2_7B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "eos_token_id": 2,
}


def shapes(config: dict) -> dict[str, list[int]]:
    """The shape of every tensor, by its name; without biases but Qwen2's."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    dim = config.get("head_dim") or hidden // heads
    q, kv = heads * dim, (config.get("num_key_value_heads") or heads) * dim
    found = {"model.embed_tokens.weight": [config["vocab_size"], hidden],
             "model.norm.weight": [hidden]}
    if not config.get("tie_word_embeddings", False):
        found["lm_head.weight"] = [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        found[name + "input_layernorm.weight"] = [hidden]
        found[name + "post_attention_layernorm.weight"] = [hidden]
        for projection, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
            found[f"{name}self_attn.{projection}.weight"] = [rows, hidden]
            if config["architectures"] == ["Qwen2ForCausalLM"]:
                found[f"{name}self_attn.{projection}.bias"] = [rows]
        found[name + "self_attn.o_proj.weight"] = [hidden, q]
        found[name + "mlp.gate_proj.weight"] = [inner, hidden]
        found[name + "mlp.up_proj.weight"] = [inner, hidden]
        found[name + "mlp.down_proj.weight"] = [hidden, inner]
    return found


def write(path: pathlib.Path, tensors: dict[str, list[int]],
          change: Callable[[str, torch.Tensor], None] = lambda name, values: None) -> None:
    """One safetensors file, tensor by tensor: random numbers (fp32), as `change` leaves them."""
    header, offset = {}, 0
    for name, shape in tensors.items():
        end = offset + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    torch.manual_seed(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"  # a GPU takes seconds, not minutes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors.items():
            # Norms about 1, the rest small enough that activations stay finite.
            values = torch.randn(shape, device=device) * 0.02 + (name.endswith("norm.weight"))
            change(name, values)
            file.write(values.to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--config", type=pathlib.Path, help="a config.json (default: Llama-2-7B)")
    args = parser.parse_args()
    config = json.loads(args.config.read_text(encoding="utf-8")) if args.config else LLAMA_2_7B
    args.out_dir.mkdir(parents=True, exist_ok=True)
    (args.out_dir / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    write(args.out_dir / "model.safetensors", shapes(config))


if __name__ == "__main__":
    main()
