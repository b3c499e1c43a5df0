"""The peers behind one interface: name, timed, start(prompt), accept(tokens), draft() -> (tokens, parents)."""

import collections
import ctypes
import functools
import importlib.util
import pathlib

import numpy as np

from corpus_text import Corpus, suffix_array


def _merge(chains) -> tuple:
    """Chains as a tree: tokens and parents."""
    nodes, tokens, parents = {}, [], []
    for chain in chains:
        parent = -1
        for token in chain:
            if (parent, token) not in nodes:
                nodes[parent, token] = len(tokens)
                tokens.append(token)
                parents.append(parent)
            parent = nodes[parent, token]
    return tokens, parents


@functools.cache
def _extension(library: pathlib.Path):
    """The compiled module `_C`, which a process can load only once."""
    spec = importlib.util.spec_from_file_location("_C", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Sequence:
    """Keeps the tokens so far."""

    timed = True

    def start(self, prompt: list) -> None:
        self.tokens = list(prompt)

    def accept(self, tokens: list) -> None:
        self.tokens += tokens


class PromptLookup(Sequence):
    """The generator of PyPI transformers."""

    name = "prompt lookup (n <= 3, 10 tokens)"

    def __init__(self):
        import torch
        from transformers.generation import candidate_generator

        torch.set_num_threads(1)
        self.torch = torch
        self.generator = candidate_generator.PromptLookupCandidateGenerator(
            num_output_tokens=10, max_matching_ngram_size=3, max_length=1 << 30
        )

    def draft(self) -> tuple:
        inputs = self.torch.tensor([self.tokens])
        chain = self.generator.get_candidates(inputs)[0][0, len(self.tokens) :].tolist()
        return chain, list(range(-1, len(chain) - 1))


class LlamaLookup:
    """llama.cpp's n-gram caches: common/ngram-cache.cpp through llama_lookup_shim.cc."""

    timed = True

    def __init__(self, library: pathlib.Path, corpus: Corpus | None, most: int = 16):
        self.name = "llama.cpp lookup, context+dynamic" + ("+static" if corpus else "")
        self.c = ctypes.CDLL(str(library))
        self.c.lookup_new.restype = ctypes.c_void_p
        self.lookup = ctypes.c_void_p(self.c.lookup_new())
        self.out = (ctypes.c_int32 * most)()
        if corpus is not None:
            for document in corpus.documents():
                self._call(self.c.lookup_add_static, document)

    def _call(self, function, tokens) -> None:
        array = np.ascontiguousarray(tokens, np.int32)
        function(self.lookup, array.ctypes.data_as(ctypes.c_void_p), ctypes.c_int32(len(array)))

    def start(self, prompt: list) -> None:
        self._call(self.c.lookup_start, prompt)

    def accept(self, tokens: list) -> None:
        self._call(self.c.lookup_accept, tokens)

    def draft(self) -> tuple:
        count = self.c.lookup_draft(self.lookup, len(self.out), self.out)
        return self.out[:count], list(range(-1, count - 1))


class SuffixDecoding(Sequence):
    """The suffix tree of PyPI arctic-inference, used as its SuffixDecodingCache does: one tree of the
    sequence and one of all outputs so far; the draft with the higher score."""

    DEPTH = 64

    def __init__(self, library: pathlib.Path, factor: float, offset: float, least: float):
        self.tree = _extension(library).SuffixTree
        self.name = f"SuffixDecoding tree, probability >= {least}"
        self.options = (32, factor, offset, least, True)
        self.outputs = self.tree(self.DEPTH)
        self.sequence = 0

    def start(self, prompt: list) -> None:
        super().start(prompt)
        self.local = self.tree(self.DEPTH)
        self.local.extend(0, prompt)
        self.sequence += 1

    def accept(self, tokens: list) -> None:
        super().accept(tokens)
        self.local.extend(0, tokens)
        self.outputs.extend(self.sequence, tokens)

    def draft(self) -> tuple:
        context = self.tokens[-self.DEPTH :]
        local = self.local.speculate(context, *self.options)
        shared = self.outputs.speculate(context, *self.options)
        best = local if local.score >= shared.score else shared
        return list(best.token_ids), list(best.parents)


class Aded(Sequence):
    """PyPI draftretriever: ADED's retriever, which descends from REST's. Drafts the tree of its own
    Monte Carlo search, so figures differ a little from run to run."""

    def __init__(self, corpus: Corpus, cache: pathlib.Path, nodes: int = 64):
        import draftretriever

        self.name = f"ADED retrieval, {nodes} nodes (draftretriever)"
        self.nodes = nodes
        store = cache / "corpus" / f"aded-{len(corpus.tokens)}-{corpus.separator}.idx"
        if not store.exists():
            new = store.with_suffix(".new")
            writer = draftretriever.Writer(file_path=str(new), vocab_size=corpus.separator)
            for document in corpus.documents():
                writer.add_entry(document.tolist())
            writer.finalize()
            new.replace(store)
        self.reader = draftretriever.Reader(index_file_path=str(store))

    def draft(self) -> tuple:
        # The longest that is found. It panics when asked for a single token.
        for length in (3, 2):
            chains = self.reader.search(self.tokens[-length:], choices=self.nodes)[0]
            if chains:
                return _merge([token for token in chain if token >= 0] for chain in chains)
        return [], []


class Rest(Sequence):
    """REST's rule (arXiv 2311.08252, section 3): the longest suffix of 16 to 1 tokens that the corpus
    has; of up to 5,000 continuations of 10 tokens, the prefixes that are most frequent. Written anew
    here, since REST's own retriever is not on PyPI; so its time says nothing."""

    timed = False

    def __init__(self, corpus: Corpus, nodes: int = 64):
        self.name = f"REST retrieval, {nodes} nodes (re-implemented)"
        self.corpus, self.nodes = corpus, nodes
        self.order = suffix_array(corpus.tokens)
        # Where the suffixes begin that start with each token.
        self.first = np.searchsorted(corpus.tokens[self.order], np.arange(corpus.separator + 2))
        self.drafts = {}

    def _narrow(self, low: int, high: int, depth: int, token: int) -> tuple:
        """The part of order[low:high] whose suffixes have `token` at `depth`."""
        size = len(self.corpus.tokens)

        def bound(low, high, above):
            while low < high:
                middle = (low + high) // 2
                at = self.order[middle] + depth
                found = self.corpus.tokens[at] if at < size else -1
                if found < token or (above and found == token):
                    low = middle + 1
                else:
                    high = middle
            return low

        begin = bound(low, high, False)
        return begin, bound(begin, high, True)

    def _find(self, context: tuple) -> tuple:
        low, high = int(self.first[context[0]]), int(self.first[context[0] + 1])
        for depth, token in enumerate(context[1:], 1):
            if low == high:
                break
            low, high = self._narrow(low, high, depth, token)
        return low, high

    def _continuations(self, context: tuple, low: int, high: int) -> list:
        if context in self.drafts:
            return self.drafts[context]
        starts = self.order[low : min(high, low + 5000)] + len(context)
        prefixes, groups = [], {(): starts}
        for _ in range(10):
            longer = {}
            for prefix, positions in groups.items():
                positions = positions[positions < len(self.corpus.tokens)]
                following = self.corpus.tokens[positions]
                for token, count in collections.Counter(following.tolist()).most_common(self.nodes):
                    if token != self.corpus.separator:
                        longer[*prefix, token] = positions[following == token] + 1
            # A prefix is at least as frequent as what it begins, so no other can be kept.
            best = sorted(longer.items(), key=lambda item: -len(item[1]))[: self.nodes]
            prefixes += [(len(positions), prefix) for prefix, positions in best]
            groups = dict(best)
        # Ties to the shorter, so that a prefix comes before what it begins.
        prefixes.sort(key=lambda item: (-item[0], len(item[1])))
        draft = [prefix for _, prefix in prefixes[: self.nodes]]
        self.drafts[context] = draft
        return draft

    def draft(self) -> tuple:
        found = None
        # A suffix that the corpus lacks rules out all longer ones.
        for length in range(1, min(16, len(self.tokens)) + 1):
            context = tuple(self.tokens[-length:])
            low, high = self._find(context)
            if low == high:
                break
            found = (context, low, high)
        return _merge(self._continuations(*found)) if found else ([], [])
