# Plumbline. `make demo` shows what it does, `make test` proves it; `make help` lists the rest.

# One way to build everything, so that nothing is compiled twice, wherever the checkout is; the race detector alone
# needs cgo.
export CGO_ENABLED = 0
# What gRPC has for debugging comes with templates, for which the linker must keep every exported method: a fifth of the agent,
# and three MiB of its memory.
export GOFLAGS = -trimpath -tags=grpcnotrace

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := build
.PHONY: help build generate check check-generated install test test-host test-demo test-vm test-systemd test-programs demo bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build both programs into bin/
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/plumbline-agent ./cmd/agent
	$(GO) build -ldflags '$(LDFLAGS)' -o bin/plumbline ./cmd/controlplane

generate: ## compile the BPF programs for amd64 and arm64 (installs clang-19)
	test/install.sh generate
	$(GO) generate ./...
	$(GO) run ./test/fresh -write

check: ## format, vet, lint, rules too, and compare generated files with their sources
	@test -z "$$($(GO) tool gofumpt -l cmd pkg rules test)" || { $(GO) tool gofumpt -l cmd pkg rules test; echo "check: run gofumpt on these files" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./cmd/controlplane rules lint --strict --builtin
	$(GO) run ./cmd/controlplane rules fmt --check rules/
	$(MAKE) --no-print-directory check-generated

check-generated: ## fail if a BPF source changed after its object was generated
	$(GO) run ./test/fresh

test: export PLUMBLINE_COUNTS = $(CURDIR)/bin/counts
test: ## install what is needed, run everything, the VM matrix included, end with counts; FRESH=1 runs also what nothing has changed in
	@mkdir -p bin && rm -f $(PLUMBLINE_COUNTS)
	$(MAKE) --no-print-directory -j2 install check # the one waits for the network, the other for processors
	$(MAKE) --no-print-directory test-host
	$(MAKE) --no-print-directory test-demo
	$(MAKE) --no-print-directory -j2 test-systemd test-vm
	@echo "make test: all of it passed"; cat $(PLUMBLINE_COUNTS)

install: # what the tests need of Debian
	test/install.sh test

test-demo: ## run the demo on this machine; what it says is shown if it fails
	@mkdir -p bin
	$(MAKE) --no-print-directory demo > bin/demo.log 2>&1 || { cat bin/demo.log; exit 1; }

# The race detector sleeps a second wherever a program ends well, and the tests of both programs start hundreds: a tenth
# of one is as long as what they do last.
test-host: ## the tests of this machine's kernel
	CGO_ENABLED=1 GORACE=atexit_sleep_ms=100 $(GO) run ./test/suite -race -vet=off $(if $(FRESH),-count=1) ./... # `check` has vetted it

test-vm: ## the tests and scenarios on the kernels of the matrix; EVERY=1 runs each on every kernel that it can run on
	test/install.sh test
	$(GO) run ./test/vm/cmd/matrix -must $(if $(FRESH),-fresh) $(if $(EVERY),-every)

test-systemd: ## install the agent as a unit in a VM with systemd, enforce a unit, stop, unload
	test/install.sh test
	$(GO) run ./test/vm/cmd/systemd -must $(if $(FRESH),-fresh)

test-programs: ## learn, enforce and attack nginx, PostgreSQL, a JVM, a Go service and cron in a VM
	test/install.sh programs
	$(GO) run ./test/vm/cmd/systemd -must -programs all

demo: ## see an attack blocked and its alert arrive; VM=6.1 does it in a VM with LSM enforcement
	test/install.sh demo
	$(MAKE) --no-print-directory build
	$(GO) build -buildmode=pie -ldflags '-s -w' -o bin/demo-service ./test/demo/service
	$(GO) build -o bin/demo ./test/demo
	$(if $(VM),test/install.sh test && $(GO) run ./test/vm/cmd/demo -kernel $(VM),bin/demo)

bench: build ## print the table of measured costs; BENCH='-run vm -kernels 6.1' for a part of it
	test/install.sh test
	$(GO) run ./test/bench $(BENCH)

clean: ## remove what was built
	rm -rf bin
