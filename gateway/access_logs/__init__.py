"""Server access logs: a line for each request on a bucket that wants one, delivered as objects."""
