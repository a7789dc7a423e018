"""Does the service do what its schema says? schemathesis finds out."""
