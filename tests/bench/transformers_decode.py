#!/usr/bin/env python3
"""Plain decoding speed of `transformers` generate, to stand beside engine_bench in one run.

    transformers_decode.py MODEL_DIR [bf16|fp32] [THREADS] [CONTEXT]
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    model_dir = sys.argv[1]
    dtype = torch.float32 if sys.argv[2:3] == ["fp32"] else torch.bfloat16
    torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    context = int(sys.argv[4]) if len(sys.argv) > 4 else 128
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype).eval()
    prompt = torch.tensor([[10 + (i * 7919) % 1000 for i in range(context)]])
    speeds = []
    for count in (8, 128, 128, 128):  # the first warms up
        start = time.perf_counter()
        with torch.inference_mode():
            model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                           min_new_tokens=count, max_new_tokens=count)
        speeds.append(count / (time.perf_counter() - start))
    print(json.dumps({"decode_tokens_per_second": round(sorted(speeds[1:])[1], 1)}))


if __name__ == "__main__":
    main()
