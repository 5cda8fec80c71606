"""`lle reader-study`: a blinded comparison of methods by readers, as a page, and its analysis."""

import argparse
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "reader-study",
        help="let readers compare methods blindly, and analyse their answers",
        description="Writes a page on which readers say which of two unlabelled images is better "
        "for diagnosis and whether anything was lost or invented, for every two methods on every "
        "case. It needs no network and holds no names: OUT.key.json, which readers must not get, "
        "says which image is of which method. With --analyse it prints, from the saved answers, "
        "how often each method is preferred, a ranking, what was lost or invented, and how "
        "far readers agree, with 95 % intervals.",
    )
    parser.add_argument(
        "methods", nargs="*", metavar="METHOD=FOLDER", help="images of a method, two or more"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FOLDER", help="reference images, shown between the two"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT", help="page to write, .html")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order and sides (default 0), or the intervals"
    )
    parser.add_argument(
        "--analyse", nargs="+", type=Path, metavar="JSON", help="answers that readers saved"
    )
    parser.add_argument(
        "--key", nargs="+", type=Path, metavar="KEY", help="keys to the studies of --analyse"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.analyse is not None:
        return _analyse(arguments)
    if arguments.key is not None:
        raise ValueError("--key is for --analyse; give the answers with --analyse JSON")
    if arguments.output is None:
        raise ValueError("nothing to write; give -o OUT, or --analyse JSON --key KEY")
    methods: dict[str, Path] = {}
    for given in arguments.methods:
        name, equals, folder = given.partition("=")
        if not equals or not name.strip() or not folder or not name.isprintable():
            raise ValueError(f"{given!r} is not METHOD=FOLDER")
        if name in methods:
            raise ValueError(f"method {name!r} is given twice; give each its own name")
        methods[name] = Path(folder)
    from lle_jax import console, images
    from lle_jax.reader_study import page as reader_study

    written = reader_study.write(
        arguments.output, methods, arguments.reference, seed=arguments.seed
    )
    console.note(f"{written.pairs} pairs of {len(methods)} methods on {written.cases} cases")
    console.note(f"page: {written.page}\nkey, not for readers: {written.key}")
    folders = [*methods.values(), *([arguments.reference] if arguments.reference else [])]
    if skipped := images.skipped_formats(images.scan(folders).others):
        console.note(skipped)
    console.note("check the page for names burnt into images before you share it")
    return 0


def _analyse(arguments: argparse.Namespace) -> int:
    if arguments.key is None:
        raise ValueError("--analyse needs the study's key; give --key KEY")
    if arguments.methods or arguments.reference or arguments.output:
        raise ValueError("--analyse takes no METHOD=FOLDER, --reference or -o")
    from lle_jax.reader_study import answers as reader_answers

    if arguments.seed < 0:
        raise ValueError(f"--seed is {arguments.seed}; expected 0 or more")
    study = reader_answers.read(arguments.analyse, arguments.key)
    print(reader_answers.text(study, seed=arguments.seed))
    return 0
