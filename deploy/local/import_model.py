#!/usr/bin/env python3
"""Turns a GGUF file or a Hugging Face folder into a model folder that Strata reads.

    import_model.py model.gguf OUT       weights are dequantised to bf16
    import_model.py hf_folder/ OUT       checked; weights hard-linked if possible, rest copied

OUT holds config.json, generation_config.json, tokenizer.json, tokenizer_config.json and
the weights (*.safetensors); it appears whole or not at all. From GGUF the architectures
llama and qwen2 with a byte-level BPE vocabulary are supported; the pitfalls of that
conversion are described in model_import/gguf_model.py and model_import/gguf_tokenizer.py.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from model_import import hf_folder
from model_import.errors import ImportFailed
from model_import.output import atomic_folder


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def import_gguf(source: Path, out: Path) -> None:
    # Here, not above: a Hugging Face folder is imported without these libraries.
    from safetensors.torch import save_file

    from model_import.gguf_model import GgufModel
    from model_import.gguf_tokenizer import GgufTokenizer

    model = GgufModel(source)
    tokenizer = GgufTokenizer(model)
    weights, tied = model.tensors()
    config = model.config(weights["model.embed_tokens.weight"].shape[0], tied)
    hf_folder.check_shapes(config, {name: list(w.shape) for name, w in weights.items()})
    if tokenizer.tokenizer.get_vocab_size() > config["vocab_size"]:
        raise ImportFailed(f"{source.name}: {tokenizer.tokenizer.get_vocab_size()} tokens but an "
                           f"embedding of {config['vocab_size']} rows")
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json",
               {"bos_token_id": config["bos_token_id"], "do_sample": False,
                "eos_token_id": tokenizer.eos_token_ids(), "pad_token_id": config["pad_token_id"]})
    tokenizer.tokenizer.save(str(out / "tokenizer.json"))
    write_json(out / "tokenizer_config.json", tokenizer.config())
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)


def import_folder(source: Path, out: Path, link: bool) -> None:
    names = hf_folder.check_folder(source)
    for name in names:
        # Small files are copied, so that editing one does not change the other folder's.
        hf_folder.place(source / name, out / name, link and name.endswith(".safetensors"))
    if "generation_config.json" not in names:
        config = hf_folder.read_json(source / "config.json")
        write_json(out / "generation_config.json", hf_folder.generation_config(config))


def import_model(source: Path, out: Path, *, link: bool = True, force: bool = False) -> None:
    """Imports `source` to the new folder `out`. Raises ImportFailed."""
    if not source.exists():
        raise ImportFailed(f"no such file or folder: {source}")
    if source.resolve() == out.resolve():
        raise ImportFailed("source and output are the same folder")
    with atomic_folder(out, replace=force) as folder:
        if source.is_dir():
            import_folder(source, folder, link)
        else:
            import_gguf(source, folder)
        hf_folder.check_folder(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a GGUF file or a Hugging Face folder")
    parser.add_argument("out", type=Path, help="the model folder to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--copy", action="store_true",
                        help="copy the weights of a Hugging Face folder instead of linking them")
    args = parser.parse_args()
    try:
        import_model(args.source, args.out, link=not args.copy, force=args.force)
    except ImportFailed as error:
        print(f"import_model.py: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"import_model.py: {error}; run deploy/local/setup.sh, then use the Python in .venv",
              file=sys.stderr)
        return 1
    except OSError as error:
        print(f"import_model.py: {error}", file=sys.stderr)
        return 1
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
