"""The file door: kernel requests to namespace and data calls. Knows core; core does not know it."""
