"""Tables of medians and ratios in Markdown, and the whole of the figures as JSON."""

import json
import os
import platform
import subprocess

from . import clients, nvme
from .process import warnings
from .summary import paired

ORDER = ["vega", "tgt", "istgt", "spdk", "canned", "wire", "disk"]
# On disk only tgt and SPDK do direct I/O as Vega does; istgt answers from the page cache and is shown, not compared with.
PEERS = {"memory": ("tgt", "istgt", "spdk"), "file": ("tgt", "spdk")}
CLIENT_TITLES = {
    "load": "iSCSI, own client (`load`): spinning, many PDUs per call; it is not the limit",
    "fio": "iSCSI, fio with its libiscsi engine: what users of libiscsi see",
    "iscsi-perf": "iSCSI, iscsi-perf: libiscsi's own, second opinion",
    "bench": "NVMe/TCP, `vega bench`: spinning, many commands per call",
    "spdk-perf": "NVMe/TCP, `spdk_nvme_perf`: SPDK's own, second opinion",
}
# What a client of memory-backed units is held against: the raw exchange of the same sizes.
WIRES = {"load": "pingpong", "bench": "pingpong-nvme", "spdk-perf": "pingpong-nvme"}
LIMIT_TITLES = {"canned": "emptiest target", "wire": "wire", "disk": "disk"}
NO_SPDK = "No SPDK (SPDK_DIR is not set): NVMe/TCP is measured without a peer."


def machine(root):
    """What the figures were taken on and of."""

    def words(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=10, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return "unknown"

    model = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "commit": words("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "kernel": platform.release(), "processor": model, "cores": os.cpu_count(),
    }


def against_peers(group, backing):
    """Vega divided by the fastest of the peers; None without one or the other."""
    ratios = [paired(group["vega"], group[peer], "iops") for peer in PEERS[backing] if peer in group and "vega" in group]
    return min(filter(None, ratios), default=None)


def amount(pattern, summary):
    if pattern.size_bytes >= 64 << 10:
        return f"{summary['bytes_per_second'] / 1e9:.2f} GB/s"
    return f"{summary['iops'] / 1e3:.1f} k"


def entry(pattern, summary):
    """`61.2 k, p50 15.1 / p99 30 µs (±4 %)`"""
    latency = summary["latency_us"]
    text = amount(pattern, summary)
    if "50" in latency:
        text += f", p50 {latency['50']:.0f}" if latency["50"] >= 100 else f", p50 {latency['50']:.1f}"
        if "99" in latency:
            text += f" / p99 {latency['99']:.0f}"
        text += " µs"
    return f"{text} (±{50 * summary['spread']:.0f} %)"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main_tables(summaries):
    parts = []
    for backing, title in (("memory", "Memory-backed"), ("file", "File-backed, on disk")):
        for client, client_title in CLIENT_TITLES.items():
            text = client_table(summaries, backing, client)
            if text:
                parts.append(f"### {title}: {client_title}\n\n{text}")
    return parts


def client_table(summaries, backing, client):
    """One client against all targets; the raw limit (`wire`, `disk`) stands beside them. Nothing when nothing was measured."""
    patterns = nvme.PATTERNS if client in nvme.CLIENTS else clients.PATTERNS
    groups = []
    for pattern in patterns:
        group = dict(summaries.get((backing, client, pattern.name), {}))
        if group and backing == "memory" and client in WIRES:
            group.update(summaries.get(("memory", WIRES[client], pattern.name), {}))
        if group:
            groups.append((pattern, group))
    names = [name for name in ORDER if any(name in group for _, group in groups)]
    limits = [name for name in ("canned", "wire", "disk") if name in names]
    rows = []
    for pattern, group in groups:
        best, vega = against_peers(group, backing), group.get("vega")
        ratio = f"**{best:.2f}**" if best else "–"
        shares = [share(paired(vega, group[name], "iops")) if vega and name in group else "–" for name in limits]
        load = max(summary["load_average"] for summary in group.values())
        lost = max(summary["lost"] for summary in group.values())
        figures = [entry(pattern, group[name]) if name in group else "–" for name in names]
        rows.append([pattern.title, *figures, ratio, *shares, f"{load:.1f}", f"{100 * lost:.0f} %"])
    header = ["", *names, "vega ÷ best peer", *(f"vega ÷ {LIMIT_TITLES[name]}" for name in limits), "load", "lost"]
    return table(header, rows) if rows else None


def share(value):
    return f"{value:.2f}" if value else "–"


def client_comparison(summaries):
    """`vega bench` beside SPDK's client, against the same target."""
    rows = []
    for target in ("vega", "spdk"):
        for pattern in (pattern for pattern in nvme.PATTERNS if not pattern.digests):
            own, other = (summaries.get(("memory", client, pattern.name), {}).get(target) for client in ("bench", "spdk-perf"))
            if own and other:
                rows.append([target, pattern.title, entry(pattern, own), entry(pattern, other), f"**{share(paired(own, other, 'iops'))}**"])
    if not rows:
        return []
    return ["### The clients of NVMe/TCP, against the same target\n\n" + table(["target", "", "vega bench", "spdk_nvme_perf", "÷"], rows)]


def poll_table(summaries):
    rows = []
    for cell, protocol in (("poll", "iSCSI"), ("poll-nvme", "NVMe/TCP")):
        for pattern in clients.PATTERNS:
            group = summaries.get(("memory", cell, pattern.name))
            if not group or not {"adaptive", "poll"} <= set(group):
                continue
            ratio = paired(group["adaptive"], group["poll"], "iops")
            rows.append([f"{protocol}, {pattern.title}", entry(pattern, group["adaptive"]), entry(pattern, group["poll"]), f"**{ratio:.3f}**" if ratio else "–"])
    if not rows:
        return []
    return ["### Adaptive against poll mode, under load (goal: within 3 %)\n\n" + table(["", "adaptive", "poll", "adaptive ÷ poll"], rows)]


def idle_table(rows):
    def figure(row, key, form):
        return form.format(row[key]) if key in row else "–"

    if not rows:
        return []
    body = [
        [
            row["target"], figure(row, "cpu_percent", "{:.2f} %"),
            figure(row, "busy_p50_us", "{:.1f}") + " / " + figure(row, "busy_p99_us", "{:.1f} µs"),
            figure(row, "after_silence_p50_us", "{:.1f}") + " / " + figure(row, "after_silence_p99_us", "{:.1f} µs"),
            f"{row['load_average']:.1f}",
        ]
        for row in rows
    ]
    header = ["", "idle, 8 sessions: share of a core", "busy, depth 1: p50 / p99", "first I/O after 20 ms of silence: p50 / p99", "load"]
    return ["### When nothing happens (goals: under 2 % of a core; the first I/O p99 less than 200 µs above a busy one)\n\n" + table(header, body)]


def markdown(summaries, idle_rows, notes, facts, versions):
    parts = [
        "## Measured\n\n"
        f"Commit {facts['commit']}, kernel {facts['kernel']}, {facts['cores']} cores ({facts['processor']}). {versions}. "
        "One core for the target, one for the client, loopback. Medians over the rounds; ± is half the spread between the rounds. A ratio is the median "
        "of those within a round. "
        "**Ratios are what carries over.** Load is the machine's load average (2 is the measurement itself); lost is the share of the time that a "
        "program waited for its core because of neighbours, in the worst run of the row: above a few percent, distrust the row."
    ]
    parts += main_tables(summaries) + client_comparison(summaries) + poll_table(summaries) + idle_table(idle_rows)
    what = [f"- {name}: {', '.join(f'{backing}: {text}' for backing, text in backings.items())}" for name, backings in notes.items()]
    if "spdk" not in notes:
        parts.append(NO_SPDK)
    parts.append("Backings:\n" + "\n".join(what))
    if warnings:
        parts.append("Warnings:\n" + "\n".join(f"- {text}" for text in sorted(warnings)))
    return "\n\n".join(parts) + "\n"


def write_json(path, results, summaries, idle_rows, facts):
    flat = [
        {"backing": key[0], "client": key[1], "pattern": key[2], "target": target, **{name: value for name, value in summary.items() if name != "by_round"}}
        for key, group in summaries.items() for target, summary in group.items()
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"facts": facts, "summaries": flat, "idle": idle_rows, "runs": results, "warnings": sorted(warnings)}, file, indent=1)
