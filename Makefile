# Two commands matter: `make up` starts a store, `make test` passes the tests. Both set up what they need.
PYTHON := .venv/bin/python

.PHONY: up setup test check quick lint types compat s3-tests pjdfstest fsx fsstress bench sim sim-mutations fuzz test-faults wheel-test clean

up: setup ## start a store on this host (ARGS="--mount DIR --port 9000 …")
	@.venv/bin/craqen up $(ARGS)

setup: ## virtual environment and packages; quick when nothing has changed
	@.ci/setup

test: setup lint types ## format, lint, types and all tests
	@$(PYTHON) -m pytest -q -n 2 --dist loadfile

quick: setup ## the tests that need neither processes nor a mount
	@$(PYTHON) -m pytest -q -n 2 --dist loadfile -m "not mount and not slow"

check: lint types quick ## what to run before a commit

lint: setup
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet .

types: setup
	@.venv/bin/mypy

compat: setup ## real clients against a freshly started store; writes docs/compat.md
	@$(PYTHON) compat $(ARGS)

s3-tests: setup ## ceph/s3-tests from its own checkout (S3TESTS=path ARGS="--group core -k cors")
	@$(PYTHON) compat/s3_tests.py $(S3TESTS) $(ARGS)

pjdfstest: setup ## POSIX calls on the mount, from a built checkout (PJDFSTEST=path); needs root
	@$(PYTHON) compat/posix_suites.py pjdfstest $(PJDFSTEST) $(ARGS)

fsx: setup ## random reads and writes of files on the mount (FSX=program ARGS="--seconds 3600"); needs root
	@$(PYTHON) compat/posix_suites.py fsx $(FSX) $(ARGS)

fsstress: setup ## random calls on a tree, compared on two mounts (FSSTRESS=program ARGS="--seconds 3600"); needs root
	@$(PYTHON) compat/posix_suites.py fsstress $(FSSTRESS) $(ARGS)

bench: setup ## every figure of docs/benchmarks.md
	@.venv/bin/craqen bench all $(ARGS)

sim: setup ## the chains simulated under faults (SEEDS=10000 SEED=n SCENARIO=name JOBS=2)
	@$(PYTHON) -m craqen.tests.sim --jobs $(or $(JOBS),2) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000)) $(if $(SCENARIO),--scenario $(SCENARIO))

sim-mutations: setup ## planted protocol bugs, each of which the simulation must catch
	@$(PYTHON) -m craqen.tests.sim.mutations --jobs $(or $(JOBS),2)

fuzz: setup ## hostile inputs for every parser and door (SECONDS=60 for each TARGET=name); pip install atheris first
	@$(PYTHON) -m craqen.tests.fuzz --seconds $(or $(SECONDS),60) $(if $(TARGET),--target $(TARGET)) $(ARGS)

test-faults: setup ## real faults: networks, disks, clocks, restarts under load; needs root (ARGS="-k partitions")
	@$(PYTHON) -m pytest tests/faults -q -s $(ARGS)

wheel-test: setup ## build the wheel, install it alone, and use it
	@.ci/wheel-test

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
