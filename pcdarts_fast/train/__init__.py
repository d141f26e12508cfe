"""Training a derived network from scratch: settings and one linear loop."""
