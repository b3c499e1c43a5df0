"""Runs the drafters on the recorded answers and prints the table; started by run.py.

Exit status 1, with the categories and figures: a peer is better somewhere; see categories.below.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import categories
import corpus_text
import drafters
import harness
import prepare
from result import Result

GROUPS = ["mtbench", "translation", "summarization", "qa", "math_reasoning", "rag"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--corpus-text", type=pathlib.Path, required=True, help=".jsonl.xz with `text`")
    parser.add_argument("--replay", type=pathlib.Path, required=True, help="recorded answers")
    parser.add_argument("--strata", type=pathlib.Path, help="folder with strata-replay")
    parser.add_argument("--snapshot", type=pathlib.Path, help="strata-corpus build of --corpus-text")
    parser.add_argument("--budgets", default="4,8,16,32,64",
                        help="nodes of Strata's trees; smaller ones are added for peers that draft "
                             "fewer than the smallest")
    parser.add_argument("--path-probabilities", default="0.5,0.25,0.1,0.05",
                        help="least path probabilities, at 32 nodes: trees that are large only where "
                             "it is likely to pay, as the peers' are; compare at equal drafted nodes")
    parser.add_argument("--policies", default="locality,calibrated", help="Strata's policies")
    parser.add_argument("--peers", default="pld,llama,suffix,rest,aded", help="comma-separated; or none")
    parser.add_argument("--limit", type=int, default=0, help="first rows alone")
    arguments = parser.parse_args()
    for path in (arguments.model, arguments.corpus_text, arguments.replay):
        if not path.exists():
            parser.error(f"there is no {path}")
    if arguments.strata and not arguments.snapshot:
        parser.error("--strata needs --snapshot")
    return arguments


def peers(names: list, arguments: argparse.Namespace):
    """Makes one drafter after another, so that only one is in memory."""
    cache = prepare.cache_dir()
    corpus = corpus_text.load(arguments.corpus_text, arguments.model, cache)
    suffix_tree = next((cache / "lib").glob("_C*.so"))
    llama = cache / "lib" / "llama_lookup.so"
    makers = {
        "pld": [drafters.PromptLookup],
        "llama": [lambda: drafters.LlamaLookup(llama, None),
                  lambda: drafters.LlamaLookup(llama, corpus)],
        "suffix": [lambda: drafters.SuffixDecoding(suffix_tree, 1.0, 0.0, 0.1),
                   lambda: drafters.SuffixDecoding(suffix_tree, 4.0, 4.0, 0.01)],
        "rest": [lambda: drafters.Rest(corpus)],
        "aded": [lambda: drafters.Aded(corpus, cache)],
    }
    unknown = [name for name in names if name not in makers]
    if unknown:
        sys.exit(f"run.py: no such peer: {', '.join(unknown)}; there are {', '.join(makers)}")
    for name in names:
        for make in makers[name]:
            yield make()


def strata(policy: str, budget: int, arguments: argparse.Namespace,
           least: str | None = None) -> Result:
    command = [arguments.strata / "strata-replay", "--model", arguments.model, "--corpus",
               arguments.snapshot, "--replay", arguments.replay, "--policy", policy,
               "--budget", budget, "--limit", arguments.limit, "--json"]
    name = f"Strata {policy}, {budget} nodes"
    if least is not None:
        command += ["--min-path-probability", least]
        name += f", path >= {least}"
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"run.py: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    groups = {**report["categories"], "all": report}
    rates = {name: tally["tokens_per_step"] for name, tally in groups.items()}
    drafted = {name: tally["drafted_per_step"] for name, tally in groups.items()}
    # The peers learn before they draft, and are timed with it.
    times, learning = report["steady_draft_us"], report["learn_us"]
    return Result(name, rates, drafted,
                  times["p50"] + learning["p50"], times["p99"] + learning["p99"])


def print_header() -> None:
    print(f"{'drafter':45} {'tok/step':>8} {'drafted':>8} {'p50 us':>8} {'p99 us':>8} "
          + " ".join(f"{name[:13]:>13}" for name in GROUPS), flush=True)


def print_result(result: Result) -> None:
    def time_text(value):
        return "-" if value is None else f"{value:.0f}"

    print(f"{result.name:45} {result.tokens_per_step['all']:8.2f} "
          f"{result.drafted_per_step['all']:8.1f} "
          f"{time_text(result.p50_us):>8} {time_text(result.p99_us):>8} "
          + " ".join(f"{result.tokens_per_step.get(name, 0):13.2f}" for name in GROUPS), flush=True)


def run_ours(arguments: argparse.Namespace, beside: list[Result]):
    """Runs one configuration after another; what `beside` needs to be compared at equal nodes is
    among them."""
    budgets = [int(budget) for budget in arguments.budgets.split(",")]
    budgets = categories.small_budgets(beside, budgets) + budgets
    for policy in arguments.policies.split(","):
        for budget in budgets:
            yield strata(policy, budget, arguments)
        if policy == "calibrated":
            for least in filter(None, arguments.path_probabilities.split(",")):
                yield strata(policy, 32, arguments, least)


def printed(results) -> list[Result]:
    """All of them, each printed when it is there."""
    kept = []
    for result in results:
        print_result(result)
        kept.append(result)
    return kept


def main() -> int:
    arguments = parse_arguments()
    rows = harness.load_rows(arguments.replay)
    if arguments.limit > 0:
        rows = rows[: arguments.limit]
    print_header()
    names = [] if arguments.peers == "none" else arguments.peers.split(",")
    theirs = []
    if names:
        theirs = printed(harness.play(drafter, rows) for drafter in peers(names, arguments))
    if not arguments.strata:
        return 0
    ours = printed(run_ours(arguments, theirs))
    if not theirs:
        return 0
    failures = [sentence for peer in theirs for sentence in categories.below(peer, ours)]
    if failures:
        print("\nBelow a peer that drafts as many nodes or more:")
        print("\n".join(failures))
        return 1
    print("\nNo category is below a peer that drafts as many nodes or more.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
