"""fxq beside its peers: accuracy, latency, and the time that compiling takes. See README.md."""
