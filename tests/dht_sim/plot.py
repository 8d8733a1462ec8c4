"""The figures drawn: hops by the size of the network, and the cost of sweeps by keys. SVG that follows the reader's
choice of light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 880, 380
LEFT, TOP, WIDE, HIGH = 60, 56, 340, 260
SECOND = 470  # where the second panel begins

LIGHT = {"a": "#0969da", "b": "#bc4c00", "c": "#1a7f37", "d": "#6e7781"}
DARK = {"a": "#58a6ff", "b": "#f0883e", "c": "#3fb950", "d": "#8b949e"}


def _style() -> str:
    def colours(of: dict[str, str]) -> str:
        return " ".join(
            f".{kind} polyline {{ stroke: {colour} }} .{kind} circle, .{kind} text {{ fill: {colour} }}"
            for kind, colour in of.items()
        )

    return f"""
  text {{ font: 12px system-ui, sans-serif; fill: #57606a }}
  .title {{ font-weight: 600; font-size: 15px; fill: #24292f }}
  .axis {{ stroke: #8c959f; fill: none }} .grid {{ stroke: #d0d7de; stroke-width: .6 }}
  polyline {{ fill: none; stroke-width: 2 }} .d polyline {{ stroke-dasharray: 5 4 }}
  {colours(LIGHT)}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #9198a1 }} .title {{ fill: #e6edf3 }} .axis {{ stroke: #6e7681 }} .grid {{ stroke: #30363d }}
    {colours(DARK)}
  }}
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a panel: from `low` to `high`, in powers of `base` or evenly; `ticks`: what is written at it."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    base: float = 0.0

    def place(self, value: float) -> float:
        """Return where a value is, from 0 to 1."""
        low, high, at = self.low, self.high, value
        if self.base:
            low, high, at = (math.log(each, self.base) for each in (low, high, value))
        return (at - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the picture. `left`: where its plot begins."""

    left: int
    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        """Return where it is in the picture."""
        return self.left + WIDE * self.across.place(value)

    def y(self, value: float) -> float:
        """Return where it is in the picture."""
        return TOP + HIGH * (1 - self.up.place(value))

    def frame(self, title: str, across: str, up: str) -> list[str]:
        """Draw axes, and what they are of."""
        lines = [f'<text class="title" x="{self.left}" y="24">{title}</text>']
        lines.append(f'<text x="{self.left}" y="44">{up}</text>')
        lines.append(f'<text x="{self.left + WIDE / 2}" y="{TOP + HIGH + 42}" text-anchor="middle">{across}</text>')
        for value, name in self.up.ticks:
            y = self.y(value)
            lines.append(f'<line class="grid" x1="{self.left}" x2="{self.left + WIDE}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text x="{self.left - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
        for value, name in self.across.ticks:
            x = self.x(value)
            lines.append(f'<text x="{x:.1f}" y="{TOP + HIGH + 20}" text-anchor="middle">{name}</text>')
        corner = f"M{self.left} {TOP} V{TOP + HIGH} H{self.left + WIDE}"
        return [*lines, f'<path class="axis" d="{corner}"/>']

    def line(self, kind: str, points: Sequence[tuple[float, float]], name: str, lift: float = -10) -> list[str]:
        """Draw a line; its name stands above its beginning, or so far below its end."""
        at = [(self.x(x), self.y(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in at] if kind != "d" else []
        (x, y), anchor = (at[-1], "end") if lift > 0 else (at[0], "start")
        label = f'<text x="{x:.1f}" y="{y + lift:.1f}" text-anchor="{anchor}">{name}</text>'
        return [f'<g class="{kind}"><polyline points="{path}"/>', *dots, label, "</g>"]


def plot(results: dict[str, Any]) -> str:
    """Return the picture as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-label="Hops by the size of the network, and messages of a sweep by keys">',
        f"<style>{_style()}</style>",
        *_growth(results["growth"]),
        *_sweeps(results["sweeps"], results["day"]["one_key"]),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _growth(grown: list[dict[str, float]]) -> list[str]:
    sizes = [each["nodes"] for each in grown]
    most = math.ceil(max(math.log2(size) / 4 for size in sizes) + 0.5)
    across = Axis(min(sizes) * 0.8, max(sizes) * 1.25, [(size, f"{size:,}") for size in sizes], base=2)
    panel = Panel(LEFT, across, Axis(0, most, [(each, str(each)) for each in range(most + 1)]))
    return [
        *panel.frame("How far it is to the nearest peer", "peers that are there", "hops"),
        *panel.line("d", [(size, math.log2(size) / 4) for size in sizes], "log₂ N / 4", lift=-34),
        *panel.line("a", [(each["nodes"], each["hops"]) for each in grown], "measured", lift=40),
    ]


def _sweeps(swept: list[dict[str, float]], alone: float) -> list[str]:
    keys = sorted({each["keys"] for each in swept})
    powers = range(3, 9)
    names = ("1 k", "10 k", "100 k", "1 M", "10 M", "100 M")
    across = Axis(keys[0] * 0.7, keys[-1] * 1.4, [(count, f"{count:,}") for count in keys], base=10)
    up = Axis(1e3, 1e8, [(10**power, name) for power, name in zip(powers, names, strict=True)], base=10)
    panel = Panel(SECOND, across, up)
    lines = panel.frame("What announcing keys costs", "keys that one peer announces", "messages")
    lines += panel.line("d", [(count, alone * count) for count in keys], "one by one", lift=38)
    for kind, size in zip("abc", sorted({each["nodes"] for each in swept}), strict=False):
        points = [(each["keys"], each["messages"]) for each in swept if each["nodes"] == size]
        lines += panel.line(kind, points, f"{size:,} peers")
    return lines
