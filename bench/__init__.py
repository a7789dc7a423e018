"""How fast the service is, beside what it could be and beside its peers; ``bench/README.md`` explains."""
