"""What `make gpu` runs on a machine with an NVIDIA GPU: versions, tests, benchmarks, profile, sanitizer."""
