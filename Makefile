# The manual: `make` alone prints it. CI calls the same targets.

MODEL      ?= sentiment
PRESET     ?= base
DATA       ?=
RUN        ?=
WEIGHTS    ?=
BACKEND    ?= keras
SPLIT      ?=
FOLDER     ?=
KEEP       ?= 2
REPOSITORY ?= model_repository
PORT       ?= 8500
REST_PORT  ?= 8501
WEB_PORT   ?= 7860
CONFIG     ?=
TARGETS    ?= localhost:$(PORT)
ENGINE     ?=
RIVALS     ?=
TESTS      ?=
WORKERS    ?= 2
MARKS      ?= not slow and not bench
ARGS       ?=
VENV       ?= .venv

#= MODEL       the model, also the name it is served under (default: sentiment)
#= PRESET      train: named configuration: base, tiny, or another of the model (default: base)
#= DATA        train, evaluate: data folder, several for train
#= RUN         run folder (default: runs/MODEL; evaluate, publish: shipped weights)
#= WEIGHTS     train: a .weights.h5 file to start from (vision models)
#= BACKEND     evaluate: keras, saved_model, onnx or grpc (default: keras)
#= SPLIT       evaluate: train, dev, test or all (default: test, else dev, else all)
#= TO          export: formats, with commas (default: saved_model,onnx); see docs/edge.md
#= FOLDER      evaluate, export, publish: version folder (default: RUN/export)
#= KEEP        prune: how many versions stay (default: 2)
#= REPOSITORY  the published models (default: model_repository)
#= PORT        serve, ask, web: gRPC port (default: 8500); REST_PORT for metrics (default: 8501)
#= WEB_PORT    web: port of the page (default: 7860)
#= CONFIG      canary, promote, rollback: model config file of the servers on TARGETS; rollback
#=             without one retires the newest folder (TARGETS default: localhost:PORT)
#= ENGINE      up, smoke: embedded or tfserving (default: what .env says)
#= RIVALS      bench-rivals, bench-serving: other model servers (default: all that are known)
#= TESTS       test: files or folders to run (default: all)
#= WORKERS     test: processes; 0 runs the tests in one (default: 2); ARGS=--cov measures coverage
#= MARKS       test: pytest marks (default: not slow and not bench; MARKS= runs everything)
#= ARGS        further arguments of the command
#= VENV        the virtual environment (default: .venv)

# Every finished model.
MODELS := face detection segmentation translation translation_dates sentiment

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

export TF_CPP_MIN_LOG_LEVEL ?= 3
# ONNX Runtime's official builds send usage data to their maker unless told not to.
export ORT_DISABLE_TELEMETRY ?= 1
# Installing skips byte code; the first import of a module writes it.
unexport PYTHONDONTWRITEBYTECODE

PY        := $(VENV)/bin/python
READY     := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
RUN_DIR    = $(or $(RUN),runs/$(MODEL))
RELEASE    = --repository $(REPOSITORY) $(if $(CONFIG),--config $(CONFIG) --targets $(TARGETS))
FOLDER_DIR = $(or $(FOLDER),$(RUN_DIR)/export)
# What `make ask` asks a model: a text, or the sample images of its newest version.
SAMPLES    = $(lastword $(shell ls -dv $(REPOSITORY)/$(MODEL)/*/assets/samples 2>/dev/null))
ASK_face              = face embed $(SAMPLES)
ASK_detection         = detect $(SAMPLES)
ASK_segmentation      = segment $(SAMPLES)
ASK_sentiment         = sentiment "A joy from start to end."
ASK_translation       = translation "Where is the train station?"
ASK_translation_dates = translation --task dates "3 mai 1979"
COMPOSE   ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

##@ Start here
.PHONY: help
help: ## print this
	@awk '/^##@ /{printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## /{name=$$0; sub(/:.*/, "", name); sub(/.*## /, ""); printf "  make %-10s %s\n", name, $$0} \
	  /^#= /{sub(/^#= /, ""); variables = variables "  " $$0 "\n"} \
	  END{printf "\nVariables\n%s", variables}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(READY) ## make the virtual environment: server, client, training and export

.PHONY: demo
demo: published ## publish the shipped models, serve them, ask them, stop
	@$(PY) -m clients.demo --repository $(REPOSITORY) $(ARGS)

##@ Models
.PHONY: train
train: $(READY) ## train MODEL with PRESET on DATA into RUN
	@$(PY) -m models train $(MODEL) --preset $(PRESET) --run $(RUN_DIR) $(if $(DATA),--data $(DATA)) \
	  $(if $(WEIGHTS),--weights $(WEIGHTS)) $(ARGS)

.PHONY: evaluate
evaluate: $(READY) ## measure MODEL on DATA with BACKEND; the last line is JSON
	@$(PY) -m models evaluate $(MODEL) --backend $(BACKEND) $(if $(DATA),--data $(DATA)) \
	  $(if $(SPLIT),--split $(SPLIT)) $(if $(RUN),--run $(RUN)) \
	  $(if $(FOLDER),--version-folder $(FOLDER)) --repository $(REPOSITORY) $(ARGS)

.PHONY: export
export: $(READY) ## write RUN of MODEL, else its shipped weights, into FOLDER, in formats TO=a,b
	@$(PY) -m export $(MODEL) $(if $(RUN)$(wildcard $(RUN_DIR)/run.json),--run $(RUN_DIR)) \
	  --to $(or $(TO),saved_model,onnx) $(if $(DATA),--data $(DATA)) --out $(FOLDER_DIR) $(ARGS)

.PHONY: export-table
export-table: $(READY_DEV) ## one table of every format in FOLDER (default: those of all models)
	@$(PY) -m export table $(or $(FOLDER),$(wildcard runs/*/export)) --out runs/table $(ARGS)

##@ Releases
.PHONY: publish
publish: $(READY) ## publish FOLDER, RUN or the shipped weights of MODEL as the next version
	@$(PY) -m export publish $(MODEL) $(if $(FOLDER),--folder $(FOLDER)) \
	  $(if $(RUN),--run $(RUN)) --repository $(REPOSITORY) $(ARGS)

.PHONY: canary
canary: $(READY) ## serve the newest version of MODEL beside the stable one, under the label canary
	@$(PY) -m export canary $(MODEL) $(RELEASE) $(ARGS)

.PHONY: promote
promote: $(READY) ## make the canary of MODEL the stable version
	@$(PY) -m export promote $(MODEL) $(RELEASE) $(ARGS)

.PHONY: rollback
rollback: $(READY) ## take MODEL's canary back, or return to the version before
	@$(PY) -m export rollback $(MODEL) $(RELEASE) $(ARGS)

.PHONY: prune
prune: $(READY) ## delete all but the newest KEEP versions of MODEL
	@$(PY) -m export prune $(MODEL) --keep $(KEEP) --repository $(REPOSITORY) $(ARGS)

.PHONY: tune-serving
tune-serving: $(READY) ## measure how a server best runs the newest version of MODEL (MODEL= all)
	@$(PY) -m export tune $(MODEL) --repository $(REPOSITORY) $(ARGS)

##@ Serving
.PHONY: serve
serve: published-$(MODEL) ## serve MODEL here: gRPC on PORT, metrics on REST_PORT
	@$(PY) -m serving --port=$(PORT) --rest_api_port=$(REST_PORT) --model_name=$(MODEL) \
	  --model_base_path=$(REPOSITORY)/$(MODEL) --enable_batching $(ARGS)

.PHONY: up
up: ## start ENGINE, Prometheus, Grafana and the web page with Docker Compose; publish what ships
	@$(if $(ENGINE),ENGINE=$(ENGINE) COMPOSE_PROFILES=$(ENGINE)) $(COMPOSE) up --detach $(ARGS)
	@$(COMPOSE) ps

.PHONY: down
down: ## stop what `make up` started
	@COMPOSE_PROFILES=embedded,tfserving,smoke $(COMPOSE) down --remove-orphans $(ARGS)

.PHONY: logs
logs: ## follow the logs of what `make up` started
	@COMPOSE_PROFILES=embedded,tfserving $(COMPOSE) logs --follow --tail=100 $(ARGS)

.PHONY: smoke
smoke: ## ask every model of what `make up` started, and look for it in the dashboards
	@$(if $(ENGINE),ENGINE=$(ENGINE) COMPOSE_PROFILES=$(ENGINE)) $(COMPOSE) run --rm smoke

.PHONY: dashboards
dashboards: $(READY) ## write Grafana's dashboards from their Python description
	@$(PY) serving/docker/grafana/make_dashboards.py

.PHONY: ask
ask: $(READY) ## ask the server on PORT for its health, its versions of MODEL and one answer
	@$(PY) -m clients health --target localhost:$(PORT)
	@$(PY) -m clients status --target localhost:$(PORT) $(MODEL)
	@$(PY) -m clients $(ASK_$(MODEL)) --target localhost:$(PORT)

.PHONY: web
web: $(READY) ## a web page here, on WEB_PORT, that asks the server on PORT
	@$(PY) -m clients.web --target localhost:$(PORT) --host 127.0.0.1 --port $(WEB_PORT) $(ARGS)

.PHONY: bench
bench: $(READY_DEV) published-$(MODEL) ## requests/s and latencies of MODEL beside the raw engines
	@$(PY) -m tests.bench $(MODEL) --repository $(REPOSITORY) $(ARGS)

.PHONY: bench-serving
bench-serving: $(READY_DEV) published ## both gRPC faces beside the raw engines and RIVALS (needs h2load)
	@$(PY) -m tests.bench.faces --repository $(REPOSITORY) $(if $(RIVALS),--rivals $(RIVALS)) $(ARGS)

.PHONY: bench-rivals
bench-rivals: $(READY_DEV) ## install RIVALS for bench-serving, each into an environment of its own
	@$(PY) -m tests.bench.rivals $(RIVALS)

.PHONY: soak
soak: $(READY_DEV) ## minutes of swaps, overload, broken requests and faults against the server
	@$(PY) -m tests.soak $(ARGS)

##@ Development
.PHONY: test
test: $(READY_DEV) ## run the tests
	@$(PY) -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(if $(MARKS),-m "$(MARKS)") $(TESTS) $(ARGS)

.PHONY: lint
lint: $(READY_DEV) ## ruff (rules and format) and the allowed imports
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/lint-imports

.PHONY: type
type: $(READY_DEV) ## mypy
	@$(VENV)/bin/mypy

.PHONY: format
format: $(READY_DEV) ## let ruff format and repair what it can
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

.PHONY: protos
protos: $(READY_DEV) ## compile protocol/proto into protocol/descriptors.binpb
	@$(PY) -m protocol.compile

.PHONY: lock
lock: $(READY_DEV) ## pin the newest versions that pyproject.toml allows in constraints.txt
	@$(PY) -m pip install --quiet --dry-run --ignore-installed --report $(VENV)/lock.json $(EVERYTHING)
	@$(PY) -c "$$WRITE_PINS" $(VENV)/lock.json constraints.txt

.PHONY: clean
clean: ## remove the environments and caches; runs and published models stay
	@rm -rf $(VENV) .venv-bench build dist *.egg-info .coverage htmlcov .hypothesis .import_linter_cache \
	  .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- how the environment is made ------------------------------------------------------------

EVERYTHING := '.[serve,edge,web,tensorflow,dev]'

# The first Python found that pyproject.toml allows.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
  $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
  && command -v $$name && break; done)

$(PY):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; set PYTHON=" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml constraints.txt | $(PY)
	$(call install,'.[serve$(comma)edge$(comma)web$(comma)tensorflow]')

$(READY_DEV): pyproject.toml constraints.txt | $(PY)
	$(call install,$(EVERYTHING))
	@touch $(READY)

comma := ,

# Installs with exact versions; shows time and count while pip is silent, its log if it fails.
define install
	@$(PY) -m pip install --no-compile --disable-pip-version-check --no-input \
	  --constraint constraints.txt --editable $(1) >$(VENV)/install.log 2>&1 & pid=$$!; \
	trap "kill $$pid 2>/dev/null || true" EXIT; \
	if [ -t 1 ]; then end='\r' every=1; else end='\n' every=10; fi; \
	while sleep 1; kill -0 $$pid 2>/dev/null; do \
	  ((SECONDS % every)) && continue; \
	  found=($(VENV)/lib/python*/site-packages/*.dist-info); \
	  printf "installing into $(VENV): %3d s, %3d packages$$end" $$SECONDS $${#found[@]}; \
	done; \
	if wait $$pid; then printf "$(VENV) is ready after %d s%20s\n" $$SECONDS ""; \
	else echo; tail -n 40 $(VENV)/install.log >&2; exit 1; fi
	@touch $@
endef

# Published from shipped weights, or trained small where none are shipped.
published-%: $(READY)
	@$(PY) -m export publish $* --repository $(REPOSITORY) --if-missing

# All of them, in one process: TensorFlow takes its time to load.
published: $(READY)
	@$(PY) -m export publish $(MODELS) --repository $(REPOSITORY) --if-missing

define WRITE_PINS
import json, pathlib, sys
report, target = map(pathlib.Path, sys.argv[1:])
found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
pins = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
pins.pop("keras-model-service")
head = [line for line in target.read_text().splitlines() if line.startswith("#")]
lines = head + [f"{name}=={version}" for name, version in sorted(pins.items())]
target.write_text("\n".join(lines) + "\n")
endef
export WRITE_PINS
