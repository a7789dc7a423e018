"""What `bench.explain` measures: whether the explanation maps can be believed."""
