"""One outside system a file: the only place that opens connections. No rules live here."""
