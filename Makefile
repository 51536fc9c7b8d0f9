# The only entry point. `make help` lists what there is.

GO      ?= go
PG_CONFIG ?= pg_config
MODULE  := services/capture/engine/postgres
MAINS   := capture crypto publisher notifier control weir
GOFILES  = $(shell git ls-files '*.go' ':!proto/gen')
MODULES  = $(shell $(GO) list -m -f '{{.Dir}}')
FUZZTIME ?= 1m
# The server is fuzzed for ten minutes, unless a time is asked for.
SERVERFUZZTIME = $(if $(filter file,$(origin FUZZTIME)),10m,$(FUZZTIME))
ENGINETEST = ./services/capture/engine/postgres/enginetest

# The program, and one binary per service, land beside the engine module, where `weir dev` looks for it.
export PATH := $(CURDIR)/.bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup build build-e2e module run demo test check race fuzz corpus valgrind faults e2e bench deb tools gen tidy fmt lint ship-check images up down clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what building, testing and the demo need, where it is missing.
	@deploy/setup.sh

build: module ## Build bin/weir, a binary per service, and bin/weir.so, the engine module.
	$(GO) build -o bin/ $(foreach m,$(MAINS),./services/$(m)/cmd/$(m))

# Without PostgreSQL's headers the Go half is still built: everything but `weir dev`'s own server works.
module: ## Build bin/weir.so alone, the engine module, for pg_config's server.
	@mkdir -p bin
	@if [ -f "$$($(PG_CONFIG) --pgxs 2>/dev/null)" ] && command -v cc >/dev/null; then \
		(cd $(MODULE) && flock Makefile $(MAKE) --no-print-directory -s PG_CONFIG=$(PG_CONFIG)) && cp -p $(MODULE)/weir.so bin/weir.so.new && mv bin/weir.so.new bin/weir.so; \
	else echo "bin/weir.so is not built: there is no C compiler, or no PostgreSQL server headers; run: make setup"; fi

# What the tests and benches run beside the product: a NATS server of the pinned version, and a reader that discards.
build-e2e: build ## Build what the tests run beside the product, too.
	$(GO) build -o bin/nats-server github.com/nats-io/nats-server/v2
	$(GO) build -o bin/ringsink ./services/capture/cmd/ringsink

run: build ## Run the whole mesh here, with a private PostgreSQL, until Ctrl-C.
	bin/weir dev

demo: setup build ## From nothing to proof: a workload, and every event of it found in the stream.
	@$(GO) run ./deploy/e2e/demo -bin bin

test: build-e2e ## Run all tests.
	$(GO) test -timeout 11m work

race: build-e2e ## Run all tests with the race detector.
	$(GO) test -race -timeout 30m work

faults: build-e2e ## Break every part under load, alone and together (about an hour), and hold the stream against the database.
	$(GO) test -count=1 -timeout 30m -run 'Killed|Gap' -v ./deploy/e2e/mesh
	WEIR_FAULTS=full $(GO) test -count=1 -timeout 90m -v ./deploy/e2e/faults

fuzz: module ## Run every fuzz target for FUZZTIME (1m), then fuzz a server through SQL (10m, or FUZZTIME), then 10^6 statements for a leak.
	@set -e; for m in $(MODULES); do for p in $$(cd $$m && grep -lr --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for f in $$(cd $$m && $(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do echo "$$m $$p $$f"; \
			(cd $$m && $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p); done; done; done
	$(GO) test -count=1 -timeout 0 -v -run 'TestFuzzServer$$' $(ENGINETEST) -args -fuzzfor $(SERVERFUZZTIME)
	$(GO) test -count=1 -timeout 0 -v -run 'TestLeak$$' $(ENGINETEST) -args -leakrounds 50

# PGSRC is a checkout of PostgreSQL's source, PGTAPSRC one of pgTAP's; without them only the installed extensions are run.
PGSRC ?=
PGTAPSRC ?=
corpus: module ## Run real SQL with the module and without (PGSRC=DIR, PGTAPSRC=DIR), and compare every line that psql prints.
	$(GO) test -tags corpus -count=1 -timeout 2h -v -run 'TestSQL$$' $(ENGINETEST) -args $(if $(PGSRC),-pgsrc $(abspath $(PGSRC))) $(if $(PGTAPSRC),-pgtap $(abspath $(PGTAPSRC)))

valgrind: module ## Run a server with the module under valgrind (Debian: valgrind); takes some ten minutes.
	$(GO) test -tags valgrind -count=1 -timeout 2h -v -run 'TestValgrind$$' $(ENGINETEST)

e2e: images ## Test the mesh of docker compose.
	$(GO) test -count=1 -tags e2e -timeout 30m ./deploy/e2e/compose/...

bench: build-e2e ## Measure; prints the tables of docs/benchmarks.md.
	deploy/bench/run.sh

check: check-tidy check-gen check-docs lint ship-check ## Everything but the tests that a change must pass.

lint: .bin/staticcheck ## Look at the Go code: gofmt, vet, staticcheck.
	@out=$$(gofmt -l $(GOFILES)); [ -z "$$out" ] || { echo "not formatted, run make fmt:"; echo "$$out"; exit 1; }
	$(GO) vet work
	$(GO) vet -tags bench,e2e,corpus,valgrind ./deploy/e2e/... $(ENGINETEST)
	.bin/staticcheck work

fmt: ## Format the Go code.
	gofmt -w $(GOFILES)

tidy: ## Bring go.work and every go.mod and go.sum in order.
	$(GO) work sync
	@set -e; for m in $(MODULES); do GOWORK=off $(GO) -C $$m mod tidy; done

.PHONY: check-tidy check-gen check-docs
check-tidy: ## See that go.mod and go.sum are in order.
	@set -e; for m in $(MODULES); do GOWORK=off $(GO) -C $$m mod tidy -diff || { echo "$$m is not tidy: run make tidy"; exit 1; }; done

# What is tested is built with go.work, what is shipped without it.
ship-check: ## Build and vet every module alone, as the images do.
	@set -e; for m in $(MODULES); do GOWORK=off $(GO) -C $$m build -o /dev/null ./...; GOWORK=off $(GO) -C $$m vet ./...; done

# The documents lie outside the tests' modules, where go test does not see that they changed: hence -count.
check-docs: ## See that what the documents name exists.
	$(GO) test -count=1 ./deploy/e2e/docs ./services/notifier/internal/events

# The schemas and what was generated from them, so that nobody needs buf to see that they belong together.
GENSUM = (ls buf.yaml buf.gen.yaml && find proto/weir proto/gen -type f) | LC_ALL=C sort | xargs sha256sum

gen: .bin/buf .bin/protoc-gen-go .bin/protoc-gen-go-grpc ## Generate proto/gen from the schemas.
	.bin/buf lint
	.bin/buf generate
	@$(GENSUM) > proto/gen.sha256

check-gen: ## See that proto/gen belongs to the schemas.
	@$(GENSUM) | diff - proto/gen.sha256 >/dev/null || { echo "proto/gen does not belong to the schemas: run make gen"; exit 1; }

TOOL_buf                := github.com/bufbuild/buf/cmd/buf
TOOL_protoc-gen-go      := google.golang.org/protobuf/cmd/protoc-gen-go
TOOL_protoc-gen-go-grpc := google.golang.org/grpc/cmd/protoc-gen-go-grpc
TOOL_staticcheck        := honnef.co/go/tools/cmd/staticcheck
TOOL_grpcurl            := github.com/fullstorydev/grpcurl/cmd/grpcurl

.bin/%: deploy/tools/go.mod
	GOWORK=off GOBIN=$(CURDIR)/.bin $(GO) -C deploy/tools install $(TOOL_$*)
	@touch $@

tools: ## Build all pinned tools into .bin (buf takes minutes).
	GOWORK=off GOBIN=$(CURDIR)/.bin $(GO) -C deploy/tools install tool

images: ## Build the images of docker compose.
	docker compose build

deb: ## Make the Debian packages in build/deb: the module for pg_config's server, the services with their units, the command line.
	CGO_ENABLED=0 GOFLAGS=-buildvcs=false $(GO) build -trimpath -o build/deb/bin/ $(foreach m,$(MAINS),./services/$(m)/cmd/$(m))
	PG_CONFIG=$(PG_CONFIG) deploy/debian/build.sh build/deb build/deb/bin

up: ## Start the mesh with docker compose.
	docker compose up --detach

down: ## Stop it, and delete its volumes.
	docker compose down --volumes

clean: ## Delete what was built.
	rm -rf bin build
	@if [ -f "$$($(PG_CONFIG) --pgxs 2>/dev/null)" ]; then $(MAKE) --no-print-directory -s -C $(MODULE) PG_CONFIG=$(PG_CONFIG) clean; fi
