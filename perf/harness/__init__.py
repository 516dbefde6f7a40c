"""The harness of `make perf`. Reading order: process, targets, clients, nvme, cells, idle, report, plot, check."""
