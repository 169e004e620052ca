# Each target sets itself up; the only thing to install by hand is Python 3.11 to 3.14 ("PYTHON=..." chooses one).

PYTHON ?=
export PYTHON
# Nothing of the caller's Python or AWS account leaks into ours; only the proof works in the caller's account.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
ifeq ($(filter prove prove-clean,$(MAKECMDGOALS)),)
unexport $(filter AWS_% SAM_% VIRTUOUS_%,$(.VARIABLES))
endif

BIN := .venv/bin
CHECKED := cli functions layers proof tests examples
# The stamps carry the Python's version, so another one makes the environments anew.
VERSION := $(shell python=$$(PYTHON='$(PYTHON)' scripts/choose-python 2>/dev/null) && "$$python" -c 'import platform; print(platform.python_version())')
DEVELOPMENT := .venv/.installed-$(VERSION)
CAMPAIGN := .venv/.installed-campaign-$(VERSION)
LOCAL_AWS := .venv-local-aws/.installed-$(VERSION)
RELEASE := .venv-release/.installed-$(VERSION)
PIN := $(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --no-header --no-emit-index-url --no-annotate --quiet
PIP_INSTALL := -m pip --disable-pip-version-check install -qq --no-compile

# Three processes for two cores: those of the deployed stack mostly wait.
PYTEST := $(BIN)/pytest -q -r fEs --numprocesses 3 --no-loadscope-reorder
CAMPAIGNS := slow explore fuzz mutants bench

.PHONY: help demo test checks lint types coverage audit dist campaign slow bench matrix fuzz explore mutants prove prove-clean local stop format lock environments clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: environments ## the main job from deployment to a refreshed token, on this machine
	@$(BIN)/python -m tests.deployed.demo

test: environments ## everything that must hold: style, types, templates, unit tests, the deployed stack
	@mkdir -p .local
	@$(MAKE) --silent checks >.local/checks.log 2>&1 & checks=$$!; failed=0; \
	$(PYTEST) -m "not campaign" || failed=1; \
	wait $$checks && echo "style, types and templates: fine" || { cat .local/checks.log; failed=1; }; \
	exit $$failed

checks: lint types

lint: $(DEVELOPMENT) ## style, and the templates as each of AWS's partitions takes them
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	@rm -rf .local/checks
	$(BIN)/python -m tests.transformed .local/checks
	$(BIN)/cfn-lint template.yaml examples/reader/template.yaml proof/stand_in/template.yaml
	@# W1020 and W1033 are about what SAM and this check fill in.
	$(BIN)/cfn-lint --ignore-checks W1020 W1033 --regions us-east-1 cn-north-1 us-gov-west-1 -- .local/checks/template-*.json
	AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint

types: $(DEVELOPMENT) ## mypy, strict
	$(BIN)/mypy $(CHECKED)

coverage: $(DEVELOPMENT) ## which lines and branches the tests without a stack reach
	$(BIN)/coverage run -m pytest -q -m "not deployed and not campaign"
	$(BIN)/coverage report

campaign: environments $(CAMPAIGN) ## all that takes long, to its end: nightly and before a release
	@failed=""; for what in $(CAMPAIGNS); do \
	    echo; echo "== $$what =="; $(MAKE) --silent $$what || failed="$$failed $$what"; \
	done; [ -z "$$failed" ] || { echo; echo "FAILED:$$failed"; exit 1; }

slow: environments $(CAMPAIGN) ## the tests that "make test" leaves out
	$(BIN)/pytest -q -r fEs -m campaign

audit: $(RELEASE) ## known vulnerabilities of what is shipped; needs the network
	.venv-release/bin/pip-audit --requirement functions/token_refresher/requirements.txt --require-hashes --disable-pip --strict

dist: $(DEVELOPMENT) $(RELEASE) ## what a release ships, in dist/: application, layer, wheels, bill of materials
	@BIN=$(BIN) RELEASE_BIN=.venv-release/bin scripts/make-dist

bench: $(DEVELOPMENT) ## measured promises: process start, the reader, sweeps
	@# All of them, whatever the first one finds.
	@failed=0; for what in start_up reader sweep; do $(BIN)/python -m tests.campaigns.$$what || failed=1; done; exit $$failed

matrix: ## the reader's tests with the lowest and the newest versions of what it works with, Python 3.11 and 3.13
	@scripts/matrix

fuzz: $(DEVELOPMENT) ## a long campaign of odd answers from the token endpoint
	$(BIN)/python -m tests.campaigns.fuzz_token_endpoint

explore: $(DEVELOPMENT) ## more orders of steps of several refreshers than the tests have time for
	$(BIN)/python -m tests.campaigns.explore

mutants: $(DEVELOPMENT) ## take one safeguard after the other out and see a test fail
	$(BIN)/python -m tests.campaigns.mutants

prove: $(DEVELOPMENT) ## show on your AWS account what only a real one can (asks first; cents; cleans up); ARGS="--profile NAME"
	@$(BIN)/python -m proof run $(ARGS)

prove-clean: $(DEVELOPMENT) ## remove what a killed "make prove" left in your AWS account; ARGS as above
	@$(BIN)/python -m proof clean $(ARGS)

local: environments ## the demo's world, left running to play with
	@$(BIN)/python -m tests.deployed.local_world start

stop: ## end what "make local" started
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m tests.deployed.local_world stop; fi

format: $(DEVELOPMENT) ## ruff's formatting and its safe corrections
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

# uv resolves for every platform and Python at once, which pip cannot.
lock: $(DEVELOPMENT) ## pin the newest tools in requirements/*.txt
	$(BIN)/python $(PIP_INSTALL) uv
	for name in dev campaign local-aws release; do \
	    $(PIN) requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done
	$(PIN) --generate-hashes requirements/function.in --output-file functions/token_refresher/requirements.txt

clean: stop ## remove what the targets made, environments included
	rm -rf dist .venv .venv-local-aws .venv-release .venv-matrix *.egg-info .aws-sam .local .mypy_cache .ruff_cache .pytest_cache .hypothesis

environments: ## install what the other targets need
	@$(MAKE) --silent -j2 $(DEVELOPMENT) $(LOCAL_AWS)

$(DEVELOPMENT): requirements/dev.txt cli/pyproject.toml
	@echo "Install the development tools in .venv (once)"
	@rm -rf .venv .mypy_cache # which remembers modules that were missing
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv
	@$(BIN)/python $(PIP_INSTALL) --requirement requirements/dev.txt
	@$(BIN)/python $(PIP_INSTALL) --no-deps --editable ./cli
	@touch $@

$(LOCAL_AWS): requirements/local-aws.txt
	@echo "Install the local AWS in .venv-local-aws (once)"
	@rm -rf .venv-local-aws
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv-local-aws
	@.venv-local-aws/bin/python $(PIP_INSTALL) --requirement requirements/local-aws.txt
	@touch $@

$(CAMPAIGN): $(DEVELOPMENT) requirements/campaign.txt
	@echo "Install what only campaigns need in .venv (once)"
	@$(BIN)/python $(PIP_INSTALL) --requirement requirements/campaign.txt
	@touch $@

$(RELEASE): requirements/release.txt
	@echo "Install what makes a release in .venv-release (once)"
	@rm -rf .venv-release
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv-release
	@.venv-release/bin/python $(PIP_INSTALL) --requirement requirements/release.txt
	@touch $@
