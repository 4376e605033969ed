# The commands of everyday work. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# Directory of cargo's output; CARGO_TARGET_DIR overrides it.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Tools that cargo can install, by version. All checkouts of this user share them.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/town-operator/tools
DENY_VERSION := 0.20.2
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
MUTANTS_VERSION := 27.1.0
MUTANTS := $(TOOLS)/cargo-mutants-$(MUTANTS_VERSION)/bin/cargo-mutants
# Slow tests that give little information about the cause of a failure. The mutation runs skip them.
MUTANTS_SLOW := walk interleaving properties
# Part of the mutants: all, or for example SHARD=0/8.
SHARD ?= 0/1

# The simulation with optimisation, and with the feature that disables single safety checks for tests.
EXPLORE := cargo test --locked --profile explore --features mutations --test simulation
# Builds the program with the features of the tests, because `cargo run` would build every dependency again with other
# features.
PROGRAM := cargo test -q --locked -p town-operator --test generated --no-run
# Minutes that `make explore` spends on pairs of faults.
MINUTES ?= 10
# Number of towns in `make test-scale`.
TOWNS ?= 1000

# The suites on control planes, and every other suite except the one on a node.
CLUSTERS := cluster conformance
QUIET := $(filter-out node $(CLUSTERS),$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)))

CHART := deploy/helm/town-operator
BED := cargo run -q --locked -p town-bed --bin bed --
# NAME=... selects a cluster of the test bed; empty: the default one.
BED_NAME := $(if $(NAME),--name $(NAME))
# Helm from the PATH, otherwise the one that the test bed builds.
HELM = $(or $(shell command -v helm 2>/dev/null),$(shell $(BED) path helm))

# The name of the image in the archive that `make image` builds.
IMAGE ?= localhost/town-operator:dev
export IMAGE

##@ Everyday

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the life of a town: create, sleep, wake, delete (CONTEXT=... IMAGE=... uses a cluster of yours; KEEP=1 keeps it)
	@deploy/demo.sh

.PHONY: test
test: bed ## Run every test, on a simulated API server, a real one and a real node
	@if $(BED) can-node >/dev/null; then PROFILE=trial deploy/image.sh; fi
	cargo test --locked --workspace --no-run
	$(EXPLORE) --no-run
	@failed=0; \
	echo "suites run in pairs; make prints the output of each at its end"; \
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target suite-node suite-quiet || failed=1; \
	$(MAKE) --no-print-directory suite-clusters || failed=1; \
	exit $$failed

.PHONY: explore
explore: ## Run the simulation with every possible fault, then with two faults at the same time for MINUTES=10, and report the coverage
	$(EXPLORE)
	MINUTES=$(MINUTES) $(EXPLORE) invariants_hold_with_every_pair_of_faults -- --ignored --nocapture

.PHONY: test-unit
test-unit: ## Run the tests that need no cluster
	cargo test --locked -p town-operator --lib --bins

.PHONY: test-scale
test-scale: ## Delete TOWNS=1000 towns at the same time (make test uses a hundred), and report time, writes and memory
	TOWNS=$(TOWNS) cargo test --locked --profile explore --test cluster -- --nocapture scale::

.PHONY: test-cluster
test-cluster: ## Run the cluster and node tests against your cluster: KUBECONFIG=... (IMAGE=... already pushed)
	@[ -n "$${KUBECONFIG:-}" ] || { echo "test-cluster: KUBECONFIG is not set: make test-cluster KUBECONFIG=/path/to/kubeconfig" >&2; exit 1; }
	@[ -r "$$KUBECONFIG" ] || { echo "test-cluster: cannot read $$KUBECONFIG" >&2; exit 1; }
	TOWN_TEST_KUBECONFIG="$$KUBECONFIG" cargo test --locked -p town-operator --test cluster --test node

.PHONY: test-kind
test-kind: ## Run the cluster and node tests on a temporary kind cluster
	@deploy/test-kind.sh

.PHONY: mutants
mutants: $(MUTANTS) ## List the changes to the decision code that no test notices, with cargo-mutants (two hours; SHARD=0/8)
	RUSTFLAGS='--cfg decisions_alone' CARGO_PROFILE_TEST_DEBUG=false CARGO_TARGET_DIR=$(abspath $(TARGET))/mutants \
	  $(MUTANTS) mutants --package town-operator --file 'src/lifecycle/*.rs' --exclude src/lifecycle/guard.rs --shard $(SHARD) --sharding round-robin --baseline=skip --timeout 60 \
	  --output $(TARGET) --no-shuffle --cargo-arg=--lib -- lifecycle:: -- $(MUTANTS_SLOW:%=--skip lifecycle::tests::%)

.PHONY: lint
lint: lint-rust lint-deny lint-generated lint-deploy ## Check format, warnings, dependencies, generated files and the chart

##@ Build

.PHONY: build
build: ## Build the operator for this machine
	cargo build --locked --bin town-operator

.PHONY: image
image: ## Build the container image into an archive (IMAGE=name, ENGINE=docker|podman|buildah)
	@deploy/image.sh

.PHONY: install
install: ## Build the image and install it with Helm into the cluster of make cluster-up (or KIND=name, or CONTEXT=... IMAGE=...)
	@deploy/install.sh

.PHONY: generate
generate: ## Write the CustomResourceDefinitions and the table of metrics from the Rust types
	$(PROGRAM)
	$(TARGET)/debug/town-operator crds --dir crds
	mkdir -p $(CHART)/files/crds docs
	cp crds/*.yaml $(CHART)/files/crds/
	$(TARGET)/debug/town-operator metrics > docs/metrics.md

.PHONY: manifests
manifests: ## Render the chart to one file for kubectl apply -f
	@mkdir -p $(TARGET)/manifests
	@{ cat deploy/manifests-head.yaml; \
	   $(HELM) template town-operator $(CHART) --namespace town-system; } > $(TARGET)/manifests/town-operator.yaml
	@echo "kubectl apply -f $(TARGET)/manifests/town-operator.yaml"

.PHONY: clean
clean: ## Delete the build output of this checkout (not the test bed's cache)
	cargo clean

##@ A cluster for manual tests

.PHONY: cluster-up
cluster-up: ## Start the test bed's cluster and print its KUBECONFIG line
	@$(BED) build >/dev/null
	@$(BED) up $(BED_NAME)

.PHONY: cluster-down
cluster-down: ## Stop the cluster and delete its files
	@$(BED) down $(BED_NAME)

.PHONY: cluster-status
cluster-status: ## Show the state and the address of the cluster
	@$(BED) status $(BED_NAME)

.PHONY: cluster-logs
cluster-logs: ## Show the logs of the cluster's components
	@$(BED) logs $(BED_NAME)

# The targets below have no help text: they are parts of the targets above.

# The suites with containers mostly wait. Beside them run the suites that use no cluster and no wall-clock time, with a low
# priority, so that they delay no other suite. The suites with control planes need all processors.
.PHONY: suite-node suite-quiet suite-clusters
suite-node:
	@failed=0; \
	cargo test --locked -p town-bed --no-fail-fast || failed=1; \
	cargo test --locked -p town-operator --test node || failed=1; \
	exit $$failed
suite-quiet:
	@failed=0; \
	nice -n 19 $(EXPLORE) invariants_hold_at_every_crash_point || failed=1; \
	nice -n 19 cargo test --locked -p town-operator --no-fail-fast --lib --bins $(QUIET:%=--test %) || failed=1; \
	nice -n 19 cargo test --locked -p town-operator --doc || failed=1; \
	exit $$failed
suite-clusters:
	cargo test --locked -p town-operator --no-fail-fast $(CLUSTERS:%=--test %)

# The programs of the test bed. If this machine cannot run a node, only the programs of a control plane.
.PHONY: bed
bed:
	@if why=$$($(BED) can-node); then $(BED) build >/dev/null; else \
	  echo "$$why: the tests that need a node are skipped"; \
	  for program in etcd kube-apiserver kube-controller-manager kubectl; do $(BED) path $$program >/dev/null; done; fi

.PHONY: lint-rust
lint-rust:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: lint-deny
lint-deny: $(DENY)
	$(DENY) --locked check --hide-inclusion-graph bans licenses sources

$(DENY):
	@echo "building cargo-deny $(DENY_VERSION) for the first time, which takes a few minutes"
	env -u CARGO_TARGET_DIR cargo install -q cargo-deny --locked --version $(DENY_VERSION) --root $(TOOLS)/cargo-deny-$(DENY_VERSION)

$(MUTANTS):
	@echo "building cargo-mutants $(MUTANTS_VERSION) for the first time, which takes a few minutes"
	env -u CARGO_TARGET_DIR cargo install -q cargo-mutants --locked --version $(MUTANTS_VERSION) --root $(TOOLS)/cargo-mutants-$(MUTANTS_VERSION)

.PHONY: lint-generated
lint-generated:
	@rm -rf $(TARGET)/generated && mkdir -p $(TARGET)/generated
	@mkdir $(TARGET)/generated/crds
	@$(PROGRAM)
	@$(TARGET)/debug/town-operator crds --dir $(TARGET)/generated/crds
	@$(TARGET)/debug/town-operator metrics > $(TARGET)/generated/metrics.md
	@diff -ru crds $(TARGET)/generated/crds && diff -ru crds $(CHART)/files/crds \
	  && diff -u docs/metrics.md $(TARGET)/generated/metrics.md \
	  || { echo "generated files are not current: run 'make generate' and commit its output" >&2; exit 1; }

.PHONY: lint-deploy
lint-deploy:
	@if command -v shellcheck >/dev/null; then shellcheck deploy/*.sh .ci/run; \
	  else echo "shellcheck is not installed: the check of the scripts is skipped"; fi
	$(HELM) lint --strict --quiet $(CHART) --namespace town-system
