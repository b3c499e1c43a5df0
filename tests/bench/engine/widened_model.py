#!/usr/bin/env python3
"""Writes a model folder that computes what a small model computes, in the shape of a larger one.

    widened_model.py MODEL_DIR OUT_DIR                  in Llama-2-7B's shape (13.8 GB)
    widened_model.py MODEL_DIR OUT_DIR --config FILE    in the shape of a config.json

A step costs what a step of the larger shape costs, answers are those of MODEL_DIR but for rounding:
with strata-verify it shows what drafts that are accepted as a real model accepts them gain on
weights that are not at hand. The vocabulary, the tokenizer and RoPE's base are MODEL_DIR's.

How: the small model's hidden state is the first part of the wide one, the rest stays 0, for
whatever writes to it (embeddings, o_proj, down_proj) is 0 there. RMSNorm takes a mean over more
numbers, so its weights and epsilon shrink. A head keeps its RoPE frequencies on every n-th pair of
the wider head. Weights that meet a 0, or whose product nobody reads, are random numbers."""
import argparse
import json
import math
import pathlib
import shutil

import torch
from safetensors import safe_open

from random_model import LLAMA_2_7B, shapes, write


class Widening:
    """Puts the tensors of a small Llama model into those of a wider one."""

    def __init__(self, folder: pathlib.Path, wide: dict) -> None:
        self.small = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.tensors = safe_open(folder / "model.safetensors", framework="pt")
        small = self.small
        self.hidden, self.inner = small["hidden_size"], small["intermediate_size"]
        self.layers, self.heads = small["num_hidden_layers"], small["num_attention_heads"]
        self.group = self.heads // (small.get("num_key_value_heads") or self.heads)
        self.dim = small.get("head_dim") or self.hidden // self.heads
        heads = wide["num_attention_heads"]
        self.wide_dim = wide.get("head_dim") or wide["hidden_size"] // heads
        wide_group = heads // (wide.get("num_key_value_heads") or heads)
        fits = (small["architectures"] == wide["architectures"] == ["LlamaForCausalLM"]
                and self.hidden <= wide["hidden_size"] and self.inner <= wide["intermediate_size"]
                and self.layers <= wide["num_hidden_layers"] and self.heads <= heads
                and self.wide_dim % self.dim == 0 and wide_group == 1
                and not wide.get("tie_word_embeddings", False)
                and not small.get("attention_bias", False) and not small.get("rope_scaling")
                and small.get("hidden_act", "silu") == "silu")
        if not fits:
            raise SystemExit("both must be LlamaForCausalLM; the wide shape needs as many or more "
                             "layers, heads and hidden numbers, a KV head for every head, a head "
                             "size that the small one divides, and an lm_head of its own; the small "
                             "one no biases and no rope_scaling")
        self.norm_scale = math.sqrt(self.hidden / wide["hidden_size"])
        self.config = wide | {
            "vocab_size": small["vocab_size"], "rope_theta": small.get("rope_theta", 10000.0),
            "rms_norm_eps": small["rms_norm_eps"] * self.norm_scale ** 2,
            "bos_token_id": small.get("bos_token_id"), "eos_token_id": small["eos_token_id"],
        }
        # Where each number of a small head is in a wide one: pair i has the frequency of pair
        # i * step. Halves are rotated together, as transformers does.
        step = self.wide_dim // self.dim
        first = torch.arange(self.dim // 2) * step
        self.places = torch.cat([first, self.wide_dim // 2 + first])

    def change(self, name: str, values: torch.Tensor) -> None:
        """For random_model.write()."""
        if name == "lm_head.weight":
            tied = self.small.get("tie_word_embeddings", False)
            small = self._small("model.embed_tokens.weight" if tied else name, values)
            values[:, :self.hidden] = small
        elif name == "model.embed_tokens.weight":
            values[:, :self.hidden] = self._small(name, values)
            values[:, self.hidden:] = 0
        elif name.endswith("norm.weight"):
            if self._has(name):
                values[:self.hidden] = self._small(name, values) * self.norm_scale
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            values.zero_()
            if self._has(name):
                small = self._small(name, values)
                columns = self._head_rows(small.shape[1], value=True)
                values[:self.hidden, columns if "o_proj" in name else slice(self.inner)] = small
        elif self._has(name):
            self._project(name, values)

    def _project(self, name: str, values: torch.Tensor) -> None:
        small = self._small(name, values)
        if "mlp" in name:
            values[:self.inner, :self.hidden] = small
            return
        if "q_proj" in name:
            # Scores are divided by the root of the wider head's size.
            small = small * math.sqrt(self.wide_dim / self.dim)
        else:
            small = small.view(-1, self.dim, self.hidden)
            small = small.repeat_interleave(self.group, dim=0).reshape(-1, self.hidden)
        if "k_proj" in name:
            # What queries have beside the small head meets zeros.
            values[:self.heads * self.wide_dim] = 0
        values[self._head_rows(small.shape[0], value="v_proj" in name), :self.hidden] = small

    def _head_rows(self, count: int, value: bool) -> torch.Tensor:
        """Where the numbers of the small model's heads, one behind another, are in the wide's."""
        places = torch.arange(self.dim) if value else self.places
        heads = torch.arange(count // self.dim)
        return (heads[:, None] * self.wide_dim + places[None, :]).flatten()

    def _has(self, name: str) -> bool:
        parts = name.split(".")
        return parts[1] != "layers" or int(parts[2]) < self.layers

    def _small(self, name: str, like: torch.Tensor) -> torch.Tensor:
        return self.tensors.get_tensor(name).to(like)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--config", type=pathlib.Path, help="a config.json (default: Llama-2-7B)")
    args = parser.parse_args()
    wide = json.loads(args.config.read_text(encoding="utf-8")) if args.config else LLAMA_2_7B
    widening = Widening(args.model_dir, wide)
    args.out_dir.mkdir(parents=True, exist_ok=True)
    (args.out_dir / "config.json").write_text(json.dumps(widening.config, indent=1),
                                              encoding="utf-8")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(args.model_dir / file, args.out_dir / file)
    write(args.out_dir / "model.safetensors", shapes(widening.config), widening.change)


if __name__ == "__main__":
    main()
