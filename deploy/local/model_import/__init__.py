"""Import of models: a GGUF file or a Hugging Face folder to what Strata reads.

errors.py          the one exception that users see
gguf_model.py      GGUF metadata and weights -> config.json fields, named tensors
gguf_tokenizer.py  GGUF vocabulary -> tokenizer.json, tokenizer_config.json
hf_folder.py       checks of a Hugging Face folder: files, shapes against config.json
output.py          a folder that appears whole or not at all
"""
