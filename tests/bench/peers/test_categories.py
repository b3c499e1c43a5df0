"""The decision that compare.py ends with; no peer is needed."""

import categories
import result


def run(name: str, nodes: float, **tokens_per_step: float) -> result.Result:
    return result.Result(name, {"all": 2.0, **tokens_per_step},
                         {"all": nodes, **dict.fromkeys(tokens_per_step, nodes)}, None, None)


PEER = run("peer", 10.4, qa=2.0, rag=3.0)


def test_a_run_that_is_nowhere_below_is_enough() -> None:
    ours = [run("small", 4, qa=1.0, rag=1.0), run("fit", 10.4, qa=2.0, rag=3.1)]
    assert categories.below(PEER, ours) == []


def test_all_categories_must_hold_in_one_run() -> None:
    ours = [run("a", 8, qa=2.5, rag=2.9), run("b", 10, qa=1.5, rag=3.5)]
    # The one that is less far below is named, with both figures.
    assert categories.below(PEER, ours) == [
        "rag: a 2.900 tokens a step (8.0 nodes), peer 3.000 tokens a step (10.4 nodes)"]


def test_a_run_that_drafts_more_than_the_peer_does_not_count() -> None:
    [sentence] = categories.below(PEER, [run("large", 10.5, qa=9.0, rag=9.0)])
    assert sentence == "peer: no run of ours drafts 10.4 nodes a step or fewer"


def test_the_average_of_all_rows_is_no_category() -> None:
    ours = [run("ours", 10, all=1.0, qa=2.0, rag=3.0)]
    assert categories.below(PEER, ours) == []


def test_a_category_that_is_missing_is_below() -> None:
    [sentence] = categories.below(PEER, [run("ours", 10, qa=2.0)])
    assert sentence.startswith("rag: ours 0.000 ")


def test_budgets_are_added_for_peers_that_draft_less_than_the_smallest() -> None:
    peers = [PEER, run("three", 3.7), run("other three", 3.2), run("lazy", 0.4), run("four", 4)]
    assert categories.small_budgets(peers, [8, 4, 16]) == [1, 3]
    assert categories.small_budgets([PEER], [4]) == []
