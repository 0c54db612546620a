# Needs python3 ≥ 3.11, make and a package index; everything else goes into .venv, which it owns.
# PYTHON=… names the interpreter that .venv is made with, ARGS=… is handed to the target's command.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Compiled modules are kept, as an installation keeps them: every process here starts the sooner for it.
unexport PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE
PY := .venv/bin/python

.PHONY: demo test bench soak gpu-check check proto lock baseline clean help environment

demo: environment ## train on real text, kill the trainer on the way, prove that nothing was lost
	@$(PY) ops/demo.py $(ARGS)

# The tests of a file stay together, for what they share; e2e, the longest, comes first. A worker that ends
# in a test, as one that hangs does at its deadline, ends the run.
test: environment ## run the whole test suite, files side by side (ARGS='-k name', ARGS=-n0: one by one)
	@$(PY) -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder --max-worker-restart=0 $(ARGS)

bench: environment ## measure the training library (ARGS='--pairs 4 --only guard')
	@$(PY) tests/bench/run.py $(ARGS)

soak: environment ## the long campaigns (SEED=1 MINUTES=10, ARGS='--only simulation')
	@SEED='$(SEED)' MINUTES='$(MINUTES)' $(PY) tests/soak/run.py $(ARGS)

gpu-check: environment ## look at what this machine's GPUs do (ops/docs/gpu.md)
	@$(PY) ops/gpu_check.py $(ARGS)

check: environment ## format, lint, types, import contracts, protocol, stubs, tree
	@$(PY) ops/dev/checks.py

proto: environment ## write the Python stubs of proto/ anew
	@$(PY) ops/dev/stubs.py

baseline: environment ## at a release: later protocols must not break today's
	@$(PY) ops/dev/buf.py --baseline

lock: environment ## resolve the pinned requirements anew (ARGS=--upgrade: newest of all)
	@$(PY) ops/dev/lock.py $(ARGS)

clean: ## remove .venv and everything else that was made
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

environment:
	@PYTHON='$(PYTHON)' sh ops/dev/environment.sh
