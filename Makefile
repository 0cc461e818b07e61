# make demo       data → training → evaluation → picture, on a laptop, with nothing but Python and this file
# make test       the whole test suite
# make ablation   the demo's model with four poolings: accuracy, segmentation, grouping, and what the background does
# make benchmark  our speed beside PyTorch's
# make soak       every promise about long runs, tried: kills, damaged checkpoints, full disks, rotten data, hostile files
# make errors     docs/errors.md, from the tests: every wrong input, what the user sees, the exit status
# make lint       what ruff has to say
# make lock       requirements/*.txt: every package that requirements.txt brings, with its hashes
# make licences   the licence of each of them; fails on one that Apache-2.0 does not go with
# make audit      their known faults, from the database of PyPI
#
# Each makes the virtual environment it needs in .venv first. PYTHON chooses the interpreter: make demo PYTHON=python3.12

# A training step takes much memory from the system and gives it back, which costs next to nothing in large pages
# (docs/speed.md). Understood by glibc from 2.35 on; no other C library minds.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

PYTHON ?= python3
BIN := .venv/bin
PYTHON_VERSION = $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

.PHONY: demo ablation test benchmark soak errors lint lock licences audit clean

demo: .venv/installed
	$(BIN)/python tools/demo.py --install_seconds=$$(cat .venv/installed)

ablation: .venv/installed
	$(BIN)/python tools/ablation.py

test: .venv/installed-for-tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

benchmark: .venv/installed-for-tests
	mkdir -p benchmarks/local
	$(BIN)/python tools/benchmark.py step --output=benchmarks/local/step.json
	$(BIN)/python tools/benchmark.py inference --output=benchmarks/local/inference.json
	$(BIN)/python tools/benchmark.py loss --output=benchmarks/local/loss.json
	$(BIN)/python tools/benchmark.py input --output=benchmarks/local/input.json
	$(BIN)/python tools/benchmark.py choices --output=benchmarks/local/choices.json
	$(BIN)/python tools/benchmark.py scaling --output=benchmarks/local/scaling.json

soak: .venv/installed-for-tests
	$(BIN)/python -m tools.soak

errors: .venv/installed-for-tests
	$(BIN)/python -m pytest -n 2 --dist worksteal --write-errors=docs/errors.md
	git diff --stat -- docs/errors.md

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lock: .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	mkdir -p requirements
	for version in 3.11 3.12 3.13; do \
		$(BIN)/uv pip compile --quiet --universal --python-version $$version --generate-hashes --upgrade --no-header \
			--no-annotate --no-emit-index-url --no-emit-find-links requirements.txt -o requirements/$$version.txt || exit 1; \
	done

licences: .venv/installed
	$(BIN)/python tools/licences.py

audit: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements/$(PYTHON_VERSION).txt

clean:
	rm -rf .venv

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); use Python 3.11, 3.12 or 3.13, for example: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

# Each stamp holds the seconds that its installation took. What the demo needs is compared with the hashes of `make lock`;
# what only the tests need is not, since their PyTorch may be one that was built for this machine.
.venv/installed: requirements.txt $(wildcard requirements/*.txt) | .venv/bin/python
	@echo "Installing requirements/*.txt into .venv (a few minutes, about 2 GB)"
	@start=$$(date +%s); $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/$(PYTHON_VERSION).txt && \
		echo $$(($$(date +%s) - start)) > $@

.venv/installed-for-tests: requirements-test.txt requirements.txt | .venv/bin/python
	@echo "Installing requirements-test.txt into .venv (a few minutes, about 4 GB)"
	@start=$$(date +%s); $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt && \
		echo $$(($$(date +%s) - start)) > $@
