"""Weights and configuration from a GGUF file.

Pitfalls, each met on a real file:
- llama.cpp stores the q and k projections of architecture "llama" with the rotary
  pairs interleaved; Hugging Face wants the two halves one after the other. Other
  architectures are stored as they are.
- A model with tied embeddings may hold the matrix twice, quantised differently
  (Qwen2.5-0.5B: token_embd Q5_0, output Q8_0). Whether two stored matrices are one is
  decided by comparing them; if so, the one with more bits is kept for both. An output
  matrix of its own (Llama 2, Qwen2.5-7B) is kept apart.
- Rope scaling of Llama 3.1 is a tensor (rope_freqs.weight) in GGUF, from which its
  four parameters cannot be told; such files are refused, not silently run unscaled.
- The epsilon of the norms is stored in fp32: 1e-05 reads back as 9.9999997e-06.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize

from .errors import ImportFailed

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_EMBEDDING = "model.embed_tokens.weight"
_OUTPUT = "lm_head.weight"
_MODEL_NAMES = {
    "token_embd.weight": _EMBEDDING,
    "output_norm.weight": "model.norm.weight",
    "output.weight": _OUTPUT,
}
# Two quantisations of one matrix correlate above 0.99 (measured: Q5_0 against Q8_0,
# 0.999); the embeddings of an untied model correlate with its output matrix far less.
_SAME_MATRIX_CORRELATION = 0.95


class GgufModel:
    """A GGUF file of a supported architecture. Opening checks the metadata."""

    def __init__(self, path: Path):
        if not path.is_file():
            raise ImportFailed(f"no such file: {path}")
        self.path = path
        try:
            self._reader = GGUFReader(path)
            self._fields = {name: field for name, field in self._reader.fields.items()}
        except Exception as error:  # The reader raises whatever NumPy does on damaged files.
            raise ImportFailed(
                f"{path} is not a whole GGUF file ({type(error).__name__}: {error})") from error
        self.architecture = self.field("general.architecture")
        if self.architecture not in ARCHITECTURES:
            raise ImportFailed(
                f"{path.name} has architecture {self.architecture!r}; supported from GGUF: "
                f"{', '.join(sorted(ARCHITECTURES))}")
        self._check_features()

    def field(self, name: str, default: Any = None) -> Any:
        """The value of a metadata field, or `default` if the file has none."""
        return self._fields[name].contents() if name in self._fields else default

    def hyperparameter(self, name: str, default: Any = None) -> Any:
        return self.field(f"{self.architecture}.{name}", default)

    def required(self, name: str) -> Any:
        value = self.hyperparameter(name)
        if value is None:
            raise ImportFailed(
                f"{self.path.name} lacks the metadata field {self.architecture}.{name}")
        return value

    @property
    def heads(self) -> int:
        return self.required("attention.head_count")

    @property
    def kv_heads(self) -> int:
        return self.hyperparameter("attention.head_count_kv", self.heads)

    @property
    def head_dim(self) -> int:
        return self.hyperparameter("attention.key_length",
                                   self.required("embedding_length") // self.heads)

    def _check_features(self) -> None:
        if self.hyperparameter("expert_count", 0):
            raise ImportFailed(f"{self.path.name} is a mixture of experts, which is not supported")
        scaling = self.hyperparameter("rope.scaling.type", "none")
        has_factors = any(t.name.startswith("rope_f") for t in self._reader.tensors)
        if scaling != "none" or has_factors:
            raise ImportFailed(
                f"{self.path.name} uses rope scaling, which GGUF does not describe fully; "
                "import the model's Hugging Face folder instead")
        rotated = self.hyperparameter("rope.dimension_count", self.head_dim)
        if rotated != self.head_dim:
            raise ImportFailed(
                f"{self.path.name} rotates {rotated} of {self.head_dim} dimensions of a head; "
                "only models that rotate all are supported")

    def config(self, vocab_size: int, tied: bool) -> dict[str, Any]:
        """The fields of config.json."""
        bos, eos, pad = (self.field(f"tokenizer.ggml.{name}_token_id")
                         for name in ("bos", "eos", "padding"))
        config = {
            "architectures": [ARCHITECTURES[self.architecture]],
            "model_type": self.architecture,
            "attention_dropout": 0.0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.required("embedding_length"),
            "initializer_range": 0.02,
            "intermediate_size": self.required("feed_forward_length"),
            "max_position_embeddings": self.required("context_length"),
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.required("block_count"),
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": float(f"{self.required('attention.layer_norm_rms_epsilon'):.6g}"),
            "rope_scaling": None,
            "rope_theta": self.hyperparameter("rope.freq_base", 10000.0),
            "tie_word_embeddings": tied,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "vocab_size": vocab_size,
        }
        if self.architecture == "llama":
            config |= {"attention_bias": False, "mlp_bias": False}
        else:
            config |= {"use_sliding_window": False}
        return config

    def tensors(self) -> tuple[dict[str, torch.Tensor], bool]:
        """All weights in bf16 under their Hugging Face names, and whether embeddings are tied."""
        stored = {self._hugging_face_name(t.name): t for t in self._reader.tensors}
        if _EMBEDDING not in stored:
            raise ImportFailed(f"{self.path.name} lacks the tensor token_embd.weight")
        tied = _OUTPUT not in stored
        if not tied and _same_matrix(stored[_EMBEDDING], stored[_OUTPUT]):
            tied = True
            output = stored.pop(_OUTPUT)
            if _bits(output) >= _bits(stored[_EMBEDDING]):
                stored[_EMBEDDING] = output
        return {name: self._convert(name, tensor) for name, tensor in stored.items()}, tied

    def _hugging_face_name(self, name: str) -> str:
        if name in _MODEL_NAMES:
            return _MODEL_NAMES[name]
        parts = name.split(".")
        if (len(parts) == 4 and parts[0] == "blk" and parts[1].isdigit()
                and parts[2] in _LAYER_NAMES and parts[3] in ("weight", "bias")):
            return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
        raise ImportFailed(f"{self.path.name} has a tensor {name!r}, which a model of "
                           f"architecture {self.architecture} should not have")

    def _convert(self, name: str, tensor: Any) -> torch.Tensor:
        weights = dequantize(tensor.data, tensor.tensor_type)  # fp32, [out, in]
        if self.architecture == "llama":
            if ".q_proj." in name:
                weights = _deinterleave(weights, self.heads)
            elif ".k_proj." in name:
                weights = _deinterleave(weights, self.kv_heads)
        if not np.isfinite(weights).all():
            raise ImportFailed(f"{self.path.name}: tensor {tensor.name} holds a NaN or an infinity")
        # A copy: tensors stored as fp32 come as read-only views of the file.
        return torch.from_numpy(np.array(weights, order="C")).to(torch.bfloat16)


def _deinterleave(weights: np.ndarray, heads: int) -> np.ndarray:
    """[heads * (pairs, 2), …] to [heads * (2, pairs), …]."""
    pairs = weights.shape[0] // heads // 2
    return weights.reshape(heads, pairs, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def _bits(tensor: Any) -> float:
    return 8.0 * tensor.n_bytes / tensor.n_elements


def _same_matrix(first: Any, second: Any) -> bool:
    return _correlation(first, second) > _SAME_MATRIX_CORRELATION


def _correlation(first: Any, second: Any) -> float:
    """Of two stored matrices, over up to 1,024 rows spread evenly; 0 if the shapes differ."""
    if list(first.shape) != list(second.shape):
        return 0.0
    rows = np.linspace(0, len(first.data) - 1, min(1024, len(first.data)), dtype=np.int64)
    a, b = (dequantize(np.ascontiguousarray(t.data[rows]), t.tensor_type).ravel()
            for t in (first, second))
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.dot(a, b)) / norm if norm > 0 else 0.0
