"""The page of an adaptation: what was decided and why, to look at in a browser."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from lle_jax import data, jobs, metrics, pages
from lle_jax.adapt import verdict
from lle_jax.checkpoints.load import LoadedModel
from lle_jax.evaluation import curves
from lle_jax.evaluation.measures import METRICS
from lle_jax.evaluation.report import data_uri
from lle_jax.evaluation.suite import Suite
from lle_jax.files import write_bytes
from lle_jax.inference import enhance, tiles
from lle_jax.pages import NAME, text

SHOWN = 6  # held-back images, and dark ones
MAX_DARK = 24  # dark images on which spots are counted
_SIDE = 320  # of a picture, at most

_spots_added = jax.jit(metrics.spots_unlike_input)


def write(
    output: Path,
    decided: verdict.Verdict,
    held_back: Suite,
    dark: data.Images,
    models: Mapping[str, LoadedModel],
    warnings: Sequence[str],
) -> None:
    """Writes index.html into the folder of an adaptation.

    Args:
      output: with the preset and the run's scalars.csv.
      decided: on which figures.
      held_back: the suite that both networks were compared on.
      dark: the real low-light images.
      models: the network to start from, then the adapted one, by name.
      warnings: limits of the decision.
    """
    networks = {name: tiles.network(each.config, each.params) for name, each in models.items()}
    pictures, spots = _dark(dark, networks)
    lines = "\n".join(f"<li>{text(line)}</li>" for line in provenance_of(output / "preset.toml"))
    fields = {
        "decision": text(decided.line),
        "release": "in release/" if decided.better else "none",
        "rules": _rules(decided),
        "start": text(next(iter(models))),
        "warnings": "".join(f"<li>{text(each)}</li>" for each in warnings) or "<li>none</li>",
        "provenance": lines,
        "curves": curves.figures(output / "run" / "scalars.csv"),
        "held_back": "\n".join(_held_back(held_back, networks)),
        "spots": _spots(spots, min(len(dark), MAX_DARK)),
        "dark": "\n".join(pictures),
    }
    template = Path(__file__).with_suffix(".html")
    write_bytes(output / "index.html", pages.fill(template, report=True, **fields))


def provenance_of(preset: Path) -> list[str]:
    """Reads what a fitted preset says of its fit."""
    lines = preset.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith("# ")]


def _rules(decided: verdict.Verdict) -> str:
    rows = []
    for rule in decided.rules:
        title, _, digits = METRICS[rule.metric][:3]
        c, holds = rule.comparison, "yes" if rule.holds else "no"
        cells = [
            f'<th scope="row"{NAME}>{text(title)}</th>',
            f"<td>{rule.start:.{digits}f}</td><td>{rule.adapted:.{digits}f}</td>",
            f"<td>{c.difference:+.{digits + 1}f}</td>",
            f"<td>{c.low:+.{digits + 1}f} to {c.high:+.{digits + 1}f}</td><td>{c.p:.2g}</td>",
            f"<td{NAME}>{text(rule.demand)}</td>",
            f'<td class="{holds}">{holds}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = ("measure", "before", "adapted", "difference", "95 % interval", "p", "rule", "holds")
    return pages.table(heads, ("measure", "rule"), rows, "Rules of the decision")


def _held_back(suite: Suite, networks: Mapping[str, tiles.Network]) -> list[str]:
    """One row of pictures for the first low-light version of some held-back images."""
    first = {image: realisation for image, realisation, *_ in reversed(suite.listed())}
    chosen = [f"{image}__{realisation}" for image, realisation in list(first.items())[-SHOWN:]]
    rows = []
    for case in suite.cases(chosen):
        outputs = {name: enhance.enhance_pixels(n, case.low)[0] for name, n in networks.items()}
        rows.append(_row(case.image, {"low": case.low, **outputs, "clean": case.clean}))
    return rows


def _dark(
    dark: data.Images, networks: Mapping[str, tiles.Network]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Pictures of some dark images, and spots added to more of them.

    Returns:
      rows of pictures; method -> `[images, 2]`, dark and bright spots per megapixel that the
      output has and the input, brought to the output's brightness, lacks.
    """
    chosen = np.linspace(0, len(dark) - 1, min(len(dark), MAX_DARK)).astype(int)
    shown = set(chosen[np.linspace(0, len(chosen) - 1, SHOWN).astype(int)])
    rows: list[str] = []
    counts: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for index in jobs.track(list(chosen), unit="image", description="dark images"):
        low = dark[index]
        outputs = {name: enhance.enhance_pixels(n, low)[0] for name, n in networks.items()}
        for name, image in outputs.items():
            change = _spots_added(image, low)
            counts[name].append((float(change.dark_added), float(change.bright_added)))
        if index in shown:
            rows.append(_row(dark.names[index], {"dark": low, **outputs}))
    return rows, {name: np.array(values) for name, values in counts.items()}


def _spots(spots: Mapping[str, np.ndarray], count: int) -> str:
    rows = [
        f'<tr><th scope="row"{NAME}>{text(name)}</th>'
        + "".join(f"<td>{value:.0f}</td>" for value in values.mean(axis=0))
        + "</tr>"
        for name, values in spots.items()
    ]
    heads = ("network", "dark spots / Mpx", "bright spots / Mpx")
    return pages.table(heads, heads[:1], rows, f"Spots added to {count} dark images")


def _row(name: str, pictures: Mapping[str, np.ndarray]) -> str:
    figures = "".join(
        f'<figure><img alt="{text(f"{name}, {title}")}" src="{data_uri(image, _SIDE)}">'
        f"<figcaption>{text(title)}</figcaption></figure>"
        for title, image in pictures.items()
    )
    return f'<h3>{text(name)}</h3>\n<div class="row">{figures}</div>'
