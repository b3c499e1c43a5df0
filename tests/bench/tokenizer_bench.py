#!/usr/bin/env python3
"""Compares strata's tokenizer with PyPI `tokenizers` on one thread.

    tokenizer_bench.py BIN MODEL_DIR [ROUNDS]

BIN is build/release/bin/tokenizer_bench. The texts are the test corpus (STRATA_TEST_DATA).
Each round runs both, one after the other; the best of each counts. Prints JSON; exits
with 1 if strata is slower at encoding or the numbers of tokens differ.
"""

import json
import lzma
import os
import struct
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer  # noqa: E402  (reads the variables above)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binary, model = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    data = os.environ.get("STRATA_TEST_DATA") or sys.exit("tokenizer_bench.py: set STRATA_TEST_DATA")
    with lzma.open(os.path.join(data, "corpus.jsonl.xz"), "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    tokenizer = Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    size = sum(len(t.encode()) for t in texts)
    ours, theirs = [], []
    with tempfile.NamedTemporaryFile() as file:
        for text in texts:
            raw = text.encode()
            file.write(struct.pack("<I", len(raw)) + raw)
        file.flush()
        for _ in range(rounds):
            out = subprocess.run([binary, model, file.name, "1"], check=True, capture_output=True, text=True)
            ours.append(json.loads(out.stdout))
            start = time.perf_counter()
            ids = [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
            middle = time.perf_counter()
            tokenizer.decode_batch(ids, skip_special_tokens=False)
            theirs.append((middle - start, time.perf_counter() - middle, sum(map(len, ids))))
    encode, decode = min(o["encode_s"] for o in ours), min(o["decode_s"] for o in ours)
    their_encode, their_decode = min(t[0] for t in theirs), min(t[1] for t in theirs)
    same = ours[0]["tokens"] == theirs[0][2]
    result = {
        "texts": len(texts), "tokens": ours[0]["tokens"], "same_tokens": same,
        "encode_mb_s": round(size / encode / 1e6, 1), "pypi_encode_mb_s": round(size / their_encode / 1e6, 1),
        "encode_ratio": round(their_encode / encode, 2),
        "decode_mb_s": round(size / decode / 1e6, 1), "pypi_decode_mb_s": round(size / their_decode / 1e6, 1),
        "decode_ratio": round(their_decode / decode, 2),
    }  # fmt: skip
    print(json.dumps(result))
    sys.exit(0 if same and encode <= their_encode else 1)


if __name__ == "__main__":
    main()
