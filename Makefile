# make serve starts the product; make test runs every check. Both install what they need first.
# Settings are environment variables: TRIPLANE_HOST, TRIPLANE_PORT, TRIPLANE_DATA_DIR (docs/operations.md).

.DEFAULT_GOAL := help
.PHONY: help serve test test-engine install web lint bench bench-gateway bench-load bench-web chaos lock clean

help:
	@echo "make serve    install what is needed, start everything, print the address and a sign-in link"
	@echo "make test     install what is needed, run every test"
	@echo "make test-engine URL=… MODEL=… [KIND=…] [KEY=…]   hold an engine of yours to the engines' contract"
	@echo "make lint     style, types and import rules only"
	@echo "make chaos    kill every part at random under load, and check that nothing shown was lost"
	@echo "make bench    measure the planes against the bare engine"
	@echo "make bench-gateway   the gateway beside others of its field (installs them in a cache folder)"
	@echo "make bench-load   the gateway's fairness, overload and soak (fifteen minutes)"
	@echo "make bench-web   the page in Chromium: a long conversation, a long answer (four minutes)"
	@echo "make install  the Python environment in .venv; make web: the page; make lock: pin anew"
	@echo "make clean    remove what make has built (your data stays)"

serve: install
	@scripts/web --optional
	@exec .venv/bin/triplane serve

test: install
	@scripts/test

test-engine: install
	@URL="$(URL)" MODEL="$(MODEL)" KIND="$(KIND)" KEY="$(KEY)" CONTEXT="$(CONTEXT)" LACKS="$(LACKS)" exec scripts/test-engine

lint: install
	@scripts/lint

bench: install
	@exec .venv/bin/python -m bench

bench-gateway: install
	@exec .venv/bin/python -m bench.gateway_peers

bench-load: install
	@.venv/bin/python -m bench.fairness
	@.venv/bin/python -m bench.overload
	@.venv/bin/python -m bench.soak
	@.venv/bin/python -m bench.soak_http

bench-web: install
	@scripts/web
	@exec .venv/bin/python -m bench.web

chaos: install
	@PYTHONPATH=tests exec .venv/bin/python -m chaos

install:
	@scripts/install

web:
	@scripts/web

lock:
	@scripts/lock

clean:
	@scripts/clean
