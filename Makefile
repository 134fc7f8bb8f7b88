# Everything that is to be typed here. `make` alone lists it.
# Works on Debian 12 and 13 with nothing but make and git: what is missing is installed.

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
DEBIAN := 13

.PHONY: help
help: ## list what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: lab
lab: setup ## from nothing to a running pair: boot the quick lab, roll out, print the verdict
	@echo '== The lab: two hosts and a client, without Kea'
	$(PYTHON) -m lab up
	@echo '== The rollout'
	.venv/bin/pyinfra -y inventory.py deploy.py
	@echo '== The verdict'
	.venv/bin/pyinfra -y inventory.py runbook/verify.py
	@echo '== Done: `ssh -F .lab/ssh_config host-1` looks around, `$(PYTHON) -m lab down` ends it'

.PHONY: vagrant
vagrant: box ## the same on virtual machines: build their box, bring them up, roll out, print the verdict
	@echo '== The lab: two virtual machines, without Kea'
	vagrant up
	@echo '== The rollout'
	.venv/bin/pyinfra -y inventory.py deploy.py
	@echo '== The verdict'
	.venv/bin/pyinfra -y inventory.py runbook/verify.py
	@echo '== Done: `vagrant ssh host-1` looks around, `vagrant destroy -f` ends it'

.PHONY: box
box: setup-vagrant ## build the box of the Vagrant lab from a Debian mirror (DEBIAN=12 or 13)
	$(PYTHON) -m lab box --debian $(DEBIAN)

.PHONY: test
test: lint setup setup-vagrant setup-browser ## lint, and one representative of each promise (30 minutes at most)
	@mkdir -p reports
	@echo '== The rollout on stand-in hosts goes on beside the lab, which is idle most of the time'
	@nice -n 19 $(PYTEST) -m 'not slow' tests/rollout >reports/test-rollout.log 2>&1 & beside=$$!; \
	trap 'kill $$beside' INT TERM; \
	$(PYTEST) -m 'not slow' --ignore=tests/rollout; status=$$?; \
	echo '== The rollout on stand-in hosts'; \
	if wait $$beside; then tail -n 1 reports/test-rollout.log; \
	else status=1; cat reports/test-rollout.log; fi; exit $$status

.PHONY: test-unit
test-unit: venv ## the pure logic, in seconds
	$(PYTEST) tests/unit

.PHONY: test-browser
test-browser: venv setup-browser ## the report of a drill, in a real browser
	$(PYTEST) tests/browser

.PHONY: test-rollout
test-rollout: setup ## the rollout's logic, on stand-in hosts
	$(PYTEST) -m 'not slow' tests/rollout

.PHONY: test-lab
test-lab: setup ## the promises that need real hosts, on the quick lab
	$(PYTEST) -m 'not slow' tests/lab

.PHONY: test-vagrant
test-vagrant: setup-vagrant ## the same on the Vagrant lab, from nothing to nothing
	$(PYTEST) -v --durations=0 tests/vagrant

.PHONY: test-all
test-all: lint setup setup-vagrant setup-browser ## the full matrix
	$(PYTEST)

.PHONY: docs
docs: setup ## make the sample outputs of the runbook anew, on a quick lab (15 minutes)
	$(PYTHON) docs/samples.py

.PHONY: lint
lint: venv ## style, types, the hosts' shell, and that arrows go one way
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/shellcheck files/host/*.sh lab/*.sh .ci/run

.PHONY: setup
setup: ## install what the lab needs (Debian packages, and .venv)
	@sh lab/setup.sh lab

.PHONY: setup-vagrant
setup-vagrant: setup ## install what the Vagrant lab needs
	@sh lab/setup.sh vagrant

.PHONY: setup-browser
setup-browser: ## install the browser in which the tests look at reports
	@sh lab/setup.sh browser

.PHONY: venv
venv: ## make .venv
	@sh lab/setup.sh python
