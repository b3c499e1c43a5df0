"""Generates answers in turns and prints the table; started by generate.py."""

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile

import generators
import prepare
from transformers import AutoTokenizer

SYSTEMS = "strata,strata-plain,llama,llama-q4,lookup,lookup-dynamic,transformers,transformers-lookup"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="generate.py", description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="model folder")
    parser.add_argument("--prompts", type=pathlib.Path, required=True, help="Spec-Bench .jsonl")
    parser.add_argument("--strata", type=pathlib.Path, required=True, help="folder of the binaries")
    parser.add_argument("--corpus", type=pathlib.Path, help="snapshot for Strata's corpus tier")
    parser.add_argument("--model-tier-dir", type=pathlib.Path, help="Strata's saved model tiers")
    parser.add_argument("--systems", default=SYSTEMS, help=f"comma-separated, of {SYSTEMS}")
    parser.add_argument("--limit", type=int, default=0,
                        help="so many prompts, spread over the file; 0: all")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="write all figures to this file")
    arguments = parser.parse_args()
    for path in (arguments.model, arguments.prompts, arguments.strata):
        if not path.exists():
            parser.error(f"there is no {path}")
    arguments.systems = arguments.systems.split(",")
    unknown = set(arguments.systems) - set(SYSTEMS.split(","))
    if unknown:
        parser.error(f"no such system: {', '.join(sorted(unknown))}; there are {SYSTEMS}")
    return arguments


def chat_prompt(tokenizer, category: str, message: str) -> generators.Prompt:
    text = tokenizer.apply_chat_template([{"role": "user", "content": message}],
                                         add_generation_prompt=True, tokenize=False)
    return generators.Prompt(category, text,
                             tokenizer(text, add_special_tokens=False)["input_ids"])


def read_prompts(arguments: argparse.Namespace, tokenizer) -> list[generators.Prompt]:
    with open(arguments.prompts, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    if 0 < arguments.limit < len(rows):
        rows = [rows[i * len(rows) // arguments.limit] for i in range(arguments.limit)]
    return [chat_prompt(tokenizer, row.get("category", ""), row["turns"][0]) for row in rows]


def start_systems(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> list:
    """All that was asked for, ready; ended by `stack`."""
    settings = generators.Settings(arguments.model, arguments.max_tokens, arguments.threads)
    wanted = arguments.systems
    python = pathlib.Path(sys.executable)
    systems = []
    if {"strata", "strata-plain"} & set(wanted):
        service = []
        if arguments.corpus:
            service += ["--corpus", str(arguments.corpus)]
        if arguments.model_tier_dir:
            service += ["--model-tier-dir", str(arguments.model_tier_dir)]
        address = stack.enter_context(
            generators.strata_service(arguments.strata, settings, service))
        for name, mode in (("strata", "drafted"), ("strata-plain", "plain")):
            if name in wanted:
                systems.append(generators.Strata(arguments.strata, address, settings, mode))
    for name, kind in (("llama", "bf16"), ("llama-q4", "Q4_1")):
        if name in wanted:
            gguf = prepare.convert_to_gguf(python, arguments.model, kind)
            address = stack.enter_context(generators.llama_server(
                prepare.llama_cpp_tool("llama-server"), gguf, settings))
            systems.append(generators.LlamaServer(address, kind, settings))
    for name in ("lookup", "lookup-dynamic"):
        if name in wanted:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            systems.append(generators.LlamaLookup(
                prepare.llama_cpp_tool("llama-lookup"),
                prepare.convert_to_gguf(python, arguments.model, "bf16"), settings, folder,
                learns=name == "lookup-dynamic"))
    if {"transformers", "transformers-lookup"} & set(wanted):
        model = generators.load_transformers(settings)
        for name in ("transformers", "transformers-lookup"):
            if name in wanted:
                systems.append(
                    generators.Transformers(model, settings, name == "transformers-lookup"))
    return systems


def speed(answers: list) -> float:
    return sum(answer.tokens for answer in answers) / sum(answer.seconds for answer in answers)


def print_table(systems: list, prompts: list, answers: dict) -> dict:
    categories = sorted({prompt.category for prompt in prompts})
    first = systems[0].name
    figures = {}
    print(f"\n{'tokens/s after the first':34}{'all':>8}{'ratio':>7}  " +
          " ".join(f"{category[:9]:>9}" for category in categories))
    for system in systems:
        mine = answers[system.name]
        groups = {category: speed([a for a, p in zip(mine, prompts) if p.category == category])
                  for category in categories}
        ratio = speed(answers[first]) / speed(mine)
        figures[system.name] = {"tokens": sum(a.tokens for a in mine), "tokens_per_second": speed(mine),
                                "first_is_faster_by": ratio, "categories": groups}
        print(f"{system.name:34}{speed(mine):8.1f}{ratio:7.2f}  " +
              " ".join(f"{groups[category]:9.1f}" for category in categories))
    return figures


def main() -> int:
    arguments = parse_arguments()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    prompts = read_prompts(arguments, tokenizer)
    # Whoever learns from answers learns nothing of use from this one's.
    warm_up = chat_prompt(tokenizer, "", "Count from one to twenty.")
    with contextlib.ExitStack() as stack:
        try:
            systems = start_systems(arguments, stack)
        except (prepare.PrepareError, RuntimeError) as error:
            print(f"generate.py: {error}", file=sys.stderr)
            return 1
        for system in systems:  # what is done once, such as reading the weights
            system.generate(warm_up)
        answers = {system.name: [] for system in systems}
        for number, prompt in enumerate(prompts):
            # In turns, each time beginning with another: a slow minute of the machine hits all.
            for k in range(len(systems)):
                system = systems[(number + k) % len(systems)]
                answers[system.name].append(system.generate(prompt))
            print(f"\r{number + 1} of {len(prompts)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    figures = print_table(systems, prompts, answers)
    if arguments.out:
        arguments.out.write_text(json.dumps(
            {"model": arguments.model.resolve().name, "prompts": len(prompts),
             "max_tokens": arguments.max_tokens, "threads": arguments.threads,
             "systems": figures}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
