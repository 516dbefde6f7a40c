"""What several rounds say together.

Figures are medians over the rounds. A ratio is the median of the ratios within the rounds: what is compared was measured side by side there, and the
machine is faster in one round than in another.
"""

import statistics


def summarise(results):
    """Medians over the rounds: {(backing, client, pattern): {target: summary}}."""
    groups = {}
    for result in results:
        key = (result["backing"], result["client"], result["pattern"])
        groups.setdefault(key, {}).setdefault(result["target"], []).append(result)
    return {key: {target: summary(rounds) for target, rounds in group.items()} for key, group in groups.items()}


def summary(rounds):
    iops = [one["iops"] for one in rounds]
    median = statistics.median(iops)
    percentiles = set.intersection(*(set(one["latency_us"]) for one in rounds))
    return {
        "rounds": len(rounds),
        "iops": median,
        "bytes_per_second": statistics.median(one["bytes_per_second"] for one in rounds),
        "spread": (max(iops) - min(iops)) / median if median else 0.0,
        "load_average": max(one["load_average"] for one in rounds),
        "lost": max(one["lost"] for one in rounds),
        "latency_us": {p: statistics.median(one["latency_us"][p] for one in rounds) for p in sorted(percentiles, key=float)},
        "by_round": {one["round"]: one for one in rounds},
    }


def paired(one, other, figure):
    """The median, over the rounds, of one cell's figure divided by the other's of the same round; None where they share no round."""
    rounds = one["by_round"].keys() & other["by_round"].keys()
    figures = [(figure_of(one["by_round"][number], figure), figure_of(other["by_round"][number], figure)) for number in rounds]
    return statistics.median(a / b for a, b in figures) if figures and all(a and b for a, b in figures) else None


def figure_of(measured, figure):
    """`iops`, or a percentile of the latency as `p50`; None where it was not measured."""
    return measured["iops"] if figure == "iops" else measured["latency_us"].get(figure.removeprefix("p"))
