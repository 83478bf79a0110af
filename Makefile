# `make help` says what there is. PYTHON chooses the interpreter: make PYTHON=python3.13 test
PYTHON ?= python3
FASTSMTP_BUILD ?= release
VENV := .venv
BIN := $(VENV)/bin
RUN := .run

PYTEST := $(BIN)/python -m pytest
# Three at a time on two processors: half of the time the tests wait.
JOBS ?= 3
PXD := $(shell find fastsmtp -name '*.pxd')
CYTHON := $(shell find fastsmtp -name '*.pyx') $(PXD) $(wildcard $(PXD:.pxd=.py))
EXTENSIONS := $(subst /,.,$(basename $(shell find fastsmtp -name '*.pyx')))

define FIRST_MAIL

To send a mail, paste this into another terminal, in any folder:

  $(PYTHON) -c 'import smtplib; s = smtplib.SMTP("127.0.0.1", 2525); s.set_debuglevel(1); s.sendmail("you@example.com", "friend@example.org", "Subject: Hello\n\nHello, fastsmtp.\n"); s.quit()'

or, with swaks:  swaks --server 127.0.0.1:2525 --from you@example.com --to friend@example.org

To see what became of it ("queue show" also takes the number that "queue list" shows):

  $(CURDIR)/$(BIN)/fastsmtp queue list --queue-file $(CURDIR)/$(RUN)/queue.db
  $(CURDIR)/$(BIN)/fastsmtp queue show last --queue-file $(CURDIR)/$(RUN)/queue.db

Control-C ends it.

endef

export FASTSMTP_BUILD FIRST_MAIL

.PHONY: help run check in-memory test test-all test-debian wheels lint debug sanitize fuzz faults hostile bench bench-quick bench-peers bench-plot bench-compare profile docs clean tools

help: ## say what there is (default)
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-13s %s\n", $$1, $$2 }'

# The virtual environment: each stamp is younger than what it was made from.
$(VENV)/python:
	@sh tests/check-build $(PYTHON)
	@echo "[1 of 3] A virtual environment in $(VENV): about 10 seconds"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip
	@touch $@

$(VENV)/installed: $(VENV)/python pyproject.toml setup.py
	@find fastsmtp -name "*$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')" -delete
	@echo "[2 of 3] Cython and setuptools from PyPI: about 10 seconds"
	@$(BIN)/python -m pip install -q --group build
	@$(BIN)/python -m pip uninstall -q -y fastsmtp 2>/dev/null || true # our distribution's name before fastsmtp-mq
	@echo "[3 of 3] fastsmtp is compiled and its libraries are installed: about two minutes"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --no-build-isolation --editable .
	@rm -f $(VENV)/built-*; touch $@ $(VENV)/built-$(FASTSMTP_BUILD)

# Another kind of build leaves other machine code in the same place, so it compiles everything.
# The shell looks for the stamp: make itself does not see that $(VENV)/installed has just made it.
$(VENV)/built-$(FASTSMTP_BUILD): $(VENV)/installed $(CYTHON)
	@if [ -e $@ ]; then echo "What has changed is compiled"; \
	else echo "Everything is compiled as $(FASTSMTP_BUILD): about two minutes"; force=--force; fi; \
	$(BIN)/python setup.py -q build_ext --inplace $$force
	@rm -f $(VENV)/built-*; touch $@

$(VENV)/test-tools: $(VENV)/installed
	@echo "Test tools from PyPI: about 20 seconds"
	@$(BIN)/python -m pip install -q --group test --group lint
	@touch $@

$(VENV)/wheel-tools: $(VENV)/python pyproject.toml
	@$(BIN)/python -m pip install -q --group wheels
	@touch $@

$(VENV)/bench-tools: $(VENV)/installed
	$(BIN)/python -m pip install -q --group bench
	@touch $@

tools:
	@PYTHON=$(PYTHON) sh tests/install-tools

run: $(VENV)/built-$(FASTSMTP_BUILD) ## start on 127.0.0.1:2525 with the embedded queue
	@mkdir -p $(RUN)
	@printf '%s\n' "$$FIRST_MAIL"
	@exec $(BIN)/fastsmtp --smtp-ip 127.0.0.1 --smtp-port 2525 --rabbitmq-address none --queue-file $(RUN)/queue.db

# The bytecode of the tests and of all that they start is kept, whatever the environment says: every
# process would compile it anew, which is a third of a daemon's start.
KEPT = PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/build/pycache

# Side by side: most of these tests wait more than they compute.
check: $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools ## build, lint, run every test that starts no process: under a minute
	@$(MAKE) --no-print-directory -j 2 lint in-memory

in-memory: $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools
	@$(KEPT) $(PYTEST) --in-memory -q -r fE -n $$((2 * $(JOBS))) --dist worksteal

test: tools $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools lint ## install what the tests need, build, lint, run all tests of every day
	$(KEPT) $(PYTEST) -n $(JOBS) --dist worksteal --durations 20

# Interpreters by name or path; each has a virtual environment of its own.
PYTHONS ?= python3.11 python3.12 python3.13
test-all: ## make test with each of PYTHONS
	@for python in $(PYTHONS); do \
		$(MAKE) test PYTHON=$$python VENV=.venv-$$(basename $$python) || exit 1; \
	done

# Debian 12 (bookworm) and 13 (trixie), the one that this machine is not.
OTHER ?= $(shell grep -q bookworm /etc/os-release && echo trixie || echo bookworm)
test-debian: ## make test in a bare Debian of its own, OTHER=trixie or bookworm; root only
	@sh tests/in-debian $(OTHER)

wheels: ## dist/ gets a manylinux wheel for each of PYTHONS that is here, tried in a clean environment
	@for python in $(PYTHONS); do \
		if ! $$python -c "" 2>/dev/null; then echo "skipped: there is no $$python here"; continue; fi; \
		echo "$$python: a wheel is built and tried, about two minutes"; \
		venv=.venv-$$(basename $$python); rm -rf build/wheel; \
		$(MAKE) -s $$venv/wheel-tools PYTHON=$$python VENV=$$venv && \
		$$venv/bin/python -m pip wheel -q --no-deps --no-build-isolation -w build/wheel . && \
		$$venv/bin/python tests/repair_wheel.py build/wheel/*.whl build/wheel/manylinux && \
		$$venv/bin/python tests/check_wheel.py build/wheel/manylinux/*.whl && \
		mkdir -p dist && mv build/wheel/manylinux/*.whl dist/ && made=yes || exit 1; \
	done; \
	[ "$$made" ] || { echo "There is none of: $(PYTHONS). Name interpreters that are here: make wheels PYTHONS=python3" >&2; exit 1; }

lint: $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools ## ruff, mypy, stubtest, cython-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest --concise --ignore-disjoint-bases --allowlist tests/stubtest-allowlist --ignore-unused-allowlist $(EXTENSIONS)
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint fastsmtp bench

debug: ## all tests on a build with bounds checks and assertions
	$(MAKE) test FASTSMTP_BUILD=debug

# Not the package, which is built and installed without sanitizers, nor what promises time and memory.
SANITIZER = $(shell $(CC) -print-file-name=$(1))
sanitize: ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) $(VENV)/built-sanitize $(VENV)/test-tools FASTSMTP_BUILD=sanitize
	LD_PRELOAD="$(call SANITIZER,libasan.so) $(call SANITIZER,libubsan.so)" PYTHONMALLOC=malloc \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		$(PYTEST) -n $(JOBS) --dist worksteal --ignore tests/whole/test_package.py \
		--deselect tests/sinks/rabbitmq/test_publisher.py::test_large_bodies_stop_nobody

fuzz: $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools ## long: fuzz the parsers for FUZZ_SECONDS (60) each, then the property tests with 10,000 examples
	$(BIN)/python -m pip install -q --group fuzz || echo "atheris is not for this Python: chance takes its place"
	for target in proxy parser content session confirms escape; do $(BIN)/python -m tests.fuzz $$target $(or $(FUZZ_SECONDS),60) || exit 1; done
	$(PYTEST) -n $(JOBS) --timeout 0 -m hypothesis --hypothesis-profile fuzz

faults: tools $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools ## long: the ledger of lost mail with ROUNDS (30) times as many kills, reloads, restarts
	$(KEPT) LEDGER_ROUNDS=$(or $(ROUNDS),30) $(PYTEST) tests/faults

hostile: tools $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/test-tools ## long: attacks on memory and fairness: a table of all, or of those whose names have one of the words W
	$(BIN)/python -m tests.hostile $(W)

BENCH = tools $(VENV)/built-$(FASTSMTP_BUILD) $(VENV)/bench-tools $(VENV)/test-tools
bench: $(BENCH) ## speed, CPU, memory beside other servers: all workloads, or those of W="a embedded"
	$(BIN)/python -m bench $(W)

bench-quick: $(BENCH) ## the same in minutes: fewer workloads, shorter rounds
	$(BIN)/python -m bench --quick $(W)

bench-peers: tools ## install the servers that `make bench` compares with
	sh bench/install-peers

bench-plot: $(VENV)/bench-tools ## draw a run as bars, PNG and SVG: the newest, or RESULTS=file.json
	$(BIN)/python -m bench.plot $(RESULTS)

bench-compare: $(BENCH) ## is this tree slower than BASE=revision, beyond noise? (a) and (b), or those of W
	$(BIN)/python -m bench.compare $(or $(BASE),$(error make bench-compare BASE=revision)) $(W)

profile: $(BENCH) ## a flame graph of the server under (a), native frames included
	$(BIN)/python -m bench.flame

docs: $(VENV)/built-$(FASTSMTP_BUILD) ## write docs/settings.md and docs/metrics.md from the declarations
	$(BIN)/python -m fastsmtp.process.settings_page > docs/settings.md
	$(BIN)/python -m fastsmtp.process.metrics_page > docs/metrics.md

clean: ## remove everything that was built or installed here
	rm -rf --one-file-system build dist *.egg-info .venv* $(RUN) .mypy_cache .ruff_cache .pytest_cache .hypothesis .tools
	find fastsmtp bench -path bench/peers -prune -o \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +
