"""Decides whether a category of ours is below a peer that drafts as many nodes, or more."""

import collections.abc
import math

import result


def small_budgets(peers: collections.abc.Sequence[result.Result], budgets: list[int]) -> list[int]:
    """The largest budgets with which ours cannot draft more nodes than the peers that draft fewer
    than the smallest of `budgets`."""
    drafted = [peer.drafted_per_step["all"] for peer in peers]
    return sorted({max(1, math.floor(nodes)) for nodes in drafted if nodes < min(budgets)})


def below(peer: result.Result, ours: collections.abc.Sequence[result.Result]) -> list[str]:
    """A sentence for each category in which our best run is below `peer`; none if it holds.

    Of our runs those count that draft at most as many nodes a step as the peer, and one of them has
    to be at least as good in every category: the best is below in the fewest, and the least."""
    most = peer.drafted_per_step["all"]
    fit = [run for run in ours if run.drafted_per_step["all"] <= most]
    if not fit:
        return [f"{peer.name}: no run of ours drafts {most:.1f} nodes a step or fewer"]
    groups = [group for group in peer.tokens_per_step if group != "all"]

    def gaps(run: result.Result) -> dict[str, float]:
        """A category that a run of ours does not have is below, too."""
        behind = {group: peer.tokens_per_step[group] - run.tokens_per_step.get(group, 0.0)
                  for group in groups}
        return {group: gap for group, gap in behind.items() if gap > 0}

    best = min(fit, key=lambda run: (len(gaps(run)), sum(gaps(run).values())))

    def figures(run: result.Result, group: str) -> str:
        return (f"{run.tokens_per_step.get(group, 0.0):.3f} tokens a step "
                f"({run.drafted_per_step.get(group, 0.0):.1f} nodes)")

    return [f"{group}: {best.name} {figures(best, group)}, {peer.name} {figures(peer, group)}"
            for group in gaps(best)]
