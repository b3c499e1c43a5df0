"""Checks of a Hugging Face folder before Strata reads it.

Headers alone are read, so that a folder of many gigabytes is checked in a moment.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any

from .errors import ImportFailed

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
_BYTES = {"BF16": 2, "F16": 2, "F32": 4}
_REQUIRED = ("config.json", "tokenizer.json", "tokenizer_config.json")
# Copied if they are there; generation_config.json is written if it is not.
_OPTIONAL = ("generation_config.json", "special_tokens_map.json", "chat_template.jinja",
             "added_tokens.json", "LICENSE", "README.md")
_MAX_HEADER_BYTES = 100 << 20


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImportFailed(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ImportFailed(f"{path} must hold a JSON object")
    return value


def expected_shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    """The name and shape of every weight that a model with this config.json has."""
    def size(name: str, default: int | None = None) -> int:
        value = config.get(name, default)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise ImportFailed(f"config.json: {name} must be a positive integer, not {value!r}")
        return value

    architecture = (config.get("architectures") or [None])[0]
    if architecture not in ARCHITECTURES:
        raise ImportFailed(f"config.json names architecture {architecture!r}; supported: "
                           f"{', '.join(ARCHITECTURES)}")
    hidden, vocabulary = size("hidden_size"), size("vocab_size")
    heads, inner = size("num_attention_heads"), size("intermediate_size")
    kv_heads = size("num_key_value_heads", heads)
    head_dim = size("head_dim", hidden // heads)
    if heads % kv_heads != 0:
        raise ImportFailed(f"config.json: num_attention_heads {heads} is not a multiple of "
                           f"num_key_value_heads {kv_heads}")
    is_qwen2 = architecture == "Qwen2ForCausalLM"
    attention_bias = bool(config.get("attention_bias", False))
    mlp_bias = bool(config.get("mlp_bias", False))
    linear = {  # name -> (rows, columns, has a bias)
        "self_attn.q_proj": (heads * head_dim, hidden, is_qwen2 or attention_bias),
        "self_attn.k_proj": (kv_heads * head_dim, hidden, is_qwen2 or attention_bias),
        "self_attn.v_proj": (kv_heads * head_dim, hidden, is_qwen2 or attention_bias),
        "self_attn.o_proj": (hidden, heads * head_dim, attention_bias and not is_qwen2),
        "mlp.gate_proj": (inner, hidden, mlp_bias),
        "mlp.up_proj": (inner, hidden, mlp_bias),
        "mlp.down_proj": (hidden, inner, mlp_bias),
    }
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden]}
    if not config.get("tie_word_embeddings", False):
        shapes["lm_head.weight"] = [vocabulary, hidden]
    for layer in range(size("num_hidden_layers")):
        prefix = f"model.layers.{layer}."
        shapes[f"{prefix}input_layernorm.weight"] = [hidden]
        shapes[f"{prefix}post_attention_layernorm.weight"] = [hidden]
        for name, (rows, columns, bias) in linear.items():
            shapes[f"{prefix}{name}.weight"] = [rows, columns]
            if bias:
                shapes[f"{prefix}{name}.bias"] = [rows]
    return shapes


def check_shapes(config: dict[str, Any], found: dict[str, list[int]]) -> None:
    """Fails, naming the first tensor, if a weight is missing or has another shape."""
    for name, shape in expected_shapes(config).items():
        if name not in found:
            raise ImportFailed(f"the weights lack the tensor {name} {shape}, which config.json "
                               "calls for")
        if list(found[name]) != shape:
            raise ImportFailed(f"tensor {name} has shape {list(found[name])}; config.json calls "
                               f"for {shape}")


def safetensors_shapes(path: Path) -> dict[str, list[int]]:
    """Name and shape of the tensors of a file, after checking that the file is whole."""
    try:
        total = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
            if not 2 <= length <= min(total - 8, _MAX_HEADER_BYTES):
                raise ImportFailed(f"{path} is not a safetensors file, or is truncated")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ImportFailed(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise ImportFailed(f"{path} has a damaged header: {error}") from error
    shapes = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape = tensor["dtype"], tensor["shape"]
            begin, end = tensor["data_offsets"]
            elements = 1
            for extent in shape:
                elements *= extent
        except (KeyError, TypeError, ValueError) as error:
            raise ImportFailed(f"{path}: damaged header of tensor {name}") from error
        if dtype not in _BYTES:
            raise ImportFailed(f"{path}: tensor {name} has dtype {dtype}; supported: "
                               f"{', '.join(sorted(_BYTES))}")
        if end - begin != elements * _BYTES[dtype] or begin < 0 or 8 + length + end > total:
            raise ImportFailed(f"{path} is truncated or damaged: tensor {name} should end at byte "
                               f"{8 + length + end} of {total}")
        shapes[name] = shape
    return shapes


def weight_files(folder: Path) -> list[str]:
    """The safetensors files of a folder, single or sharded."""
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        for name in names:
            if Path(name).name != name:
                raise ImportFailed(f"{index} names {name!r}, which is not a plain file name")
            if not (folder / name).is_file():
                raise ImportFailed(f"{folder} lacks {name}, which {index.name} names")
        if not names:
            raise ImportFailed(f"{index} names no weight files")
        return [index.name, *names]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
        raise ImportFailed(f"{folder} holds its weights as pickled PyTorch files (.bin, .pth), "
                           "which is not supported; convert them to safetensors")
    raise ImportFailed(f"{folder} has no model.safetensors and no model.safetensors.index.json")


def check_folder(folder: Path) -> list[str]:
    """Checks that Strata can read the folder; returns the names of the files it needs."""
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise ImportFailed(f"{folder} lacks {name}")
    config = read_json(folder / "config.json")
    if not read_json(folder / "tokenizer.json").get("model"):
        raise ImportFailed(f"{folder / 'tokenizer.json'} has no \"model\"")
    read_json(folder / "tokenizer_config.json")
    weights = weight_files(folder)
    found: dict[str, list[int]] = {}
    for name in weights:
        if name.endswith(".safetensors"):
            found |= safetensors_shapes(folder / name)
    check_shapes(config, found)
    return [*_REQUIRED, *(n for n in _OPTIONAL if (folder / n).is_file()), *weights]


def generation_config(config: dict[str, Any]) -> dict[str, Any]:
    """What generation_config.json says if a folder has none: the tokens of config.json."""
    eos = config.get("eos_token_id")
    if eos is None:
        raise ImportFailed("config.json has no eos_token_id and there is no "
                           "generation_config.json; generation would never end by itself")
    return {"bos_token_id": config.get("bos_token_id"), "eos_token_id": eos}


def place(source: Path, target: Path, link: bool) -> None:
    """Makes target a hard link to the source (its file, not a symlink), or a copy."""
    real = source.resolve(strict=True)
    if link:
        try:
            os.link(real, target)
            return
        except OSError:  # Another file system; copy.
            pass
    with real.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(16 << 20):
            writer.write(chunk)
