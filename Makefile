# The commands of everyday work. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# Where cargo builds: CARGO_TARGET_DIR moves it.
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Tools that a target needs and cargo can bring, by version, shared by all checkouts of this user.
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/town-operator/tools
DENY_VERSION := 0.20.2
DENY := $(TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny
MUTANTS_VERSION := 27.1.0
MUTANTS := $(TOOLS)/cargo-mutants-$(MUTANTS_VERSION)/bin/cargo-mutants
# The tests that take most of the time and tell the least of what broke: changes are tried without them.
MUTANTS_SLOW := walk interleaving properties
# Which part of them: all, or for example SHARD=0/8.
SHARD ?= 0/1

# The simulation, optimised, with the switches that show that its tests would notice a missing check.
EXPLORE := cargo test --locked --profile explore --features mutations --test simulation
# Builds the program as the tests use it: `cargo run` would build every dependency once more, with other features.
PROGRAM := cargo test -q --locked -p town-operator --test generated --no-run
# How long `make explore` looks.
MINUTES ?= 10
# How many towns `make test-scale` has.
TOWNS ?= 1000

# Every suite of the operator's but the one on a node.
OTHERS := $(filter-out node,$(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs)))

CHART := deploy/helm/town-operator
BED := cargo run -q --locked -p town-bed --bin bed --
# NAME=... picks another cluster of the test bed than the default one.
BED_NAME := $(if $(NAME),--name $(NAME))
# The one on the PATH, else the one that the test bed builds.
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
demo: ## Watch a real town live, sleep, wake and die (CONTEXT=... IMAGE=... for a cluster of yours; KEEP=1 leaves it up)
	@deploy/demo.sh

.PHONY: test
test: bed ## Run every test, on a simulated API server, a real one and a real node
	@if $(BED) can-node >/dev/null; then deploy/image.sh; fi
	cargo test --locked --workspace --no-run
	@failed=0; \
	cargo test --locked -p town-bed --no-fail-fast || failed=1; \
	cargo test --locked -p town-operator --test node || failed=1; \
	echo "the other suites run beside the explorer; what each says is shown when it has ended"; \
	$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target suite-others suite-explorer || failed=1; \
	exit $$failed

.PHONY: explore
explore: ## Explore everything that can go wrong on the simulated API server, then two faults at once for MINUTES=10, and report how much was looked at
	$(EXPLORE)
	MINUTES=$(MINUTES) $(EXPLORE) every_pair_of_faults -- --ignored --nocapture

.PHONY: test-unit
test-unit: ## Run the tests that need no cluster
	cargo test --locked -p town-operator --lib --bins

.PHONY: test-scale
test-scale: ## Tell the story of many towns that are deleted at once with TOWNS=1000 of them, as make test does with a hundred, and report time, writes and memory
	TOWNS=$(TOWNS) cargo test --locked --profile explore --test cluster -- --nocapture scale::

.PHONY: test-cluster
test-cluster: ## Run the cluster and node tests against your cluster: KUBECONFIG=... (IMAGE=... already pushed)
	@[ -n "$${KUBECONFIG:-}" ] || { echo "test-cluster: say which cluster: make test-cluster KUBECONFIG=/path/to/kubeconfig" >&2; exit 1; }
	@[ -r "$$KUBECONFIG" ] || { echo "test-cluster: cannot read $$KUBECONFIG" >&2; exit 1; }
	TOWN_TEST_KUBECONFIG="$$KUBECONFIG" cargo test --locked -p town-operator --test cluster --test node

.PHONY: test-kind
test-kind: ## Run the cluster and node tests on a kind cluster of its own, deleted afterwards
	@deploy/test-kind.sh

.PHONY: mutants
mutants: $(MUTANTS) ## Change the decision code in every way that cargo-mutants knows and see which changes no test notices (two hours; SHARD=0/8)
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
clean: ## Delete everything that was built in this checkout (not the test bed's cache)
	cargo clean

##@ A cluster to play with

.PHONY: cluster-up
cluster-up: ## Start the test bed's cluster and print its KUBECONFIG line
	@$(BED) build >/dev/null
	@$(BED) up $(BED_NAME)

.PHONY: cluster-down
cluster-down: ## Stop it and leave nothing behind
	@$(BED) down $(BED_NAME)

.PHONY: cluster-status
cluster-status: ## Show whether it runs and where
	@$(BED) status $(BED_NAME)

.PHONY: cluster-logs
cluster-logs: ## Show the logs of its components
	@$(BED) logs $(BED_NAME)

# Not listed: parts of the above.

# The explorer knows no real time, and takes what the others leave of the processors.
.PHONY: suite-others suite-explorer
suite-others:
	cargo test --locked -p town-operator --no-fail-fast --lib --bins $(OTHERS:%=--test %)
	cargo test --locked -p town-operator --doc
suite-explorer:
	nice -n 19 $(EXPLORE) at_every_crash_point

# The programs of the test bed: all of them where there can be a node, else those of a control plane.
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
	@echo "building cargo-deny $(DENY_VERSION), once: a few minutes"
	env -u CARGO_TARGET_DIR cargo install -q cargo-deny --locked --version $(DENY_VERSION) --root $(TOOLS)/cargo-deny-$(DENY_VERSION)

$(MUTANTS):
	@echo "building cargo-mutants $(MUTANTS_VERSION), once: a few minutes"
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
	  || { echo "generated files are not current: run 'make generate' and commit what it writes" >&2; exit 1; }

.PHONY: lint-deploy
lint-deploy:
	@if command -v shellcheck >/dev/null; then shellcheck deploy/*.sh .ci/run; \
	  else echo "shellcheck is not installed: the scripts were not checked"; fi
	$(HELM) lint --strict --quiet $(CHART) --namespace town-system
