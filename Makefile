# Six targets, nothing else to learn; `make` alone says what they are.
# Debian's own python3, also where another one comes first on the PATH: it has the modules that lab/packages.txt installs.
PYTHON := /usr/bin/python3
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lab campaign lint soak clean

help:	## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo:	## a data centre on this machine, and version 2.0.0 going out to two stacks under traffic
	@$(PYTHON) lab/setup.py run lab
	@$(PYTHON) -m lab.demo

lab:	## only the data centre: then invoke status, invoke rollout, invoke lab.break ...
	@$(PYTHON) lab/setup.py run lab
	@$(PYTHON) -m lab.lab up

# Most tests wait for something, so several at once; those in the lab two files at a time, each in a data centre of its own.
test:	## all tests; those in the data centre too, where this machine can run it
	@$(PYTHON) lab/setup.py run lab test
ifdef TESTS
	@env -u INVOCATION_ID $(PYTHON) -m pytest $(TESTS)
else
	@env -u INVOCATION_ID $(PYTHON) -m pytest -n 4 --ignore tests/lab
	@env -u INVOCATION_ID $(PYTHON) -m pytest -n 2 --dist loadfile tests/lab
endif

campaign:	## faults x moments of a run, under traffic, judged by one checker (N=12 SEED=3: a varied dozen; AGAIN=1: from anew)
	@$(PYTHON) lab/setup.py run lab
	@$(PYTHON) -m lab.campaign $(if $(N),--number $(N)) --seed $(or $(SEED),1) --labs $(or $(LABS),2) $(if $(AGAIN),--again)

lint:	## what a reviewer should not have to say
	@$(PYTHON) lab/setup.py run lint
	@git ls-files -z '*.py' host/bgdeploy-host host/reserve | xargs -0 $(PYTHON) -m flake8 --isolated --select F,E9,E501,W191,W291,W293 \
	    --max-line-length 130 --per-file-ignores 'tests/*:F811,F401'
	@! git grep -nIE '[[:space:]]+$$' -- '*.rb' '*.sh' '*.yml' || { echo 'blanks at the end of a line'; exit 1; }

# For who changes the rules: as many arbitrary trials as told (make soak N=200000 SEED=1).
soak:
	@$(PYTHON) -m tests.simulate $(or $(N),20000) $(or $(SEED),1)

clean:	## takes every lab of this folder down; removes their files and the cache
	@if [ -d .lab ]; then $(PYTHON) -m lab.lab clear; fi
	@rm -rf .lab .cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
