"""Latency percentiles as a hand-written SVG: one panel for each pattern, one line for each target."""

import math

from . import clients, nvme
from .report import WIRES

COLOURS = {"vega": "#0b6e4f", "tgt": "#c8553d", "istgt": "#b08900", "spdk": "#2f6db5", "canned": "#5b6c8f", "wire": "#8a8a8a", "disk": "#8a8a8a"}
LABELS = {"canned": "emptiest target", "wire": "raw exchange", "disk": "fio on the file itself"}
DASHED = {"canned", "wire", "disk"}
# Where a percentile stands on the axis: each further nine takes the same room.
TICKS = [50, 90, 99, 99.9, 99.99]
PANEL_WIDTH, PANEL_HEIGHT, MARGIN_LEFT, MARGIN_TOP, GAP = 360, 240, 62, 74, 84


def nines(percentile):
    return -math.log10(1 - percentile / 100)


def place_x(percentile):
    low, high = nines(TICKS[0]), nines(TICKS[-1])
    return (nines(percentile) - low) / (high - low) * PANEL_WIDTH


def panel(pattern, group):
    """One panel at the origin."""
    lines = {
        name: [(float(p), us) for p, us in summary["latency_us"].items() if TICKS[0] <= float(p) <= TICKS[-1] and us > 0]
        for name, summary in group.items()
    }
    lines = {name: points for name, points in lines.items() if len(points) > 1}
    if not lines:
        return None
    values = [us for points in lines.values() for _, us in points]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)) + 1e-9)
    high = max(high, low + 1)

    def place_y(us):
        return PANEL_HEIGHT * (1 - (math.log10(us) - low) / (high - low))

    out = [f'<text class="title" x="0" y="-10">{pattern.title}</text>']
    for decade in range(low, high + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if not 10.0**low <= value <= 10.0**high:
                continue
            y = place_y(value)
            out.append(f'<line class="{"grid" if step == 1 else "fine"}" x1="0" x2="{PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
            text = f"{value / 1000:g} ms" if value >= 1000 else f"{value:g} µs"
            out.append(f'<text class="tick" text-anchor="end" x="-6" y="{y + 4:.1f}">{text}</text>')
    for percentile in TICKS:
        x = place_x(percentile)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{PANEL_HEIGHT}"/>')
        out.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{PANEL_HEIGHT + 16}">p{percentile:g}</text>')
    for name, points in lines.items():
        path = " ".join(f"{place_x(p):.1f},{place_y(us):.1f}" for p, us in sorted(points))
        dash = ' stroke-dasharray="5 4"' if name in DASHED else ""
        width = 2.6 if name == "vega" else 1.6
        out.append(f'<polyline fill="none" stroke="{COLOURS.get(name, "#333")}" stroke-width="{width}"{dash} points="{path}"/>')
        for p, us in points:
            out.append(f'<circle cx="{place_x(p):.1f}" cy="{place_y(us):.1f}" r="2.2" fill="{COLOURS.get(name, "#333")}"/>')
    return "\n".join(out)


def legend(names):
    out, x = [], 0
    for name in names:
        dash = ' stroke-dasharray="5 4"' if name in DASHED else ""
        label = LABELS.get(name, name)
        out.append(f'<line x1="{x}" x2="{x + 26}" y1="0" y2="0" stroke="{COLOURS.get(name, "#333")}" stroke-width="2.4"{dash}/>')
        out.append(f'<text class="tick" x="{x + 32}" y="4">{label}</text>')
        x += 58 + 8 * len(label)
    return "\n".join(out)


def svg(summaries, backing, client, subtitle):
    """The whole picture, or None when there is nothing to show."""
    panels, names = [], []
    for pattern in nvme.PATTERNS if client in nvme.CLIENTS else clients.PATTERNS:
        group = dict(summaries.get((backing, client, pattern.name), {}))
        if group and backing == "memory" and client in WIRES:
            group.update(summaries.get(("memory", WIRES[client], pattern.name), {}))
        drawn = panel(pattern, group)
        if drawn:
            panels.append(drawn)
            names += [name for name in COLOURS if name in group and name not in names]
    if not panels:
        return None
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = MARGIN_LEFT + columns * PANEL_WIDTH + (columns - 1) * GAP + 24
    height = MARGIN_TOP + 24 + rows * (PANEL_HEIGHT + 66)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif">',
        "<style>.title{font-size:13px;font-weight:600;fill:#222}.head{font-size:15px;font-weight:600;fill:#111}.tick{font-size:11px;fill:#444}"
        ".grid{stroke:#cfcfcf;stroke-width:1}.fine{stroke:#ececec;stroke-width:1}</style>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text class="head" x="{MARGIN_LEFT}" y="24">Latency of a command, {subtitle} (lower is better, both axes logarithmic)</text>',
        f'<g transform="translate({MARGIN_LEFT},44)">{legend([n for n in COLOURS if n in names])}</g>',
    ]
    for index, drawn in enumerate(panels):
        x = MARGIN_LEFT + (index % columns) * (PANEL_WIDTH + GAP)
        y = MARGIN_TOP + 20 + (index // columns) * (PANEL_HEIGHT + 66)
        out.append(f'<g transform="translate({x},{y})">{drawn}</g>')
    return "\n".join(out) + "\n</svg>\n"
