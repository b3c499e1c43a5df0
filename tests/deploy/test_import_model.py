"""deploy/local/import_model.py on small synthetic models: what comes out, and what is refused."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "local"))

from import_model import import_model  # noqa: E402
from model_import.errors import ImportFailed  # noqa: E402
from model_import.hf_folder import expected_shapes  # noqa: E402

HEADS, KV_HEADS, HEAD_DIM, INNER, VOCABULARY = 4, 2, 8, 48, 260
HIDDEN = HEADS * HEAD_DIM


def config(**changes):
    return {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "vocab_size": VOCABULARY,
            "intermediate_size": INNER, "num_attention_heads": HEADS, "eos_token_id": 1,
            "num_key_value_heads": KV_HEADS, "num_hidden_layers": 2,
            "tie_word_embeddings": True} | changes


def random_weights(model_config):
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(shape, generator=generator).to(torch.bfloat16)
            for name, shape in expected_shapes(model_config).items()}


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder that can be imported."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(config()))
    (source / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    (source / "tokenizer_config.json").write_text("{}")
    save_file(random_weights(config()), source / "model.safetensors")
    return source


def refuse(source, out, *words):
    """The import fails, names all the words, and leaves nothing behind."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(ImportFailed) as failure:
        import_model(source, out)
    for word in words:
        assert word in str(failure.value)
    assert sorted(out.parent.iterdir()) == before


def test_folder_is_placed_and_completed(folder, tmp_path):
    out = tmp_path / "out"
    import_model(folder, out)
    assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 1
    (out / "config.json").write_text("{}")  # A copy: the source is not touched.
    assert json.loads((folder / "config.json").read_text()) == config()


def test_existing_output_is_kept_unless_forced(folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    refuse(folder, out, "exists already")
    assert (out / "precious").exists()
    import_model(folder, out, force=True)
    assert not (out / "precious").exists() and (out / "config.json").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_missing_file_is_named(folder, tmp_path, name):
    (folder / name).unlink()
    refuse(folder, tmp_path / "out", "lacks", name)


def test_truncated_weights(folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    refuse(folder, tmp_path / "out", "truncated")
    weights.write_bytes(b"\x00" * 5)
    refuse(folder, tmp_path / "out", "truncated")
    weights.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    refuse(folder, tmp_path / "out", "truncated")


def test_shapes_that_do_not_fit(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps(config(intermediate_size=INNER + 1)))
    refuse(folder, tmp_path / "out", "mlp.gate_proj", str(INNER), str(INNER + 1))


def test_untied_model_needs_an_output_matrix(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps(config(tie_word_embeddings=False)))
    refuse(folder, tmp_path / "out", "lm_head.weight")


def test_unknown_architecture(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps(config(architectures=["GPT2LMHeadModel"])))
    refuse(folder, tmp_path / "out", "GPT2LMHeadModel", "LlamaForCausalLM")


def test_pickled_weights(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()
    refuse(folder, tmp_path / "out", "not supported", "safetensors")


def test_index_must_not_lead_outside(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"model.norm.weight": "../other.safetensors"}}))
    refuse(folder, tmp_path / "out", "plain file name")


# --- GGUF ----------------------------------------------------------------------------------------

GGUF_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "model.embed_tokens": "token_embd", "model.norm": "output_norm",
    "lm_head": "output",
}


def interleave(weights, heads):
    """What llama.cpp's converter does to q and k of architecture llama."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(
        1, 2).reshape(weights.shape)


def byte_alphabet():
    """The 256 printable stand-ins for bytes of byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def write_gguf(path, weights, architecture="llama", pre="smollm", extra=None):
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<|endoftext|>", "<|im_end|>", *byte_alphabet(), "he", "l" + "l"])
    writer.add_token_types([3, 3] + [1] * 258)
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, tensor in weights.items():
        stem, _, kind = name.rpartition(".")
        values = tensor.float().numpy()
        if architecture == "llama" and stem.endswith("q_proj"):
            values = interleave(values, HEADS)
        if architecture == "llama" and stem.endswith("k_proj"):
            values = interleave(values, KV_HEADS)
        if stem.startswith("model.layers."):
            layer, _, stem = stem.removeprefix("model.layers.").partition(".")
            name = f"blk.{layer}.{GGUF_NAMES[stem]}.{kind}"
        else:
            name = f"{GGUF_NAMES[stem]}.{kind}"
        writer.add_tensor(name, np.ascontiguousarray(values))
    if extra is not None:
        extra(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("architecture,class_name", [("llama", "LlamaForCausalLM"),
                                                     ("qwen2", "Qwen2ForCausalLM")])
@pytest.mark.parametrize("tied", [True, False])
def test_gguf_gives_back_the_weights(tmp_path, architecture, class_name, tied):
    weights = random_weights(config(architectures=[class_name], tie_word_embeddings=tied))
    write_gguf(tmp_path / "model.gguf", weights, architecture)
    import_model(tmp_path / "model.gguf", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["architectures"] == [class_name]
    assert written["tie_word_embeddings"] == tied
    assert written["rms_norm_eps"] == 1e-5
    back = load_file(tmp_path / "out" / "model.safetensors")
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert torch.equal(back[name], tensor), name


def test_embedding_stored_twice_is_tied(tmp_path):
    weights = random_weights(config(tie_word_embeddings=False))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 1.01
    write_gguf(tmp_path / "model.gguf", weights)
    import_model(tmp_path / "model.gguf", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"]
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_gguf_tokenizer(tmp_path):
    write_gguf(tmp_path / "model.gguf", random_weights(config()))
    import_model(tmp_path / "model.gguf", tmp_path / "out")
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("hello<|im_end|>").tokens == ["he", "ll", "o", "<|im_end|>"]
    assert tokenizer.decode(tokenizer.encode("naïve 漢字").ids) == "naïve 漢字"
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [0, 1]


def test_gguf_refusals(tmp_path):
    path, out, weights = tmp_path / "model.gguf", tmp_path / "out", random_weights(config())
    write_gguf(path, weights, architecture="gemma3")
    refuse(path, out, "gemma3", "llama", "qwen2")
    write_gguf(path, weights, pre="deepseek-llm")
    refuse(path, out, "deepseek-llm", "tokenizer.json")
    write_gguf(path, weights,
               extra=lambda w: w.add_tensor("rope_freqs.weight", np.ones(4, np.float32)))
    refuse(path, out, "rope scaling")
    write_gguf(path, weights, extra=lambda w: w.add_expert_count(8))
    refuse(path, out, "mixture of experts")
    write_gguf(path, {n: w for n, w in weights.items() if "1.mlp.up" not in n})
    refuse(path, out, "model.layers.1.mlp.up_proj.weight")
    write_gguf(path, weights | {"model.norm.weight": torch.full((HIDDEN,), torch.nan)})
    refuse(path, out, "NaN")
    write_gguf(path, weights)
    path.write_bytes(path.read_bytes()[:-1000])
    refuse(path, out, "not a whole GGUF file")
    path.write_bytes(b"not a model")
    refuse(path, out, "not a whole GGUF file")
