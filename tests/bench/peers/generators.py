"""What generates answers in generate.py: services and programs, one answer at a time, greedily."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import urllib.request

START_SECONDS = 300


@dataclasses.dataclass
class Answer:
    """One answer; `seconds` from its first token to its last."""

    tokens: int
    seconds: float


@dataclasses.dataclass
class Prompt:
    category: str
    # With the model's chat template; the ids are those of the text.
    text: str
    ids: list[int]


@dataclasses.dataclass
class Settings:
    model: pathlib.Path
    max_tokens: int
    threads: int


def _wait_until(ready, process: subprocess.Popen, what: str) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with {process.returncode} before it was ready")
        if ready():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{what} was not ready within {START_SECONDS} s")


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    process.wait()


class Strata:
    """A running strata-verify, asked by the client. `mode`: drafted or plain."""

    def __init__(self, binaries: pathlib.Path, address: str, settings: Settings, mode: str):
        self.name = f"Strata, {mode}"
        self._command = [str(binaries / "strata"), "generate", "--json", "--address", address,
                         "--max-tokens", str(settings.max_tokens)]
        if mode == "plain":
            self._command.append("--no-speculation")

    def generate(self, prompt: Prompt) -> Answer:
        ids = ",".join(str(token) for token in prompt.ids)
        done = subprocess.run([*self._command, "--token-ids", ids], check=True, text=True,
                              stdout=subprocess.PIPE)
        figures = json.loads(done.stdout)["statistics"]
        seconds = figures["total_seconds"] - figures["prefill_seconds"]
        return Answer(figures["output_tokens"] - 1, seconds)


@contextlib.contextmanager
def strata_service(binaries: pathlib.Path, settings: Settings, arguments: list[str]):
    """The address of a strata-verify with drafts of its own."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = pathlib.Path(folder) / "port"
        process = subprocess.Popen(
            [binaries / "strata-verify", "--model", settings.model, "--threads",
             str(settings.threads), "--listen", "127.0.0.1:0", "--port-file", port_file,
             "--log-level", "warn", *arguments], stdout=subprocess.DEVNULL)
        try:
            _wait_until(port_file.exists, process, "strata-verify")
            yield port_file.read_text().strip()
        finally:
            _stop(process)


class LlamaServer:
    """A llama-server, without its prompt cache."""

    def __init__(self, address: str, kind: str, settings: Settings):
        self.name = f"llama.cpp, {kind}"
        self._url = f"http://{address}/completion"
        self._max_tokens = settings.max_tokens

    def generate(self, prompt: Prompt) -> Answer:
        body = {"prompt": prompt.ids, "n_predict": self._max_tokens, "temperature": 0,
                "cache_prompt": False}
        request = urllib.request.Request(self._url, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            timings = json.load(response)["timings"]
        # Its first token is the prompt's; its time begins behind it.
        return Answer(timings["predicted_n"] - 1, timings["predicted_ms"] / 1000)


@contextlib.contextmanager
def llama_server(program: pathlib.Path, gguf: pathlib.Path, settings: Settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [program, "-m", gguf, "-t", str(settings.threads), "-c", "8192", "-np", "1",
         "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as response:
                return response.status == 200
        except OSError:
            return False

    try:
        _wait_until(healthy, process, "llama-server")
        yield f"127.0.0.1:{port}"
    finally:
        _stop(process)


class LlamaLookup:
    """llama-lookup, a process an answer; `learns`: its dynamic cache takes each finished answer."""

    def __init__(self, program: pathlib.Path, gguf: pathlib.Path, settings: Settings,
                 folder: pathlib.Path, learns: bool):
        self.name = "llama.cpp, lookup" + (" + dynamic cache" if learns else "")
        self._prompt_file = folder / f"prompt-{learns}"
        self._command = [str(program), "-m", str(gguf), "-t", str(settings.threads), "-c", "8192",
                         "-n", str(settings.max_tokens), "--temp", "0", "-f",
                         str(self._prompt_file)]
        if learns:
            self._command += ["-lcd", str(folder / "dynamic.cache")]

    def generate(self, prompt: Prompt) -> Answer:
        self._prompt_file.write_text(prompt.text, encoding="utf-8")
        done = subprocess.run(self._command, check=True, capture_output=True)
        output = (done.stdout + done.stderr).decode("utf-8", "replace")
        # "decoded  128 tokens in    1.052 seconds, speed:  121.7 t/s"
        decoded = re.search(r"decoded +(\d+) tokens in +([\d.]+) seconds", output)
        if decoded is None:
            raise RuntimeError(f"llama-lookup printed no speed; the end of its output: {output[-300:]}")
        return Answer(int(decoded[1]), float(decoded[2]))


class Transformers:
    """PyPI transformers in this process; `lookup`: with its prompt lookup, 10 tokens."""

    def __init__(self, model, settings: Settings, lookup: bool):
        self.name = "transformers, " + ("prompt lookup" if lookup else "plain")
        self._model = model
        self._arguments = {"max_new_tokens": settings.max_tokens, "do_sample": False}
        if lookup:
            self._arguments["prompt_lookup_num_tokens"] = 10

    def generate(self, prompt: Prompt) -> Answer:
        import torch

        clock = _FirstTokenClock()
        ids = torch.tensor([prompt.ids])
        with torch.inference_mode():
            output = self._model.generate(ids, attention_mask=torch.ones_like(ids), streamer=clock,
                                          **self._arguments)
        seconds = time.perf_counter() - clock.first
        return Answer(output.shape[1] - len(prompt.ids) - clock.first_tokens, seconds)


class _FirstTokenClock:
    """A streamer: when the tokens came that the prompt's own pass gave."""

    def __init__(self):
        self.first = None
        self.first_tokens = 0
        self._calls = 0

    def put(self, tokens) -> None:
        self._calls += 1
        # The first call is the prompt.
        if self._calls == 2:
            self.first = time.perf_counter()
            self.first_tokens = tokens.numel()

    def end(self) -> None:
        pass


def load_transformers(settings: Settings):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(settings.threads)
    return AutoModelForCausalLM.from_pretrained(settings.model, dtype=torch.bfloat16).eval()
