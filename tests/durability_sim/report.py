"""What came of it, as a table and a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.durability_sim.world import PACK, Outcome, Setting

from shoal.transfer.placement import Policy

RULE_OF_THREE = 3.0  # events that would be seen at least once with a chance of 95 %, where none was
WIDTH, ROW, LEFT = 760, 34, 210


@dataclass(frozen=True, slots=True)
class Line:
    """One policy, and what became of it."""

    name: str
    policy: Policy
    outcome: Outcome

    @property
    def room(self) -> float:
        """Bytes on disks for each byte."""
        return self.policy.pieces / self.policy.needed

    def yearly(self, setting: Setting) -> tuple[float, bool]:
        """Return the share of packs lost in a year, and whether any was lost: else it is what it is less than."""
        lost = self.outcome.lost or RULE_OF_THREE
        return lost / (setting.packs * setting.years), self.outcome.lost > 0

    def traffic(self, setting: Setting) -> float:
        """Return the GB that a holder fetches in a year for repairs, for each TB that it holds."""
        held = setting.packs * PACK * self.room
        return self.outcome.read / setting.years / held * 1000


def _loss(line: Line, setting: Setting) -> str:
    share, seen = line.yearly(setting)
    return f"{'' if seen else 'less than '}{share:.1e}"


def table(setting: Setting, lines: list[Line]) -> str:
    """Return a table in Markdown."""
    rows = [
        "| policy | room | packs lost of a hundred thousand a year | fewest spare pieces seen | fetched for repairs, GB"
        " a year for each TB held |",
        "| --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        share, seen = line.yearly(setting)
        lost = f"{'' if seen else 'none seen, so less than '}{share * 1e5:.3g}"
        repaired = line.outcome.repaired > 0
        spare = str(line.outcome.worst) if repaired else "-"
        traffic = f"{line.traffic(setting):.0f}" if repaired else "-"
        rows.append(f"| {line.name} | {line.room:.2f} | {lost} | {spare} | {traffic} |")
    deaths = lines[-1].outcome
    rows.append("")
    rows.append(
        f"{setting.nodes} holders in {setting.zones} zones, {setting.packs} packs, {setting.years} years:"
        f" {deaths.deaths} holders died or left, {deaths.burnt} zones burnt."
    )
    return "\n".join(rows)


def plot(setting: Setting, lines: list[Line]) -> str:
    """Return bars of the yearly loss, on a logarithmic scale, as SVG."""
    shares = [line.yearly(setting)[0] for line in lines]
    low = math.floor(math.log10(min(shares))) - 1
    high = math.ceil(math.log10(max(shares)))
    scale = (WIDTH - LEFT - 120) / (high - low)
    height = 60 + ROW * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="13" role="img" aria-label="Share of packs lost in a year, by policy">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-size="15" fill="#1f2933">Share of packs lost in a year</text>',
    ]
    for power in range(low, high + 1):
        x = LEFT + (power - low) * scale
        parts.append(f'<line x1="{x:.0f}" y1="34" x2="{x:.0f}" y2="{height - 18}" stroke="#e4e7eb"/>')
        parts.append(f'<text x="{x:.0f}" y="{height - 4}" fill="#616e7c" text-anchor="middle">1e{power}</text>')
    for number, line in enumerate(lines):
        share, seen = line.yearly(setting)
        y, width = 40 + ROW * number, (math.log10(share) - low) * scale
        fill = "#2f7ed8" if seen else "#b5d0f0"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 16}" fill="#1f2933" text-anchor="end">{line.name}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="22" rx="3" fill="{fill}"/>')
        told = _loss(line, setting)
        parts.append(f'<text x="{LEFT + width + 8:.1f}" y="{y + 16}" fill="#1f2933">{told}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
