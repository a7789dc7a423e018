# make serve            the service at http://localhost:8000
# make training         .venv/training, in which `python -m training` works
# make test             linters, types and tests
# make test-schema      ten minutes of requests that the schema allows, and of some that it does not
# make test-container   the image, started by compose, answers; needs Docker
# make chaos            10,000 requests of rude clients while the device's thread is killed every second
# make test-faults      the container killed under load, bombed, its disk full, its network slow, its clock jumping, one
#                       of two replicas stopped, both upgraded; needs Docker and the image
# make lock             deploy/requirements.lock anew: the releases that the image installs, with digests
# make sbom             build/sbom.json: what the image has of Python, in CycloneDX's words; needs Docker and the image
# make audit            the same looked up among known vulnerabilities; needs the network
# make test-fuzz        1,020,000 inputs that atheris makes up, for the decoder and the parsers; forty minutes
# make bench            how fast it is beside its peers and the bare network; half an hour, on an idle machine
# make soak             20,000 predictions, after which memory and open files are as before
# Each sets up what it needs. TORCH=cuda takes the build of PyTorch for NVIDIA GPUs.

PYTHON ?= python3
TORCH ?= cpu
SERVE := .venv/serve
DEV := .venv/dev
TRAINING := .venv/training
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

.PHONY: serve training test lint types test-schema test-container chaos soak test-faults test-fuzz lock sbom audit bench clean
serve: $(SERVE)/ready-$(TORCH)
	$(SERVE)/bin/deepemotion serve

training: $(TRAINING)/ready-$(TORCH)

test: lint types
	$(DEV)/bin/python -m pytest

lint: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .

types: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/mypy

test-container: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/python tests/container.py --compose "$(COMPOSE)"

test-schema: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/python -m tests.conformance.run --seconds 600

chaos: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/python -m tests.faults.storm chaos --requests 10000

soak: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/python -m tests.faults.storm soak --requests 20000

test-faults: $(DEV)/ready-$(TORCH)
	$(DEV)/bin/python -m tests.faults.containers --compose "$(COMPOSE)"
	$(DEV)/bin/python -m tests.faults.replicas --compose "$(COMPOSE)"
	$(DEV)/bin/python -m tests.faults.clock

FUZZ := .venv/fuzz
test-fuzz: $(FUZZ)/ready
	$(FUZZ)/bin/python -m tests.fuzz.run --runs $(or $(RUNS),340000)

# Without torch: only the decoder and the parsers are fuzzed, and atheris wants CPython 3.11 to 3.13.
$(FUZZ)/ready: pyproject.toml
	$(PYTHON) -m venv --clear $(FUZZ)
	$(FUZZ)/bin/pip install --quiet atheris fastapi httpx numpy pillow pydantic-settings python-multipart
	touch $@

# Its own environment: none of these tools is part of what they look at. LOCK goes to deploy/lock.sh.
SUPPLY := .venv/supply
lock: $(SUPPLY)/ready
	sh deploy/lock.sh $(SUPPLY)/bin/uv $(LOCK)

sbom: $(SUPPLY)/ready
	sh deploy/packages_of.sh deepemotion $(SUPPLY)/image
	mkdir -p build
	$(SUPPLY)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
		--output-reproducible --output-file build/sbom.json $(SUPPLY)/image/bin/python
	$(SUPPLY)/bin/python -c "import json; print(len(json.load(open('build/sbom.json'))['components']), 'packages in build/sbom.json')"

audit: $(SUPPLY)/ready
	sh deploy/packages_of.sh deepemotion $(SUPPLY)/image
	$(SUPPLY)/bin/pip-audit --strict --path $$(echo $(SUPPLY)/image/lib/python3*/site-packages)

$(SUPPLY)/ready: Makefile
	$(PYTHON) -m venv --clear $(SUPPLY)
	$(SUPPLY)/bin/pip install --quiet cyclonedx-bom pip-audit uv
	touch $@

PEERS := .venv/peers
bench: $(DEV)/ready-$(TORCH) $(SERVE)/ready-$(TORCH) $(PEERS)/ready-$(TORCH)
	$(DEV)/bin/python -m bench.serving
	$(DEV)/bin/python -m bench.storms

$(PEERS)/ready-%: bench/peers/requirements.txt deploy/torch_version.txt
	$(PYTHON) -m venv --clear $(PEERS)
	sh deploy/install_torch.sh $(PEERS)/bin/python $* $$(cat deploy/torch_version.txt)
	$(PEERS)/bin/pip install --quiet -r bench/peers/requirements.txt
	touch $@

$(SERVE)/ready-%: pyproject.toml deploy/torch_version.txt
	$(PYTHON) -m venv --clear $(SERVE)
	sh deploy/install_torch.sh $(SERVE)/bin/python $* $$(cat deploy/torch_version.txt)
	$(SERVE)/bin/pip install --quiet --editable .
	touch $@

$(TRAINING)/ready-%: pyproject.toml deploy/torch_training_versions.txt
	$(PYTHON) -m venv --clear $(TRAINING)
	sh deploy/install_torch.sh $(TRAINING)/bin/python $* $$(cat deploy/torch_training_versions.txt)
	$(TRAINING)/bin/pip install --quiet --editable '.[training]'
	touch $@

$(DEV)/ready-%: pyproject.toml deploy/torch_training_versions.txt
	$(PYTHON) -m venv --clear $(DEV)
	sh deploy/install_torch.sh $(DEV)/bin/python $* $$(cat deploy/torch_training_versions.txt)
	$(DEV)/bin/pip install --quiet --editable '.[training,dev]'
	touch $@

clean:
	rm -rf .venv
