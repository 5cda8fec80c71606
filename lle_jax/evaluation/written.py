"""Written evaluations: read again, and joined."""

import collections
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from lle_jax.evaluation import measures, statistics
from lle_jax.evaluation.measures import EvaluationError


def read(folder: Path) -> tuple[dict, list[statistics.Row]]:
    """Reads the record and the values of a written evaluation.

    Raises:
      EvaluationError: if there is none, or a file of it is damaged.
    """
    try:
        record = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
        with (folder / "per_image.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                statistics.Row(
                    r["image"],
                    r["method"],
                    r["metric"],
                    float(r["value"]),
                    r["realisation"],
                    r["unit"],
                )
                for r in csv.DictReader(file)
            ]
        if not _whole(rows, record["methods"], record["images"]):
            raise ValueError("per_image.csv lacks values")
        return {key: record[key] for key in ("fingerprint", "methods", "suite", "code")}, rows
    except FileNotFoundError:
        raise EvaluationError(f"{folder}: no evaluation there; make it with lle evaluate") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{folder}: damaged or of an earlier version ({error}); run lle evaluate again"
        ) from None


def _whole(rows: Sequence[statistics.Row], methods: Iterable[str], count: int) -> bool:
    """Whether there are all values: each metric of each method on every case of every image."""
    numbers = collections.Counter((row.method, row.metric) for row in rows)
    return (
        set(methods) <= {method for method, _ in numbers}
        and len({row.image for row in rows}) == count
        and len(set(numbers.values())) == 1
    )


class Joined(NamedTuple):
    """Several evaluations on one suite.

    Attributes:
      methods: in question.
      rows: of these and what they are compared with.
      notes: what a reader must know.
    """

    methods: list[str]
    rows: list[statistics.Row]
    notes: list[str]


def join(folders: Iterable[Path]) -> Joined:
    """Joins the methods and the values of several evaluations on one suite.

    A method of a later folder whose name is taken gets the folder's name besides, unless it is one
    that both only compare with. Images for which a metric has no value are left out.

    Raises:
      EvaluationError: if they are not of one suite, images and seeds.
    """
    methods: list[str] = []
    rows: list[statistics.Row] = []
    notes: list[str] = []
    first = None
    for folder in folders:
        record, loaded = read(folder)
        if first is None:
            first = record
        if record["code"] != first["code"]:
            notes.append(
                f"{folder}: measured by another state of lle_jax's code than the first; evaluate "
                "both again if a metric or a baseline has changed since"
            )
        if record["fingerprint"] != first["fingerprint"]:
            raise EvaluationError(
                f"{folder}: evaluated on {record['suite']} with other images, seeds or "
                f"degradations than {first['suite']} before; evaluate all on one suite"
            )
        taken = {row.method for row in rows}
        names = {}
        for name in dict.fromkeys(row.method for row in loaded):
            if name in taken and name not in record["methods"]:
                continue
            new, number = name, 1
            while new in taken:
                number += 1
                new = (
                    f"{name} ({folder.name})" if number == 2 else f"{name} ({folder.name} {number})"
                )
            names[name] = new
        methods += [names[name] for name in record["methods"]]
        rows += [row._replace(method=names[row.method]) for row in loaded if row.method in names]
    rows, without = statistics.defined(rows)
    notes += [f"{title}: {said}" for title, said in measures.left_out(without).items()]
    return Joined(methods, rows, notes)
