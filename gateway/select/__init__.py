"""S3 Select: a query over one object, run by an embedded SQL engine in a process of its own."""
