# Each from nothing: `make run` trains and evaluates, `make test`, `make lint` and `make types` check
# the project, `make docs` writes the API reference to build/docs, `make wheel` builds the wheel and
# uses it outside the checkout, and `make wheel-install` installs that wheel with its dependencies in
# a new environment.
#   make run PYTHON=python3.12                          another interpreter
#   make run ARGS="--config.optim.lr=1e-4 --workdir runs/slow"

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN     = $(VENV)/bin

.PHONY: run test lint types docs wheel wheel-install clean

run: $(VENV)/.run
	$(BIN)/python -m lle_jax.main --config experiments/unet.py $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --durations 25

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy lle_jax

docs: $(VENV)/.docs
	JAX_PLATFORMS=cpu $(BIN)/python -W error::UserWarning -m pdoc --docformat google --no-show-source \
		--output-directory build/docs lle_jax '!lle_jax.released' '!lle_jax.configs'

wheel: $(VENV)/.run
	rm -rf build/wheel
	$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps -w build/wheel .
	$(BIN)/python tools/try_wheel.py build/wheel/*.whl

wheel-install:
	rm -rf build/venv
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt \
		build/wheel/*.whl
	build/venv/bin/python tools/try_wheel.py build/wheel/*.whl jax_engineer

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) tools/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
