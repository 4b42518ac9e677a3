# kd3d's everyday commands. `make` alone lists them.
#
#   PYTHON=python3.12   the interpreter to make .venv with (3.10 to 3.12; python3)
#   VENV=.venv          where to make it
#   ARGS="-k camera"    more arguments for pytest or kd3d-demo
#   WORKERS=2           processes that share the tests, of about 2 GB each (0: none besides pytest)
#   KD3D_ROS=wheels     use the ROS wheels of PyPI although this machine has ROS

VENV ?= .venv
ARGS ?=
WORKERS ?= 2
export PYTHON VENV KD3D_ROS

.DEFAULT_GOAL := help
.PHONY: help env demo journey test test-all bench lint lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

env:  ## make .venv with all that kd3d needs (again: takes a moment)
	@scripts/make-env

demo: env  ## play a rendered drive through the detector node; out/demo/report.html
	scripts/with-env $(VENV)/bin/kd3d-demo $(ARGS)

journey: env  ## from a rendered bag of another rig to a detector for its camera; out/journey
	PYTHON=$(VENV)/bin/python scripts/with-env scripts/journey

test: env  ## run the tests, except for the slow ones
	OMP_NUM_THREADS=1 scripts/with-env $(VENV)/bin/python -m pytest -m "not slow" \
	  -n $(WORKERS) --dist loadfile $(ARGS)

test-all: env  ## run all tests
	scripts/with-env $(VENV)/bin/python -m pytest $(ARGS)

bench: env  ## time demo beside the same networks without kd3d: out/bench.json
	$(VENV)/bin/kd3d-bench --baseline upstream --json out/bench.json $(ARGS)

lint: env  ## check style, formatting and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

lock:  ## pin requirements/*.in anew (needs uv)
	@scripts/lock

clean:  ## remove builds, caches and out/ (.venv, runs/ and data/ stay)
	rm -rf build install log out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find kd3d_core kd3d_ros tests launch -name __pycache__ -prune -exec rm -rf {} +
