"""What tests and benchmarks share. Nothing else imports this."""
