"""The Dockerfile and the conda recipe agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA_NAMES = {
    "flatbuffers": "python-flatbuffers",
    "matplotlib": "matplotlib-base",  # without Qt
    "ml_collections": "ml-collections",
    "opencv-python-headless": "py-opencv",
    "tensorboardX": "tensorboardx",
}


def test_the_conda_recipe_has_the_dependencies_of_the_project():
    project = PROJECT["project"]
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    expected = [f"python {project['requires-python']}"]
    for dependency in project["dependencies"]:
        name, versions = re.fullmatch(r"([\w-]+)(.*)", dependency).groups()
        expected.append(f"{CONDA_NAMES.get(name, name)} {versions}")
    assert recipe["requirements"]["run"] == expected
    host = [each.replace(" ", "") for each in recipe["requirements"]["host"]]
    assert set(PROJECT["build-system"]["requires"]) <= set(host)
    assert recipe["package"] == {"name": project["name"], "version": project["version"]}
    assert recipe["about"]["license"] == project["license"]
    scripts = [f"{name} = {target}" for name, target in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts


def test_the_dockerfile_uses_one_python_that_the_project_names():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (version,) = set(re.findall(r"^FROM python:([\d.]+)-slim", text, re.MULTILINE))
    classifiers = PROJECT["project"]["classifiers"]
    assert f"Programming Language :: Python :: {version}" in classifiers
    (command,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]', text, re.MULTILINE)
    assert command in PROJECT["project"]["scripts"]


def test_the_image_is_built_from_files_that_exist():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert not [name for name in sent if not (ROOT / name).exists()]
    needed = {"pyproject.toml", "constraints.txt", "lle_jax", PROJECT["project"]["readme"]}
    assert needed | set(PROJECT["project"]["license-files"]) <= set(sent)
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) <= set(sent)
