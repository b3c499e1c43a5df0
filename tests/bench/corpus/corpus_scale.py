#!/usr/bin/env python3
"""Builds a large corpus snapshot from the sources of installed packages and prints figures as JSON.

    corpus_scale.py --bin BUILD/bin --tokenizer MODEL_DIR --work DIR [--root DIR]... [--tokens N]

Text is taken once each from the files below the roots. If it runs out before N tokens, it is used
again with the words of each document shuffled; "real_share" then says how much was real.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import time

SUFFIXES = {
    ".py", ".pyi", ".c", ".cc", ".cpp", ".h", ".hh", ".hpp", ".cuh", ".inc", ".md", ".rst", ".txt",
    ".js", ".ts", ".html", ".css", ".json", ".xml", ".pm", ".pl", ".rb", ".sh", ".cmake", ".tex",
    ".el", ".go", ".rs", ".java", ".proto", ".yaml", ".yml", ".po", ".pod", ".m4", ".tcl", ".lua",
}
MAX_FILE_BYTES = 2 << 20
SHARD_BYTES = 64 << 20


def texts(roots):
    """Yields the text of each distinct file."""
    seen = set()
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.splitext(name)[1] not in SUFFIXES or os.path.islink(path):
                    continue
                try:
                    if os.path.getsize(path) > MAX_FILE_BYTES:
                        continue
                    with open(path, "rb") as file:
                        data = file.read()
                except OSError:
                    continue
                digest = hashlib.blake2b(data, digest_size=12).digest()
                if digest in seen or b"\0" in data:
                    continue
                seen.add(digest)
                yield data.decode("utf-8", errors="replace")


def shuffled(paths, seed):
    """Yields the documents of jsonl files again, with their words in another order."""
    chance = random.Random(seed)
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                words = json.loads(line)["text"].split(" ")
                chance.shuffle(words)
                yield " ".join(words)


class Writer:
    """Writes documents to jsonl files of about SHARD_BYTES until `limit` bytes of text."""

    def __init__(self, folder, limit):
        self.folder, self.limit = folder, limit
        self.paths, self.bytes, self.file = [], 0, None

    def add(self, text):
        """Returns False once there is enough."""
        if self.file is None or self.file.tell() > SHARD_BYTES:
            self.close()
            path = os.path.join(self.folder, f"{len(self.paths):04d}.jsonl")
            self.paths.append(path)
            self.file = open(path, "w", encoding="utf-8")
        self.file.write(json.dumps({"text": text}, ensure_ascii=True) + "\n")
        self.bytes += len(text.encode())
        return self.bytes < self.limit

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None


def run(command):
    """Runs a command; returns its output, seconds, and peak resident bytes."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command[0]} ended with {process.returncode}")
    return json.loads(output), time.monotonic() - started, usage.ru_maxrss * 1024


def collect(arguments, bytes_a_token):
    folder = os.path.join(arguments.work, "text")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        os.remove(os.path.join(folder, name))
    writer = Writer(folder, arguments.tokens * bytes_a_token)
    enough = False
    for text in texts(arguments.root):
        enough = not writer.add(text)
        if enough:
            break
    writer.close()
    real_bytes, real_paths = writer.bytes, list(writer.paths)
    seed = 0
    while not enough and real_bytes > 0:
        seed += 1
        for text in shuffled(real_paths, seed):
            enough = not writer.add(text)
            if enough:
                break
        writer.close()
    return folder, real_bytes, writer.bytes


def build(arguments, name, inputs):
    threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    return run([
        os.path.join(arguments.bin, "strata-corpus"), "build", "--json", "--fresh",
        "--tokenizer", arguments.tokenizer, "--out", os.path.join(arguments.work, "root"),
        "--name", name, "--memory", str(arguments.memory), *threads, inputs])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin", required=True, help="folder of strata-corpus and corpus_probe")
    parser.add_argument("--tokenizer", required=True, help="folder with tokenizer.json")
    parser.add_argument("--work", required=True, help="folder for text and snapshots, emptied")
    parser.add_argument("--root", action="append", help="where text is taken from (default: /usr)")
    parser.add_argument("--tokens", type=int, default=200_000_000)
    parser.add_argument("--memory", type=int, default=1024, help="MiB for strata-corpus")
    parser.add_argument("--threads", type=int, help="default: strata-corpus's")
    parser.add_argument("--cache", type=int, default=256, help="MiB for the reader")
    parser.add_argument("--lookups", type=int, default=2_000_000)
    arguments = parser.parse_args()
    arguments.root = arguments.root or ["/usr"]
    subprocess.run(["rm", "-rf", os.path.join(arguments.work, "root")], check=True)

    # How many bytes make a token is learned from a small build of the same kind of text.
    tokens, arguments.tokens = arguments.tokens, min(arguments.tokens, 1_000_000)
    folder, _, sample_bytes = collect(arguments, 3)
    sample, _, _ = build(arguments, "sample", folder)
    arguments.tokens = tokens
    # Others may have more bytes a token than the sample (seen: an eighth), and N is the least.
    folder, real_bytes, total_bytes = collect(arguments, 1.25 * sample_bytes / sample["tokens"])
    if total_bytes == 0:
        sys.exit("no text below the roots")
    report, seconds, peak = build(arguments, "scale", folder)
    probe, _, _ = run([os.path.join(arguments.bin, "corpus_probe"), report["path"],
                       str(arguments.cache), str(arguments.lookups)])
    print(json.dumps({
        "tokens": report["tokens"],
        "real_share": round(real_bytes / total_bytes, 4),
        "text_bytes": total_bytes,
        "threads": arguments.threads or "default",
        "seconds": round(seconds, 1),
        "tokens_per_second": round(report["tokens"] / seconds),
        "contexts": report["context_count"],
        "snapshot_bytes": report["bytes"],
        "bytes_per_token": round(report["bytes"] / report["tokens"], 2),
        "runs": report["runs"],
        "memory_limit_bytes": arguments.memory << 20,
        "builder_peak_rss_bytes": peak,
        "builder_over_limit_bytes": peak - (arguments.memory << 20),
        "cache_bytes": arguments.cache << 20,
        "reader_over_cache_bytes": probe["rss_bytes"] - (arguments.cache << 20),
        "reader": probe,
    }, indent=2))


if __name__ == "__main__":
    main()
