"""The data centre on one machine: image, hosts, switch, balancers, repository, database, faults."""
