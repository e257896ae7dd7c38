# Two commands do everything: `make run` and `make test`. The others are their parts.
SHELL := bash
.DEFAULT_GOAL := help

# What llama.cpp is built for: cpu, cuda, metal, vulkan, rpc, joined by commas. PORTABLE=1 builds for distribution.
export BACKEND ?= cpu
export PORTABLE ?= 0
export QUIPU_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/quipu
export GOFLAGS := $(GOFLAGS) -tags=sqlite_fts5
export QUIPU_TEST_MODELS ?= $(QUIPU_CACHE)/models

ADDR ?= 127.0.0.1:8080
DATA ?= $(CURDIR)/quipu-data
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LINT := $(QUIPU_CACHE)/bin/golangci-lint-v2.15.0

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build models ## build, get the starter models, ingest the sample, serve it
	@bin/quipu ingest --data $(DATA) examples/lumen-bikes/docs
	@bin/quipu serve --data $(DATA) --addr $(ADDR)

build: llama ## build bin/quipu
	@mkdir -p bin
	go build -trimpath -ldflags '-s -w -X $(shell go list -m)/cmd.version=$(VERSION)' -o bin/quipu .

llama: doctor
	@scripts/llama

doctor: ## check what building needs
	@scripts/doctor >/dev/null || scripts/doctor

models: build ## get the starter models
	@scripts/models

test-models: build
	@scripts/models --test

test: build test-models ## the tests: unit, race, AddressSanitizer, real models, real clients
	@scripts/test

lint: llama $(LINT) ## golangci-lint, shellcheck, gofmt
	$(LINT) run ./...
	cd contract && $(LINT) run ./...
	shellcheck scripts/* .ci/run

$(LINT):
	@mkdir -p $(dir $@)
	GOFLAGS= GOBIN=$(dir $@) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	@mv $(dir $@)golangci-lint $@

clean: ## remove bin/ (builds of llama.cpp and models stay in QUIPU_CACHE)
	rm -rf bin

.PHONY: help run build llama doctor models test-models test lint clean
