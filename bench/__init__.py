"""pytest-benchmark suites. `make test` runs each once, small, as a test; `make bench` times them and prints a table."""
