"""What workers and gateways report: each event is a metric and a log line at once."""
