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
LOCAL_AWS := .venv-local-aws/.installed-$(VERSION)
PEERS := .venv-peers/.installed-$(VERSION)
CHECKS := .venv-checks/.installed-$(VERSION)
RELEASE := .venv-release/.installed-$(VERSION)
# Of use to "make fuzz" alone, and not to be had for every system and Python: so it is no part of requirements/dev.txt.
ATHERIS := atheris==3.0.0
PIN := $(BIN)/uv pip compile --universal --upgrade --python-version 3.11 --no-header --no-emit-index-url --no-annotate --quiet
PIP_INSTALL := -m pip --disable-pip-version-check install -qq

.PHONY: help demo test lint types checks unit coverage deployed audit dist bench matrix peers fuzz explore mutants prove prove-clean local stop format lock environments clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: environments ## the main job from deployment to a refreshed token, on this machine
	@$(BIN)/python -m tests.deployed.demo

test: lint types checks unit deployed ## everything that must hold: style, types, template, unit tests, deployed stack

lint: $(DEVELOPMENT)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/cfn-lint template.yaml examples/reader/template.yaml proof/stand_in/template.yaml
	AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(BIN)/sam validate --lint

types: $(DEVELOPMENT)
	$(BIN)/mypy $(CHECKED)

checks: $(DEVELOPMENT) $(CHECKS) ## templates and policies, as AWS takes them in each of its partitions
	@rm -rf .local/checks
	$(BIN)/python -m tests.transformed .local/checks
	@# W1020 and W1033 are about what SAM and this check fill in.
	$(BIN)/cfn-lint --ignore-checks W1020 W1033 --regions us-east-1 cn-north-1 us-gov-west-1 -- .local/checks/template-*.json
	.venv-checks/bin/python -W ignore -m tests.policy_lint .local/checks/policies-*
	.venv-checks/bin/checkov --framework cloudformation --file template.yaml examples/reader/template.yaml \
	    --skip-download --quiet --compact

unit: $(DEVELOPMENT) ## the tests that need no stack
	$(BIN)/pytest -rs -m "not deployed"

coverage: $(DEVELOPMENT) ## which lines and branches the tests without a stack reach
	$(BIN)/coverage run -m pytest -q -m "not deployed"
	$(BIN)/coverage report

deployed: environments ## the tests of the deployed stack
	$(BIN)/pytest -rs -m deployed

audit: $(RELEASE) ## known vulnerabilities of what is shipped; needs the network
	.venv-release/bin/pip-audit --requirement functions/token_refresher/requirements.txt --require-hashes --disable-pip --strict

dist: $(DEVELOPMENT) $(RELEASE) ## what a release ships, in dist/: application, layer, wheels, bill of materials
	@BIN=$(BIN) RELEASE_BIN=.venv-release/bin scripts/make-dist

bench: $(DEVELOPMENT) ## measured promises: process start, the reader, sweeps
	@# All of them, whatever the first one finds.
	@failed=0; for what in start_up reader sweep; do $(BIN)/python -m tests.campaigns.$$what || failed=1; done; exit $$failed

matrix: ## the reader's tests with the lowest and the newest versions of what it works with, Python 3.11 and 3.13
	@scripts/matrix

peers: $(PEERS) ## the table of docs/odd-answers.md: other OAuth clients beside ours
	@.venv-peers/bin/python -m tests.campaigns.peers_token_endpoint

fuzz: $(DEVELOPMENT) ## a long campaign of odd answers from the token endpoint
	$(BIN)/python -m tests.campaigns.fuzz_token_endpoint
	-@$(BIN)/python $(PIP_INSTALL) --only-binary :all: $(ATHERIS)
	$(BIN)/python -m tests.campaigns.fuzz_judgement

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
lock: $(DEVELOPMENT) ## pin the newest tools and peers in requirements/*.txt
	$(BIN)/python $(PIP_INSTALL) uv
	for name in dev local-aws peers checks release; do \
	    $(PIN) requirements/$$name.in --output-file requirements/$$name.txt || exit 1; \
	done
	$(PIN) --generate-hashes requirements/function.in --output-file functions/token_refresher/requirements.txt

clean: stop ## remove what the targets made, environments included
	rm -rf dist .venv .venv-local-aws .venv-peers .venv-checks .venv-release .venv-matrix *.egg-info .aws-sam .local .mypy_cache .ruff_cache .pytest_cache .hypothesis

environments: ## install what the other targets need
	@$(MAKE) --silent -j2 $(DEVELOPMENT) $(LOCAL_AWS)

$(DEVELOPMENT): requirements/dev.txt cli/pyproject.toml
	@echo "Install the development tools in .venv (once; two minutes or so)"
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

$(PEERS): requirements/peers.txt cli/pyproject.toml
	@echo "Install the other OAuth clients in .venv-peers (once)" >&2
	@rm -rf .venv-peers
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv-peers
	@.venv-peers/bin/python $(PIP_INSTALL) --requirement requirements/peers.txt
	@.venv-peers/bin/python $(PIP_INSTALL) --no-deps --editable ./cli
	@touch $@

$(CHECKS): requirements/checks.txt
	@echo "Install what checks policies and templates in .venv-checks (once)"
	@rm -rf .venv-checks
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv-checks
	@.venv-checks/bin/python $(PIP_INSTALL) --no-compile --requirement requirements/checks.txt
	@touch $@

$(RELEASE): requirements/release.txt
	@echo "Install what makes a release in .venv-release (once)"
	@rm -rf .venv-release
	@python=$$(scripts/choose-python) && "$$python" -m venv .venv-release
	@.venv-release/bin/python $(PIP_INSTALL) --requirement requirements/release.txt
	@touch $@
