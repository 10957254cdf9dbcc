"""What an agent costs its host, beside prometheus-node-exporter."""
