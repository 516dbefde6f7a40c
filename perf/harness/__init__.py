"""The harness of `make perf`. Reading order: process, targets, clients, cells, idle, report, plot, check."""
