# Each target starts from nothing: it makes its environment and does the work.
VENV := .venv
DEMO := build/demo
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard plugins/*/*.cc plugins/*/*.cu plugins/*/*.h plugins/*/*/*)
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo quick test test-long frameworks check conformance docs release install clean

demo: $(DEMO)/.installed
	$(DEMO)/bin/python examples/digits/demo.py

quick: install
	tools/check $(VENV) quick

test check: install
	tools/check $(VENV)

test-long: install
	tools/check $(VENV) long

frameworks: install
	tools/check $(VENV) frameworks

docs: install
	$(VENV)/bin/python -m tools.docs

release: install
	$(VENV)/bin/python -m tools.release

conformance: install
	$(VENV)/bin/python tools/conformance.py

install: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES)
	tools/install $(VENV)

$(DEMO)/.installed: $(SOURCES) $(shell find apa_deploy exporters -name '*.py' -o -name '*.toml' -o -name '*.j2')
	tools/install $(DEMO) plain

clean:
	rm -rf $(VENV) build apa_deploy/lib
