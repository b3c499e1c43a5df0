"""tokenizer.json and tokenizer_config.json from a GGUF file's vocabulary.

Built from the file's own tokens and merges: the GGUF loader of transformers 5.23 drops
Digits(individual_digits) for SmolLM2, and drops NFC and keeps 271 filler tokens
([PADn], there to round the vocabulary up) for Qwen2.

GGUF names the pre-tokenizer (`tokenizer.ggml.pre`) but does not describe it; those known
here were compared with the models' published tokenizer.json. To add one, add a branch to
_pipeline().
"""

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors

from .errors import ImportFailed
from .gguf_model import GgufModel

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # tokenizer.ggml.token_type

_QWEN2_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def _pipeline(kind: str) -> tuple[Any, Any]:
    """(normalizer or None, pre-tokenizer) of a `tokenizer.ggml.pre` value."""
    if kind == "smollm":
        return None, pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ])
    if kind == "qwen2":
        return normalizers.NFC(), pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(_QWEN2_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ])
    raise ImportFailed(f"no pre-tokenizer is known for {kind!r} (known: qwen2, smollm); import "
                       "the model's Hugging Face folder instead, which has a tokenizer.json")


class GgufTokenizer:
    """The tokenizer of a GGUF file, rebuilt."""

    def __init__(self, model: GgufModel):
        kind = model.field("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ImportFailed(
                f"{model.path.name} has a tokenizer of kind {kind!r}; from GGUF only 'gpt2' "
                "(byte-level BPE) is supported; import the model's Hugging Face folder instead")
        self._model = model
        self._tokens = model.field("tokenizer.ggml.tokens")
        self._types = model.field("tokenizer.ggml.token_type")
        merges = model.field("tokenizer.ggml.merges")
        if not self._tokens or not self._types or not merges:
            raise ImportFailed(f"{model.path.name} lacks a vocabulary (tokens, types or merges)")
        self.tokenizer = self._build(merges)

    def _build(self, merges: list[str]) -> Tokenizer:
        pre = self._model.field("tokenizer.ggml.pre")
        normalizer, pre_tokenizer = _pipeline(pre)
        # SmolLM2's published tokenizer has its control tokens in the BPE vocabulary too.
        in_bpe = (_NORMAL, _CONTROL) if pre == "smollm" else (_NORMAL,)
        vocabulary = {token: i for i, token in enumerate(self._tokens) if self._types[i] in in_bpe}
        try:
            bpe = models.BPE(vocab=vocabulary, merges=[tuple(m.split(" ", 1)) for m in merges])
        except Exception as error:
            raise ImportFailed(f"{self._model.path.name}: merges do not fit the vocabulary "
                               f"({error})") from error
        tokenizer = Tokenizer(bpe)
        if normalizer is not None:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        for i, token in self._added():
            special = self._types[i] == _CONTROL
            add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
            add([AddedToken(token, special=special, normalized=False)])
            if tokenizer.token_to_id(token) != i:
                raise ImportFailed(
                    f"{self._model.path.name}: added token {token!r} has id {i} in the file but "
                    f"would get {tokenizer.token_to_id(token)}; ids of added tokens must be "
                    "consecutive")
        bos = self._model.field("tokenizer.ggml.bos_token_id")
        if self._model.field("tokenizer.ggml.add_bos_token", False) and bos is not None:
            token = self._tokens[bos]
            tokenizer.post_processor = processors.TemplateProcessing(
                single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, bos)])
        return tokenizer

    def _added(self) -> list[tuple[int, str]]:
        return [(i, token) for i, token in enumerate(self._tokens)
                if self._types[i] in (_CONTROL, _USER_DEFINED)]

    def eos_token_ids(self) -> list[int]:
        """Every token that ends an answer: the file's own, and the end of a document."""
        ids = {self._model.field(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")}
        ids.add(self.tokenizer.token_to_id("<|endoftext|>"))
        return sorted(ids - {None})

    def config(self) -> dict[str, Any]:
        """The fields of tokenizer_config.json, with the chat template if the file has one."""
        config: dict[str, Any] = {
            "add_bos_token": bool(self._model.field("tokenizer.ggml.add_bos_token", False)),
            "add_prefix_space": False,
            "added_tokens_decoder": {
                str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False,
                         "single_word": False, "special": self._types[i] == _CONTROL}
                for i, token in self._added()
            },
            "clean_up_tokenization_spaces": False,
            "model_max_length": self._model.required("context_length"),
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
        for name, field in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
            token_id = self._model.field(f"tokenizer.ggml.{field}_token_id")
            if token_id is not None:
                config[f"{name}_token"] = self._tokens[token_id]
        template = self._model.field("tokenizer.chat_template")
        if template:
            config["chat_template"] = template
        return config
