# Everything runs from `.venv`, which `make setup` builds from nothing but Python 3.11 or newer.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
MEMBERS := service-kit gemini-simulator credits-service ai-proxy-service
JOBS ?= 2
CODE := services/*/src tests benchmarks deploy

.PHONY: help setup run cluster cluster-restart test test-long test-clients test-ledger-long fuzz mutants lint type format audit bench soak lock clean

help: ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Build .venv with everything that the project needs

$(STAMP): requirements.lock services/*/pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found. Install Python 3.11 or newer, or name it: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); 3.11 or newer is needed. Name another one: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) can't make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing the locked packages into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements.lock
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation $(foreach member,$(MEMBERS),-e services/$(member))
	@touch $@

run: setup ## Start everything on this machine; Ctrl-C stops all of it
	@exec $(BIN)/python deploy/local/run.py

cluster: setup ## Start nginx, two of each service, PostgreSQL and Redis on this machine; Ctrl-C stops all
	@PYTHONPATH=deploy/local exec $(BIN)/python deploy/cluster/run_cluster.py

cluster-restart: setup ## Restart every process of a running cluster's services, without losing a request
	@PYTHONPATH=deploy/local $(BIN)/python deploy/cluster/run_cluster.py restart

test: setup ## Run the whole test suite, in JOBS=2 processes
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: setup ## The suite with whole topologies, backups, images and the README followed: half an hour
	LONG_TESTS=1 FOLLOW_README=1 CLUSTER_KILLS=all STORE_FAULTS=all $(MAKE) --no-print-directory test
	CLIENTS_ON_CLUSTER=1 $(MAKE) --no-print-directory test-clients

test-clients: setup ## Only the tests with OpenAI's and other people's clients (CLIENTS_ON_CLUSTER=1: by way of nginx)
	$(BIN)/pytest tests/clients $(ARGS)

test-ledger-long: setup ## The ledger against its model, many examples: LEDGER_EXAMPLES=5000 LEDGER_SEED=…
	LEDGER_EXAMPLES=$${LEDGER_EXAMPLES:-5000} $(BIN)/pytest tests/credits/test_rules.py tests/credits/test_machine_http.py $(ARGS)

fuzz: setup ## Both services with very many odd requests: SCHEMA_EXAMPLES=1000 RAW_EXAMPLES=5000
	SCHEMA_EXAMPLES=$${SCHEMA_EXAMPLES:-1000} RAW_EXAMPLES=$${RAW_EXAMPLES:-5000} $(BIN)/pytest -n $(JOBS) --dist loadfile -rP \
		tests/credits/test_document_fuzz.py tests/system/test_fuzz.py tests/system/test_raw_http.py tests/system/test_deep_json.py $(ARGS)

mutants: setup ## Plant faults in copies of the ledger; the tests must find each (ARGS="refund" for some)
	PYTHONPATH=tests $(BIN)/python -m mutants.run $(ARGS)

lint: setup ## Check style, types and the direction of imports
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory type

type: setup ## Check types only
	$(BIN)/mypy $(CODE)

format: setup ## Format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

audit: setup ## Look up the locked dependencies: hashes, yanked files, known vulnerabilities
	$(BIN)/python deploy/audit.py --index $(ARGS)

bench: setup ## Measure the proxy and the ledger
	$(BIN)/python benchmarks/run.py $(ARGS)

soak: setup ## A steady load, to see that nothing grows: SOAK_SECONDS=600 SOAK_RATE=20
	$(BIN)/python -m benchmarks.soak

lock: setup ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv lock --quiet --upgrade
	$(BIN)/uv export --quiet --all-packages --all-groups --no-emit-workspace --no-header --no-annotate -o requirements.lock
	for clients in langchain-agents llamaindex; do \
		$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
			tests/clients/frameworks/$$clients.in -o tests/clients/frameworks/$$clients.lock || exit 1; \
	done

clean: ## Remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache uv.lock \
		tests/clients/.environments tests/clients/node/node_modules
