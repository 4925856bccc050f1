# `make serve` and `make test` start from nothing but CPython 3.11, git and make. `make help` lists the rest.

VENV := .venv
LOCK := requirements.lock
PY := $(VENV)/bin/python

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# All targets share one environment, and pytest's closing line is to stay the last.
.NOTPARALLEL:

# --- The environment ---------------------------------------------------------------------------------------------
#
# .venv/.serve, .venv/.test   written last, once all that serving or testing needs is installed
# .venv/.changing             locked while pip changes packages; stays behind when that was killed
#
# An environment that was left half-made, moved here from elsewhere, or lost its interpreter or pip is made anew;
# pip's cache keeps that quick. `activate` is the last file that venv writes.

find_python = $(if $(PYTHON),$(PYTHON),$(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done))

usable := test -e $(VENV)/bin/activate -a ! -e $(VENV)/.changing \
	&& grep -qx 'command = .* $(CURDIR)/$(VENV)' $(VENV)/pyvenv.cfg && $(PY) -m pip --version

# The lock belongs to the shell behind `install` and to the pip below it: it outlives make, and ends with the last.
ifneq ($(wildcard $(VENV)/.changing),)
ifeq ($(shell $(find_python) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 9<$(VENV)/.changing \
	2>/dev/null && echo free),)
$(error Another make is installing into $(VENV): wait for it)
endif
endif
ifeq ($(shell { $(usable); } 2>/dev/null),)
unusable := unusable
endif

$(VENV)/pyvenv.cfg: $(unusable)
	@python="$(find_python)"; \
	if [ -z "$$python" ]; then \
		echo "CPython 3.11 or newer is needed; name one with 'make PYTHON=/path/to/python'." >&2; exit 1; \
	elif ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$$python cannot make environments: install its venv module (Debian: python3-venv)." >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$($$python --version)"; \
	rm -rf $(VENV) && $$python -m venv $(VENV)

# $(call install,WHAT FOR,REQUIREMENTS)
# The lock constrains what is installed and, through the environment, what builds it. pip takes back a change that
# failed, but not one that was interrupted.
define install
@echo "Installing what $1 needs into $(VENV); the first time takes minutes"
@set -o pipefail; trap 'exit 130' INT TERM; \
exec 9>$(VENV)/.changing && $(PY) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || exit; \
PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK) PIP_DISABLE_PIP_VERSION_CHECK=1 \
$(PY) -m pip install --no-input --progress-bar off $2 | while read -r line; do case "$$line" in \
	Downloading*MB*) echo "  $$line" ;; \
	"Installing collected"*) echo "  Unpacking" ;; \
esac; done; \
status=$$?; [ $$status -ge 128 ] || rm $(VENV)/.changing; exit $$status
endef

$(VENV)/.serve: $(VENV)/pyvenv.cfg $(LOCK) pyproject.toml
	$(call install,serving,-e .)
	@touch $@

$(VENV)/.test: $(VENV)/.serve
	$(call install,testing,-e '.[test]')
	@touch $@

.PHONY: unusable
unusable:

# --- What people call --------------------------------------------------------------------------------------------

.PHONY: help serve test test-long loadtest audit sbom format lock image clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

serve: $(VENV)/.serve ## start the server with the bundled models on port 8000 (PORT=9000 for another)
	@exec $(VENV)/bin/lmht serve $(if $(PORT),--port $(PORT))

test: $(VENV)/.test ## ruff, mypy, and every quick test under the coverage floor
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict
	$(PY) -m pytest -m "not long" --cov -n auto --dist loadfile

test-long: $(VENV)/.test ## the tests that take more than a few seconds each
	$(PY) -m pytest -m long

# The pictures come from the data sets, which the test environment has.
loadtest: $(VENV)/.test ## load the bundled models for 10 minutes; reports in .cache/loadtest (ARGS="--window-s 5")
	@exec $(PY) -m loadtest.locally --output .cache/loadtest $(ARGS)

audit: $(VENV)/.serve ## ask a database of vulnerabilities about what is locked
	@$(PY) deploy/audit.py

sbom: $(VENV)/.serve ## write bills of materials: .cache/sbom.json, and sbom-serving.json of what the image has
	@mkdir -p .cache
	@$(PY) deploy/sbom.py >.cache/sbom.json && $(PY) deploy/sbom.py --serving >.cache/sbom-serving.json
	@echo "Wrote .cache/sbom.json and .cache/sbom-serving.json"

format: $(VENV)/.test ## let ruff format the code and mend what it can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# uv resolves for every platform at once and writes markers. Pins that still fit pyproject.toml are kept.
lock: $(VENV)/pyvenv.cfg ## bring requirements.lock up to pyproject.toml (UPGRADE=1 moves every version)
	@rm -rf .cache/lock && $(PY) -m venv .cache/lock && .cache/lock/bin/python -m pip install --quiet uv
	$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| .cache/lock/bin/uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
		--fork-strategy fewest --annotation-style line --custom-compile-command "make lock" --quiet \
		$(if $(UPGRADE),--upgrade) --output-file $(LOCK)

image: ## build the container image lmht-serve
	docker build --tag lmht-serve \
		--tag lmht-serve:$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
		--build-arg CREATED="$$(date --utc +%Y-%m-%dT%H:%M:%SZ)" \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" .

clean: ## remove the environment, the caches and what tests leave behind
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* dist
	find . -name __pycache__ -prune -exec rm -rf {} +
