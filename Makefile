# Each target starts from nothing: it makes .venv, installs, and does the work.
VENV := .venv
export ORT_DISABLE_TELEMETRY := 1

.PHONY: demo test test-long check conformance install clean

demo: install
	$(VENV)/bin/python examples/digits/demo.py

test: check

test-long: install
	$(VENV)/bin/pytest -m long

check: install
	tools/check $(VENV)

conformance: install
	$(VENV)/bin/python tools/conformance.py

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt CMakeLists.txt $(wildcard plugins/*/*.cc plugins/*/*.cu plugins/*/*.h plugins/*/*/*)
	tools/install $(VENV)

clean:
	rm -rf $(VENV) build apa_deploy/lib
