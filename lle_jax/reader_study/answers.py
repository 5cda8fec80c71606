"""Reads the answers of a reader study by its key, and prints their analysis.

Answers are files from other people's computers: each is checked field by field, and an error is
one line.
"""

import json
import math
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lle_jax import text_table
from lle_jax.images.errors import shown
from lle_jax.reader_study import preferences
from lle_jax.reader_study.page import FORMAT, KEY

ANSWERS = "lle_jax reader study answers"
_SIDES = ("left", "right", "none")
_CHOICES = {"better": _SIDES, "lost": (*_SIDES, "both"), "invented": (*_SIDES, "both")}
_MOST_BYTES = 2**26


class Key(NamedTuple):
    """The key of a study: (case, left method, right method) of each pair."""

    study: str
    methods: tuple[str, ...]
    pairs: list[tuple[str, str, str]]


class PairAnswer(NamedTuple):
    """One reader's answers to one pair, by method.

    `better` is a method or "" for no difference; `lost` and `invented` name 0 to 2 methods.
    """

    reader: str
    case: str
    left: str
    right: str
    better: str
    lost: tuple[str, ...]
    invented: tuple[str, ...]


class Study(NamedTuple):
    """The answers of all readers, and how many of how many pairs each answered."""

    methods: tuple[str, ...]
    answers: list[PairAnswer]
    answered: dict[str, tuple[int, int]]


def read(answers: Sequence[Path], keys: Sequence[Path]) -> Study:
    """Reads answer files and the keys to their studies.

    Readers may have had pages of their own, written with other seeds; give all keys then.

    Raises:
      ValueError: if a file is not what it should be, is of another study, or two have the answers
        of one reader to one study; in one line that names the file.
      OSError: if one cannot be read.
    """
    by_study: dict[str, Key] = {}
    for path in keys:
        key = _key(path)
        first = next(iter(by_study.values()), key)
        if set(key.methods) != set(first.methods):
            raise ValueError(f"{shown(path)}: has other methods than {shown(keys[0])}")
        by_study[key.study] = key
    given: list[PairAnswer] = []
    answered: dict[str, tuple[int, int]] = {}
    sources: dict[tuple[str, str], Path] = {}
    for path in answers:
        study, reader, pair_answers = _answers(path, by_study)
        if (study, reader) in sources:
            raise ValueError(
                f"{shown(path)}: reader {reader!r} has also answered in "
                f"{shown(sources[study, reader])}; keep one"
            )
        sources[study, reader] = path
        given += pair_answers
        before = answered.get(reader, (0, 0))
        answered[reader] = (before[0] + len(pair_answers), before[1] + len(by_study[study].pairs))
    if not given:
        raise ValueError("no pair is answered in these files; there is nothing to analyse")
    return Study(next(iter(by_study.values())).methods, given, answered)


def _load(path: Path, kind: str, what: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{shown(path)}: is larger than {what} can be")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{shown(path)}: is not JSON; expected {what}") from None
    if not isinstance(content, dict) or content.get("kind") != kind:
        raise ValueError(f"{shown(path)}: is not {what}; give the file that the study wrote")
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{shown(path)}: is of another version of lle_jax; expected format {FORMAT}"
        )
    return content


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _key(path: Path) -> Key:
    content = _load(path, KEY, "a study's key")
    broken = ValueError(f"{shown(path)}: the key is damaged; write the study again")
    study, methods, pairs = (content.get(name) for name in ("study", "methods", "pairs"))
    if not (_is_text(study) and isinstance(methods, list) and isinstance(pairs, list)):
        raise broken
    if len(methods) < 2 or not all(map(_is_text, methods)) or len(set(methods)) < len(methods):
        raise broken
    triples = []
    for pair in pairs:
        if not isinstance(pair, dict):
            raise broken
        case, left, right = pair.get("case"), pair.get("left"), pair.get("right")
        # a list asks by equality: what is in a damaged key may have no hash
        if not isinstance(case, str) or left == right:
            raise broken
        if left not in methods or right not in methods:
            raise broken
        triples.append((case, str(left), str(right)))
    return Key(content["study"], tuple(methods), triples)


def _answers(path: Path, keys: dict[str, Key]) -> tuple[str, str, list[PairAnswer]]:
    content = _load(path, ANSWERS, "a reader's answers")
    study, reader = content.get("study"), content.get("reader")
    if not isinstance(study, str) or study not in keys:
        raise ValueError(f"{shown(path)}: is of another study than the key; give that study's key")
    if not isinstance(reader, str) or not _is_text(reader) or len(reader) > 64:
        raise ValueError(f"{shown(path)}: reader is not a name of 1 to 64 printable characters")
    if not isinstance(content.get("answers"), list):
        raise ValueError(f"{shown(path)}: answers is not a list")
    pairs = keys[study].pairs
    given: dict[int, PairAnswer] = {}
    for place, answer in enumerate(content["answers"]):
        where = f"{shown(path)}: answer {place}"
        number = _pair_number(answer, len(pairs), where)
        if number in given:
            raise ValueError(f"{where} is a second one to pair {number}")
        given[number] = _pair_answer(reader, pairs[number], answer, where)
    return study, reader, list(given.values())


def _pair_number(answer: Any, count: int, where: str) -> int:
    if not isinstance(answer, dict):
        raise ValueError(f"{where} is not an object")
    number = answer.get("pair")
    if type(number) is not int or not 0 <= number < count:
        raise ValueError(f"{where} has no pair from 0 to {count - 1}")
    return number


def _pair_answer(
    reader: str, pair: tuple[str, str, str], answer: dict[str, Any], where: str
) -> PairAnswer:
    for question, choices in _CHOICES.items():
        value = answer.get(question)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{where} has no {question} of {', '.join(choices)}")
    case, left, right = pair
    sides = {"left": (left,), "right": (right,), "both": (left, right), "none": ()}
    better, lost, invented = (sides[answer[question]] for question in _CHOICES)
    return PairAnswer(reader, case, left, right, better[0] if better else "", lost, invented)


def text(study: Study, *, seed: int = 0) -> str:
    """Formats the tables: readers, preferences, ranking, what was lost or invented, agreement."""
    return "\n\n".join(
        [_readers(study), _preferences(study, seed), _ranking(study, seed), _harm(study, seed),
         _agreement(study, seed)]
    )  # fmt: skip


_INTERVALS = ("95 % (Wilson)", "95 % (cases)")


def _percent(rate: preferences.Rate) -> list[str]:
    low, high, case_low, case_high = (
        f"{100 * value:.0f}" for value in (rate.low, rate.high, rate.case_low, rate.case_high)
    )
    by_case = "-" if rate.cases < 2 else f"{case_low} to {case_high}"
    return [f"{100 * rate.rate:.0f} %", f"{low} to {high}", by_case]


def _readers(study: Study) -> str:
    cases = len({answer.case for answer in study.answers})
    rows = [("reader", "answered", "of")]
    rows += [(name, str(done), str(of)) for name, (done, of) in sorted(study.answered.items())]
    counts = ((len(study.methods), "method"), (cases, "case"), (len(study.answered), "reader"))
    about = ", ".join(f"{number} {what}{'' if number == 1 else 's'}" for number, what in counts)
    return f"{about}\n\n{text_table.render(rows)}"


def _preference_answers(study: Study) -> list[preferences.Answer]:
    order = {name: i for i, name in enumerate(study.methods)}
    result = []
    for answer in study.answers:
        one, other = sorted((answer.left, answer.right), key=order.__getitem__)
        value = {one: 1.0, other: 0.0}.get(answer.better, 0.5)
        result.append(preferences.Answer(answer.case, answer.reader, one, other, value))
    return sorted(result, key=lambda answer: (order[answer.one], order[answer.other]))


def _preferences(study: Study, seed: int) -> str:
    answers = _preference_answers(study)
    rows: list[Sequence[str]] = [
        ("better for diagnosis", "first", "second", "same", "preferred", *_INTERVALS),
    ]
    for (one, other), rate in preferences.rates(answers, seed=seed).items():
        values = [a.value for a in answers if (a.one, a.other) == (one, other)]
        counts = [str(values.count(value)) for value in (1, 0, 0.5)]
        rows.append((f"{one} to {other}", *counts, *_percent(rate)))
    return f"{text_table.render(rows)}\nNo difference counts as half a preference."


def _ranking(study: Study, seed: int) -> str:
    rows = [("Bradley-Terry ranking", "ability", "95 % (cases)", "answers")]
    for rank in preferences.ranking(_preference_answers(study), seed=seed):
        ends = "-" if math.isnan(rank.low) else f"{rank.low:.2f} to {rank.high:.2f}"
        rows.append((rank.method, f"{rank.ability:.2f}", ends, str(rank.answers)))
    return (
        f"{text_table.render(rows)}\nAbility is the log odds of being preferred to the mean method."
    )


def _harm(study: Study, seed: int) -> str:
    rows: list[Sequence[str]] = [("lost or invented", "what", "shown", "answers", *_INTERVALS)]
    for method in study.methods:
        showings = [a for a in study.answers if method in (a.left, a.right)]
        for what in ("lost", "invented"):
            values = [float(method in getattr(answer, what)) for answer in showings]
            if values:
                rate = preferences.rate(values, [answer.case for answer in showings], seed=seed)
                rows.append((method, what, str(len(showings)), *_percent(rate)))
    return text_table.render(rows)


def _agreement(study: Study, seed: int) -> str:
    """Computes agreement over the pairs that two or more readers answered, on either side.

    Of a reader who answered a pair in two studies the first answer counts: agreement with oneself
    is another thing.
    """
    ratings: dict[str, Callable[[PairAnswer], Hashable]] = {
        "better": lambda answer: answer.better,
        "lost": lambda answer: frozenset(answer.lost),
        "invented": lambda answer: frozenset(answer.invented),
    }
    units: dict[tuple[str, frozenset[str]], dict[str, PairAnswer]] = {}
    for answer in study.answers:
        pair = answer.case, frozenset((answer.left, answer.right))
        units.setdefault(pair, {}).setdefault(answer.reader, answer)
    rows: list[Sequence[str]] = [("agreement of readers", "alpha", "95 % (cases)", "pairs")]
    for question, rating in ratings.items():
        result = preferences.agreement(
            [[rating(answer) for answer in unit.values()] for unit in units.values()],
            [case for case, _ in units],
            seed=seed,
        )
        if not result.units:
            return "agreement of readers: no pair has answers of two readers"
        alpha = "-" if math.isnan(result.alpha) else f"{result.alpha:.2f}"
        ends = "-" if math.isnan(result.low) else f"{result.low:.2f} to {result.high:.2f}"
        rows.append((question, alpha, ends, str(result.units)))
    table = text_table.render(rows)
    return f"{table}\nKrippendorff's alpha: 1 is perfect agreement, 0 that of chance."
