"""The gate: ratios and bounds of budgets.toml against what was measured."""

import tomllib

from .report import best_peer

# Above this share of time lost to neighbours a verdict says that it is in doubt.
NOISY = 0.15


def check(path, summaries, idle_rows):
    """What was judged: (text, passed) for each budget. A budget without a measurement has failed."""
    with open(path, "rb") as file:
        budgets = tomllib.load(file)
    verdicts = [ratio(budget, summaries) for budget in budgets.get("ratio", [])]
    vega = next((row for row in idle_rows if row["target"] == "vega"), {})
    for key, most in budgets.get("idle", {}).items():
        value = vega.get(key)
        verdicts.append((f"idle {key}: {'not measured' if value is None else f'{value:.2f}'} (at most {most})", value is not None and value <= most))
    for budget in budgets.get("poll", []):
        group = summaries.get(("memory", "poll", budget["pattern"]), {})
        if {"adaptive", "poll"} <= set(group):
            value = group["adaptive"]["iops"] / group["poll"]["iops"]
            verdicts.append((f"adaptive ÷ poll, {budget['pattern']}: {value:.3f} (at least {budget['at_least']})", value >= budget["at_least"]))
        else:
            verdicts.append((f"adaptive ÷ poll, {budget['pattern']}: not measured", False))
    return verdicts


def ratio(budget, summaries):
    key = (budget["backing"], budget["client"], budget["pattern"])
    group = summaries.get(key, {})
    name = " ".join(key)
    if "of_limit" in budget:
        if not {"vega", "canned"} <= set(group):
            return f"{name}: not measured", False
        value = group["vega"]["iops"] / group["canned"]["iops"]
        return f"{name}: {value:.2f} of the emptiest target (at least {budget['of_limit']}){doubt(group)}", value >= budget["of_limit"]
    best = best_peer(group, budget["backing"])
    if "vega" not in group or not best:
        return f"{name}: not measured", False
    value = group["vega"]["iops"] / best
    return f"{name}: {value:.2f} × the best peer (at least {budget['at_least']}){doubt(group)}", value >= budget["at_least"]


def doubt(group):
    """What to think of a verdict when the neighbours took part in it."""
    lost = max(summary["lost"] for summary in group.values())
    return f"; NOISY: up to {100 * lost:.0f} % of the time lost to neighbours, repeat" if lost > NOISY else ""
