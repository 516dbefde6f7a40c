"""The gate: ratios and bounds of budgets.toml against what was measured.

A verdict is (text, passed): True, False, or None for what could not be judged in this run and was not meant to be.
"""

import tomllib

from .idle import NVME_SUFFIX
from .report import against_peers
from .summary import paired

# Above this share of time lost to neighbours a verdict says that it is in doubt.
NOISY = 0.15


def check(path, summaries, idle_rows, plan):
    """The verdict on each budget. A budget without its measurement has failed, unless the plan leaves it out."""
    with open(path, "rb") as file:
        budgets = tomllib.load(file)
    verdicts = [ratio(budget, summaries) for budget in budgets.get("ratio", [])]
    verdicts += [compare(budget, summaries, plan) for budget in budgets.get("compare", [])]
    verdicts += idle(budgets.get("idle", {}), idle_rows, "")
    verdicts += idle(budgets.get("idle-nvme", {}), idle_rows, NVME_SUFFIX)
    for budget in budgets.get("poll", []):
        name = f"adaptive ÷ poll, {budget['cell']}, {budget['pattern']}"
        group = summaries.get(("memory", budget["cell"], budget["pattern"]), {})
        both = {"adaptive", "poll"} <= set(group)
        value = paired(group["adaptive"], group["poll"], "iops") if both else None
        if value is not None:
            verdicts.append((f"{name}: {value:.3f} (at least {budget['at_least']})", value >= budget["at_least"]))
        else:
            verdicts.append((f"{name}: not measured", False))
    return verdicts


def idle(budgets, rows, suffix):
    """Silence: what it costs, and what the first I/O after it costs beyond the same I/O when busy."""
    by_target = {row["target"]: row for row in rows}
    vega = by_target.get("vega" + suffix, {})

    def wake_up_us(row):
        return row["after_silence_p99_us"] - row["busy_p99_us"] if "busy_p99_us" in row else None

    values = {"cpu_percent": vega.get("cpu_percent"), "wake_up_p99_us": wake_up_us(vega)}
    floor = wake_up_us(by_target.get("sleeper", {}))
    verdicts = []
    for key, most in budgets.items():
        value = values[key]
        beside = f"; a thread that sleeps in the kernel: {floor:.0f}" if key == "wake_up_p99_us" and floor else ""
        text = f"idle{suffix} {key}: {'not measured' if value is None else f'{value:.2f}'} (at most {most}{beside})"
        verdicts.append((text, value is not None and value <= most))
    return verdicts


def ratio(budget, summaries):
    key = (budget["backing"], budget["client"], budget["pattern"])
    group = summaries.get(key, {})
    name = " ".join(key)
    if "of_limit" in budget:
        if not {"vega", "canned"} <= set(group):
            return f"{name}: not measured", False
        value = paired(group["vega"], group["canned"], "iops")
        if value is None:
            return f"{name}: no round has both", False
        return f"{name}: {value:.2f} of the emptiest target (at least {budget['of_limit']}){doubt(group)}", value >= budget["of_limit"]
    value = against_peers(group, budget["backing"])
    if value is None:
        return f"{name}: not measured", False
    return f"{name}: {value:.2f} × the best peer (at least {budget['at_least']}){doubt(group)}", value >= budget["at_least"]


def compare(budget, summaries, plan):
    """One cell's figure divided by another's. A cell is "backing/client/pattern/target"."""
    cells = [budget["of"].split("/"), budget["to"].split("/")]
    figure = budget.get("figure", "iops")
    name = f"{figure} of {budget['of']} ÷ {budget['to']}"
    if not plan.spdk and any("spdk" in word for cell in cells for word in cell):
        return f"{name}: needs SPDK (SPDK_DIR)", None
    if not all(plan.holds(*cell) for cell in cells):
        return f"{name}: not part of this run", None
    groups = [summaries.get(tuple(cell[:3]), {}) for cell in cells]
    measured = [group.get(cell[3]) for group, cell in zip(groups, cells, strict=True)]
    value = paired(*measured, figure) if all(measured) else None
    if value is None:
        return f"{name}: not measured", False
    least, most = budget.get("at_least", 0.0), budget.get("at_most", float("inf"))
    bound = f"at least {least}" if least else f"at most {most}"
    involved = {(group_index, cell[3]): groups[group_index][cell[3]] for group_index, cell in enumerate(cells)}
    return f"{name}: {value:.2f} ({bound}){doubt(involved)}", least <= value <= most


def doubt(group):
    """What to think of a verdict when the neighbours took part in it."""
    lost = max(summary["lost"] for summary in group.values())
    return f"; NOISY: up to {100 * lost:.0f} % of the time lost to neighbours, repeat" if lost > NOISY else ""
