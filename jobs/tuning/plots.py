"""The frontiers as pictures: recall against speed, recall against memory."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .choice import Candidate, frontier

# Colour-blind safe (Okabe and Ito).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP*X"
SHOWN_BELOW = 0.1


def pareto_plots(candidates: Sequence[Candidate], champion: Candidate, target: float, title: str, folder: Path) -> None:
    """recall-qps.png and recall-memory.png."""
    speed = figure(candidates, champion, target, title, "searches a second, 8 clients", lambda each: each.qps, False)
    speed.savefig(folder / "recall-qps.png", dpi=150)
    memory = figure(
        candidates, champion, target, title, "memory of the index, MiB", lambda each: each.memory / 2**20, True
    )
    memory.savefig(folder / "recall-memory.png", dpi=150)


def side_by_side(sweeps: Mapping[str, Sequence[Candidate]], target: float) -> Any:
    """The frontiers of several sweeps, recall against speed, by the sweeps' names."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 5), layout="constrained")
    axes = made.subplots()
    for (name, candidates), colour, marker in zip(sweeps.items(), COLOURS, MARKERS, strict=False):
        best = frontier(candidates)
        axes.fill_between(
            [each.qps for each in best],
            [each.recall.low for each in best],
            [each.recall.high for each in best],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        speeds, recalls = [each.qps for each in best], [each.recall.mean for each in best]
        axes.plot(speeds, recalls, marker=marker, color=colour, label=name)
    finish(axes, target, "searches a second, 8 clients", "frontiers with 95% intervals")
    return made


def finish(axes: Any, target: float, measured: str, title: str) -> None:
    axes.axhline(target, color="#888888", linestyle=":", linewidth=1)
    axes.annotate(f" target {target:g}", (0, target), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    axes.set_xscale("log")
    for ticks in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        ticks("{x:,.0f}")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.set_xlabel(measured)
    axes.set_ylabel("recall@10")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def figure(
    candidates: Sequence[Candidate],
    champion: Candidate,
    target: float,
    title: str,
    measured: str,
    value: Callable[[Candidate], float],
    by_memory: bool,
) -> Any:
    """recall@10 with its 95% interval against `value`; the frontier as a line, the champion ringed."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(8, 5), layout="constrained")
    axes = made.subplots()
    kinds = list(dict.fromkeys(each.setting.type for each in candidates))
    for kind, colour, marker in zip(kinds, COLOURS * 2, MARKERS * 2, strict=False):
        of_kind = [each for each in candidates if each.setting.type == kind]
        axes.errorbar(
            [value(each) for each in of_kind],
            [each.recall.mean for each in of_kind],
            yerr=[
                [each.recall.mean - each.recall.low for each in of_kind],
                [each.recall.high - each.recall.mean for each in of_kind],
            ],
            fmt=marker,
            color=colour,
            markersize=5,
            capsize=2,
            linewidth=0.8,
            label=kind,
        )
    best = frontier(candidates, by_memory)
    axes.plot(
        [value(each) for each in best], [each.recall.mean for each in best], color="#888888", linewidth=1, zorder=0
    )
    axes.plot(
        value(champion),
        champion.recall.mean,
        "o",
        markersize=14,
        fillstyle="none",
        color="black",
        label=f"chosen: {champion.setting.name}",
    )
    finish(axes, target, measured, title)
    # Far below the target, nobody looks for differences; above it they are small. But the chosen one is shown.
    least = min(target - SHOWN_BELOW, champion.recall.low - SHOWN_BELOW / 5)
    below = sum(each.recall.mean < least for each in candidates)
    if below:
        axes.set_ylim(least, 1 + SHOWN_BELOW / 20)
        axes.annotate(
            f"{below} settings with less recall are not shown",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            fontsize=8,
        )
    return made
